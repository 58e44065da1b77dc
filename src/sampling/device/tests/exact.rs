//! The distribution that parameters ask for, in 64 bits and in the plainest way, and how to compare with it.

use crate::sampling::SamplingParams;

/// What each token's probability should be, in the documented order.
pub fn exact(logits: &[f32], params: &SamplingParams) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|&l| f64::from(l) / f64::from(params.temperature)).collect();
    let kept = typical(&scaled, largest(&scaled, params), params);
    let without = distribution(&scaled, &exclude_top_choices(&scaled, &kept, params));
    let chance = f64::from(params.xtc_probability);
    let with = distribution(&scaled, &kept);
    with.iter().zip(without).map(|(with, without)| (1.0 - chance) * with + chance * without).collect()
}

/// The softmax over the tokens kept; zero elsewhere.
fn distribution(scaled: &[f64], kept: &[usize]) -> Vec<f64> {
    let largest = kept.iter().map(|&i| scaled[i]).fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = kept.iter().map(|&i| (scaled[i] - largest).exp()).sum();
    let mut probabilities = vec![0.0; scaled.len()];
    kept.iter().for_each(|&i| probabilities[i] = (scaled[i] - largest).exp() / total);
    probabilities
}

/// Top-k, top-p, min-p.
fn largest(scaled: &[f64], params: &SamplingParams) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scaled.len()).filter(|&i| scaled[i] > f64::NEG_INFINITY).collect();
    order.sort_by(|&a, &b| scaled[b].total_cmp(&scaled[a]));
    if params.top_k > 0 {
        order.truncate(params.top_k as usize);
    }
    let nucleus = until(&distribution(scaled, &order), &order, params.top_p);
    let weight = |i: usize| (scaled[i] - scaled[order[0]]).exp();
    nucleus.into_iter().filter(|&i| weight(i) >= f64::from(params.min_p)).collect()
}

/// The first of these tokens that come to this probability.
fn until(probabilities: &[f64], order: &[usize], probability: f32) -> Vec<usize> {
    let mut reached = 0.0;
    let short = |&i: &usize| {
        let needed = reached < f64::from(probability);
        reached += probabilities[i];
        needed || probability >= 1.0
    };
    order.iter().copied().take_while(short).collect()
}

fn typical(scaled: &[f64], kept: Vec<usize>, params: &SamplingParams) -> Vec<usize> {
    let p = distribution(scaled, &kept);
    let entropy: f64 = kept.iter().map(|&i| -p[i] * p[i].ln()).sum();
    let mut order = kept;
    order.sort_by(|&a, &b| (-p[a].ln() - entropy).abs().total_cmp(&(-p[b].ln() - entropy).abs()));
    until(&p, &order, params.typical_p)
}

fn exclude_top_choices(scaled: &[f64], kept: &[usize], params: &SamplingParams) -> Vec<usize> {
    let p = distribution(scaled, kept);
    let top = kept.iter().copied().filter(|&i| p[i] >= f64::from(params.xtc_threshold));
    let Some(least) = top.min_by(|&a, &b| p[a].total_cmp(&p[b])) else { return kept.to_vec() };
    kept.iter().copied().filter(|&i| p[i] <= p[least]).collect()
}

/// Chi-squared of the counts, and its degrees of freedom. Infinite if a token was drawn that cannot be.
pub fn chi_squared(counts: &[usize], probabilities: &[f64]) -> (f64, usize) {
    let draws: usize = counts.iter().sum();
    let mut sum = 0.0;
    let mut cells = 0;
    for (&count, &p) in counts.iter().zip(probabilities) {
        if p == 0.0 {
            sum += if count == 0 { 0.0 } else { f64::INFINITY };
            continue;
        }
        let expected = p * draws as f64;
        sum += (count as f64 - expected).powi(2) / expected;
        cells += 1;
    }
    (sum, cells - 1)
}

/// The value chi-squared stays below with probability 0.999 (Wilson and Hilferty 1931).
pub fn limit(freedom: usize) -> f64 {
    // A single cell always fits.
    let k = freedom.max(1) as f64;
    k * (1.0 - 2.0 / (9.0 * k) + 3.09 * (2.0 / (9.0 * k)).sqrt()).powi(3)
}
