//! Draws compared with the exact distribution by Pearson's chi-squared test, with fixed seeds.

use super::*;

const LOGITS: [f32; 10] = [0.3, -1.0, 2.2, 2.0, 0.0, 1.1, -0.5, 1.7, -3.0, 0.9];
const DRAWS: usize = 20_000;

/// What each token's probability should be, in the documented order: temperature, top-k, top-p, min-p.
fn exact(logits: &[f32], params: &SamplingParams) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|&l| f64::from(l) / f64::from(params.temperature)).collect();
    let mut order: Vec<usize> = (0..scaled.len()).collect();
    order.sort_by(|&a, &b| scaled[b].total_cmp(&scaled[a]));
    if params.top_k > 0 {
        order.truncate(params.top_k as usize);
    }
    let weight = |i: usize| (scaled[i] - scaled[order[0]]).exp();
    let total: f64 = order.iter().map(|&i| weight(i)).sum();
    let mut reached = 0.0;
    let nucleus: Vec<usize> = order
        .iter()
        .copied()
        .take_while(|&i| {
            let needed = reached < f64::from(params.top_p);
            reached += weight(i) / total;
            needed || params.top_p >= 1.0
        })
        .collect();
    let kept: Vec<usize> = nucleus.into_iter().filter(|&i| weight(i) >= f64::from(params.min_p)).collect();
    let total: f64 = kept.iter().map(|&i| weight(i)).sum();
    let mut probabilities = vec![0.0; logits.len()];
    kept.iter().for_each(|&i| probabilities[i] = weight(i) / total);
    probabilities
}

/// Chi-squared of the counts, and its degrees of freedom. A token that cannot be drawn must not be.
fn chi_squared(counts: &[usize], probabilities: &[f64]) -> (f64, usize) {
    let draws: usize = counts.iter().sum();
    let mut sum = 0.0;
    let mut cells = 0;
    for (i, (&count, &p)) in counts.iter().zip(probabilities).enumerate() {
        if p == 0.0 {
            assert_eq!(count, 0, "token {i} was filtered out and drawn");
            continue;
        }
        let expected = p * draws as f64;
        sum += (count as f64 - expected).powi(2) / expected;
        cells += 1;
    }
    (sum, cells - 1)
}

/// The value chi-squared stays below with probability 0.999 (Wilson and Hilferty 1931).
fn limit(freedom: usize) -> f64 {
    let k = freedom as f64;
    k * (1.0 - 2.0 / (9.0 * k) + 3.09 * (2.0 / (9.0 * k)).sqrt()).powi(3)
}

fn count(params: &SamplingParams) -> Vec<usize> {
    let rows = 100;
    let logits = Array::from_slice(&LOGITS.repeat(rows), &[rows as i32, LOGITS.len() as i32]);
    let mut counts = vec![0; LOGITS.len()];
    for batch in 0..DRAWS / rows {
        let how: Vec<_> = (0..rows).map(|row| (params, (batch * rows + row) as u32)).collect();
        let tokens = sample(&logits, &how).unwrap().to_vec_exact::<u32>().unwrap();
        tokens.iter().for_each(|&token| counts[token as usize] += 1);
    }
    counts
}

fn plain(temperature: f32) -> SamplingParams {
    SamplingParams { temperature, seed: 11, ..SamplingParams::default() }
}

#[test]
fn draws_follow_the_exact_distribution() {
    crate::mlx::init().unwrap();
    let cases = [
        plain(1.0),
        plain(0.4),
        plain(3.0),
        SamplingParams { top_k: 3, ..plain(1.0) },
        SamplingParams { top_k: 9, ..plain(2.0) },
        SamplingParams { top_p: 0.7, ..plain(1.0) },
        SamplingParams { top_p: 0.95, ..plain(1.5) },
        SamplingParams { min_p: 0.2, ..plain(1.0) },
        SamplingParams { top_k: 6, top_p: 0.8, min_p: 0.1, ..plain(1.2) },
    ];
    for params in cases {
        let probabilities = exact(&LOGITS, &params);
        let (sum, freedom) = chi_squared(&count(&params), &probabilities);
        assert!(sum < limit(freedom), "{params:?}: {sum} with {freedom} degrees of freedom");
    }
}

