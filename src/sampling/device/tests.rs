//! Draws compared with the exact distribution by Pearson's chi-squared test, with fixed seeds.

mod adjusted;
mod exact;

use exact::{chi_squared, exact, limit};

use super::*;
use crate::sampling::{Penalties, SamplingParams};

const LOGITS: [f32; 10] = [0.3, -1.0, 2.2, 2.0, 0.0, 1.1, -0.5, 1.7, -3.0, 0.9];
const DRAWS: usize = 20_000;

/// No slot has sampled anything.
fn nothing() -> Array {
    Array::from_slice(&[0u32], &[1])
}

fn tokens(logits: &Array, rows: &[Choice<'_>], last: &Array) -> Vec<u32> {
    sample(logits, rows, last).unwrap().to_vec_exact::<u32>().unwrap()
}

fn choice(params: &SamplingParams, n: u32) -> Choice<'_> {
    Choice::new(RowSampling::new(params), n)
}

/// How often each token is drawn, by parameters alone.
fn count(params: &SamplingParams) -> Vec<usize> {
    count_how(RowSampling::new(params), None, None)
}

/// The same for any row, with the token that its slot sampled last.
fn count_how(how: RowSampling<'_>, on_device: Option<u32>, allowed: Option<&[u32]>) -> Vec<usize> {
    let rows = 100;
    let logits = Array::from_slice(&LOGITS.repeat(rows), &[rows as i32, LOGITS.len() as i32]);
    let mut counts = vec![0; LOGITS.len()];
    for batch in 0..DRAWS / rows {
        let choice = |row| Choice {
            on_device: on_device.map(|_| 1),
            allowed,
            ..Choice::new(how, (batch * rows + row) as u32)
        };
        let choices: Vec<_> = (0..rows).map(choice).collect();
        let last = Array::from_slice(&[9, on_device.unwrap_or(9)], &[2]);
        tokens(&logits, &choices, &last).iter().for_each(|&token| counts[token as usize] += 1);
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
        SamplingParams { typical_p: 0.5, ..plain(1.0) },
        SamplingParams { typical_p: 0.9, ..plain(0.6) },
        SamplingParams { top_k: 8, top_p: 0.9, typical_p: 0.7, ..plain(1.5) },
        SamplingParams { xtc_probability: 1.0, xtc_threshold: 0.1, ..plain(1.0) },
        SamplingParams { xtc_probability: 0.4, xtc_threshold: 0.2, ..plain(1.0) },
        SamplingParams { xtc_probability: 0.7, xtc_threshold: 0.5, ..plain(1.0) },
        SamplingParams { xtc_probability: 1.0, xtc_threshold: 0.0, min_p: 0.2, ..plain(1.0) },
        SamplingParams { top_k: 7, typical_p: 0.8, xtc_probability: 0.5, ..plain(0.9) },
    ];
    for params in cases {
        let probabilities = exact(&LOGITS, &params);
        let (sum, freedom) = chi_squared(&count(&params), &probabilities);
        assert!(sum < limit(freedom), "{params:?}: {sum} with {freedom} degrees of freedom");
    }
}

/// A setting that did nothing, or a little too much, would not pass.
#[test]
fn the_test_would_notice_another_distribution() {
    crate::mlx::init().unwrap();
    let xtc =
        |xtc_probability, xtc_threshold| SamplingParams { xtc_probability, xtc_threshold, ..plain(1.0) };
    let pairs = [
        (plain(1.0), plain(1.1)),
        (SamplingParams { top_k: 3, ..plain(1.0) }, SamplingParams { top_k: 4, ..plain(1.0) }),
        (SamplingParams { top_k: 4, ..plain(1.0) }, SamplingParams { top_k: 3, ..plain(1.0) }),
        (SamplingParams { top_p: 0.7, ..plain(1.0) }, SamplingParams { top_p: 0.8, ..plain(1.0) }),
        (SamplingParams { min_p: 0.2, ..plain(1.0) }, SamplingParams { min_p: 0.3, ..plain(1.0) }),
        (SamplingParams { typical_p: 0.5, ..plain(1.0) }, SamplingParams { typical_p: 0.7, ..plain(1.0) }),
        (SamplingParams { typical_p: 0.5, ..plain(1.0) }, SamplingParams { top_p: 0.5, ..plain(1.0) }),
        (xtc(0.4, 0.2), xtc(0.45, 0.2)),
        (xtc(1.0, 0.1), xtc(1.0, 0.2)),
    ];
    for (own, other) in pairs {
        let (sum, freedom) = chi_squared(&count(&own), &exact(&LOGITS, &other));
        assert!(sum > limit(freedom), "{own:?} passes for {other:?}: {sum}");
    }
}