#[test]
fn the_test_would_notice_another_distribution() {
    crate::mlx::init().unwrap();
    let counts = count(&plain(1.0));
    let (sum, freedom) = chi_squared(&counts, &exact(&LOGITS, &plain(1.1)));
    assert!(sum > limit(freedom), "temperature 1.0 passes for 1.1: {sum}");
}

#[test]
fn seeds_give_different_streams() {
    crate::mlx::init().unwrap();
    let logits = Array::from_slice(&LOGITS, &[1, LOGITS.len() as i32]);
    let stream = |seed: u64| -> Vec<u32> {
        let params = SamplingParams { seed, ..plain(2.0) };
        let draw = |n| sample(&logits, &[(&params, n)]).unwrap().to_vec_exact::<u32>().unwrap()[0];
        (0..40).map(draw).collect()
    };
    assert_eq!(stream(1), stream(1));
    assert_ne!(stream(1), stream(2));
    // Neighbouring seeds are not the same stream shifted.
    assert_ne!(stream(1)[1..], stream(2)[..39]);
    assert_ne!(stream(2)[1..], stream(1)[..39]);
}

#[test]
fn extremes_choose_the_largest() {
    crate::mlx::init().unwrap();
    let logits = Array::from_slice(&LOGITS, &[1, LOGITS.len() as i32]);
    let cases = [
        SamplingParams::default(),
        SamplingParams { top_k: 1, ..plain(5.0) },
        SamplingParams { top_p: 1e-6, ..plain(5.0) },
        SamplingParams { min_p: 1.0, ..plain(5.0) },
        plain(1e-4),
    ];
    for params in cases {
        for n in 0..20 {
            let token = sample(&logits, &[(&params, n)]).unwrap().to_vec_exact::<u32>().unwrap();
            assert_eq!(token, [2], "{params:?}");
        }
    }
}

#[test]
fn a_row_does_not_notice_its_neighbours() {
    crate::mlx::init().unwrap();
    let vocab = 1000;
    let kinds = [
        SamplingParams::default(),
        plain(1.0),
        SamplingParams { min_p: 0.3, ..plain(1.0) },
        SamplingParams { top_k: 7, ..plain(1.0) },
        SamplingParams { top_k: 200, top_p: 0.9, ..plain(1.3) },
        SamplingParams { top_p: 0.5, ..plain(0.9) },
        SamplingParams { top_k: 5000, ..plain(1.0) },
    ];
    let rows: Vec<SamplingParams> =
        (0..28).map(|i| SamplingParams { seed: i, ..kinds[i as usize % kinds.len()].clone() }).collect();
    let values: Vec<f32> = (0..rows.len() * vocab)
        .map(|i| (i as f32 * 0.7131).sin() * 4.0 + (i as f32 * 0.0137).cos())
        .collect();
    let all = Array::from_slice(&values, &[rows.len() as i32, vocab as i32]);
    let how: Vec<_> = rows.iter().enumerate().map(|(i, params)| (params, i as u32)).collect();
    let together = sample(&all, &how).unwrap().to_vec_exact::<u32>().unwrap();
    for (i, pair) in how.iter().enumerate() {
        let own = Array::from_slice(&values[i * vocab..(i + 1) * vocab], &[1, vocab as i32]);
        let alone = sample(&own, &[*pair]).unwrap().to_vec_exact::<u32>().unwrap();
        assert_eq!(alone, [together[i]], "row {i}: {:?}", pair.0);
    }
    let some: Vec<usize> = vec![20, 3, 7, 1, 5];
    let part = all.take_axis(indices(&some), 0).unwrap();
    let how: Vec<_> = some.iter().map(|&i| how[i]).collect();
    let tokens = sample(&part, &how).unwrap().to_vec_exact::<u32>().unwrap();
    assert_eq!(tokens, some.iter().map(|&i| together[i]).collect::<Vec<_>>());
}

#[test]
fn uniform_numbers_stay_below_one() {
    let mut largest = 0f32;
    let mut sum = 0.0;
    for n in 0..200_000 {
        let u = uniform(99, n);
        assert!((0.0..1.0).contains(&u));
        largest = largest.max(u);
        sum += f64::from(u);
    }
    assert!(largest > 0.9999 && (sum / 200_000.0 - 0.5).abs() < 0.005);
}