#[test]
fn only_rows_that_need_it_sort() {
    let kind = |params: SamplingParams| Kind::of(&choice(&params, 0), 1000);
    assert_eq!(kind(SamplingParams { top_k: 7, top_p: 0.5, ..plain(0.0) }), Kind::Greedy);
    assert_eq!(kind(plain(1.0)), Kind::Plain);
    assert_eq!(kind(SamplingParams { min_p: 0.1, typical_p: 0.5, ..plain(1.0) }), Kind::Plain);
    assert_eq!(kind(SamplingParams { top_k: 1000, ..plain(1.0) }), Kind::Plain);
    assert_eq!(kind(SamplingParams { top_k: 50, top_p: 0.9, ..plain(1.0) }), Kind::Largest(64));
    assert_eq!(kind(SamplingParams { top_p: 0.9, ..plain(1.0) }), Kind::Largest(1000));
    // Greedy rows neither sort nor draw, whatever else they ask for.
    let params = SamplingParams { typical_p: 0.5, xtc_probability: 1.0, ..plain(0.0) };
    let class = Class::of(&choice(&params, 0), 1000);
    assert!(!class.adjusted && !class.typical && !class.xtc);
}

#[test]
fn seeds_give_different_streams() {
    crate::mlx::init().unwrap();
    let logits = Array::from_slice(&LOGITS, &[1, LOGITS.len() as i32]);
    let stream = |seed: u64| -> Vec<u32> {
        let params = SamplingParams { seed, ..plain(2.0) };
        let draw = |n| tokens(&logits, &[choice(&params, n)], &nothing())[0];
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
        // One token has nearly all of the probability, and is the most typical.
        SamplingParams { typical_p: 0.5, ..plain(0.02) },
        plain(1e-4),
    ];
    for params in cases {
        for n in 0..20 {
            assert_eq!(tokens(&logits, &[choice(&params, n)], &nothing()), [2], "{params:?}");
        }
    }
}

/// Every kind of row there is.
fn kinds() -> Vec<SamplingParams> {
    let repeated = Penalties { repetition: 1.5, ..Penalties::default() };
    let answered = Penalties { presence: 0.5, frequency: 0.3, window: 3, ..Penalties::default() };
    vec![
        SamplingParams::default(),
        plain(1.0),
        SamplingParams { min_p: 0.3, ..plain(1.0) },
        SamplingParams { top_k: 7, ..plain(1.0) },
        SamplingParams { top_k: 200, top_p: 0.9, ..plain(1.3) },
        SamplingParams { top_p: 0.5, ..plain(0.9) },
        SamplingParams { top_k: 5000, ..plain(1.0) },
        SamplingParams { typical_p: 0.4, ..plain(1.0) },
        SamplingParams { xtc_probability: 0.5, xtc_threshold: 0.001, ..plain(1.0) },
        SamplingParams { penalties: repeated, ..SamplingParams::default() },
        SamplingParams { penalties: answered, logit_bias: vec![(5, 1.0), (77, -2.0)], ..plain(1.0) },
        SamplingParams { penalties: repeated, top_k: 9, ..plain(0.8) },
        SamplingParams { logit_bias: vec![(1, f32::NEG_INFINITY)], typical_p: 0.9, ..plain(1.0) },
    ]
}

#[test]
fn a_row_does_not_notice_its_neighbours() {
    crate::mlx::init().unwrap();
    let (vocab, rows) = (1000, 3 * kinds().len());
    let params: Vec<SamplingParams> = kinds()
        .into_iter()
        .cycle()
        .zip(0..rows as u64)
        .map(|(p, seed)| SamplingParams { seed, ..p })
        .collect();
    let values: Vec<f32> =
        (0..rows * vocab).map(|i| (i as f32 * 0.7131).sin() * 4.0 + (i as f32 * 0.0137).cos()).collect();
    let histories: Vec<Vec<u32>> =
        (0..rows as u32).map(|i| (0..i % 7).map(|t| (t * t * 31 + i) % 1000).collect()).collect();
    let mask: Vec<u32> = (0..vocab.div_ceil(32) as u32).map(|word| word.wrapping_mul(0x9e37_79b9)).collect();
    let last: Vec<u32> = (0..rows as u32).map(|i| i * 17 % 1000).collect();
    let last = Array::from_slice(&last, &[rows as i32]);
    let choices: Vec<Choice<'_>> = (0..rows)
        .map(|i| {
            let how =
                RowSampling { tokens: &histories[i], prompt_len: i % 3, ..RowSampling::new(&params[i]) };
            let on_device = (i % 2 == 0).then_some(i as u32);
            let allowed = (i % 5 == 4).then_some(mask.as_slice());
            Choice { on_device, allowed, ..Choice::new(how, i as u32) }
        })
        .collect();

    let all = Array::from_slice(&values, &[rows as i32, vocab as i32]);
    let together = tokens(&all, &choices, &last);
    for (i, own) in choices.iter().enumerate() {
        let logits = Array::from_slice(&values[i * vocab..(i + 1) * vocab], &[1, vocab as i32]);
        assert_eq!(tokens(&logits, &[*own], &last), [together[i]], "row {i}: {:?}", own.how.params);
    }
    let some: Vec<usize> = vec![20, 3, 7, 1, 5, 36, 9];
    let part = all.take_axis(indices(&some).unwrap(), 0).unwrap();
    let choices: Vec<_> = some.iter().map(|&i| choices[i]).collect();
    assert_eq!(tokens(&part, &choices, &last), some.iter().map(|&i| together[i]).collect::<Vec<_>>());
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
