//! Bias, bans, penalties and grammars against the same arithmetic on the host, and log-probabilities.

use super::*;
use crate::sampling::device::logprobs::DeviceLogprobs;

/// The logits after bias and penalties, as documented; `history` ends with the token still on the device.
fn adjusted(params: &SamplingParams, history: &[u32], prompt_len: usize) -> Vec<f32> {
    let mut logits = LOGITS.to_vec();
    params.logit_bias.iter().for_each(|&(token, bias)| logits[token as usize] += bias);
    let Penalties { repetition, presence, frequency, window } = params.penalties;
    let first = if window == 0 { 0 } else { history.len().saturating_sub(window as usize) };
    for (token, logit) in logits.iter_mut().enumerate() {
        let is_token = |from: usize| history[from..].iter().filter(|&&t| t as usize == token).count();
        if is_token(first) > 0 {
            *logit = if *logit > 0.0 { *logit / repetition } else { *logit * repetition };
        }
        let answered = is_token(first.max(prompt_len));
        *logit -= frequency * answered as f32;
        if answered > 0 {
            *logit -= presence;
        }
    }
    logits
}

fn penalized(repetition: f32, presence: f32, frequency: f32, window: u32) -> SamplingParams {
    SamplingParams { penalties: Penalties { repetition, presence, frequency, window }, ..plain(1.0) }
}

#[test]
fn bias_and_penalties_follow_the_exact_distribution() {
    crate::mlx::init().unwrap();
    let history = [2, 2, 7, 0, 3, 3, 1, 2, 3, 8, 8];
    let cases = [
        SamplingParams { logit_bias: vec![(0, 2.0), (2, -1.5), (3, f32::NEG_INFINITY)], ..plain(1.0) },
        penalized(1.8, 0.0, 0.0, 0),
        penalized(0.6, 0.0, 0.0, 4),
        penalized(1.0, 0.7, 0.0, 0),
        penalized(1.0, 0.0, 0.4, 0),
        penalized(1.0, 0.0, -0.4, 3),
        SamplingParams {
            logit_bias: vec![(9, 1.0)],
            top_k: 5,
            temperature: 1.4,
            ..penalized(1.3, 0.2, 0.1, 6)
        },
    ];
    for params in cases {
        let probabilities = exact(&adjusted(&params, &history, 4), &params);
        // Every token known to the host, and the last one still on the device.
        for on_device in [false, true] {
            let known = &history[..history.len() - usize::from(on_device)];
            let how = RowSampling { tokens: known, prompt_len: 4, ..RowSampling::new(&params) };
            let counts = count_how(how, on_device.then_some(8), None);
            let (sum, freedom) = chi_squared(&counts, &probabilities);
            assert!(sum < limit(freedom), "{params:?}: {sum} with {freedom} degrees of freedom");
        }
    }
}

#[test]
fn the_test_would_notice_other_penalties() {
    crate::mlx::init().unwrap();
    let history = [2, 2, 7, 0, 3, 3, 1, 2, 3, 8, 8];
    let bias = |bias| SamplingParams { logit_bias: vec![(0, bias)], ..plain(1.0) };
    let pairs = [
        (bias(2.0), bias(1.9)),
        (penalized(1.8, 0.0, 0.0, 0), penalized(1.6, 0.0, 0.0, 0)),
        (penalized(1.8, 0.0, 0.0, 4), penalized(1.8, 0.0, 0.0, 3)),
        (penalized(1.0, 0.7, 0.0, 0), penalized(1.0, 0.6, 0.0, 0)),
        (penalized(1.0, 0.0, 0.4, 0), penalized(1.0, 0.4, 0.0, 0)),
        (penalized(1.0, 0.0, 0.4, 0), penalized(1.0, 0.0, 0.5, 0)),
    ];
    for (own, other) in pairs {
        let how = RowSampling { tokens: &history, prompt_len: 4, ..RowSampling::new(&own) };
        let expected = exact(&adjusted(&other, &history, 4), &other);
        let (sum, freedom) = chi_squared(&count_how(how, None, None), &expected);
        assert!(sum > limit(freedom), "{own:?} passes for {other:?}: {sum}");
    }
}

#[test]
fn greedy_rows_take_the_largest_logit_left() {
    crate::mlx::init().unwrap();
    let logits = Array::from_slice(&LOGITS, &[1, LOGITS.len() as i32]);
    let greedy = SamplingParams::default();
    let choose = |row: Choice<'_>| tokens(&logits, &[row], &nothing())[0];
    let bans = RowSampling { banned: &[2, 3], ..RowSampling::new(&greedy) };
    assert_eq!(choose(Choice::new(bans, 0)), 7);
    let frequency = SamplingParams { temperature: 0.0, ..penalized(1.0, 0.0, 1.0, 0) };
    let often = RowSampling { tokens: &[5, 2, 3, 7], prompt_len: 1, ..RowSampling::new(&frequency) };
    // 2.2, 2.0 and 1.7 less 1 each, for 5 is in the prompt alone.
    assert_eq!(choose(Choice::new(often, 3)), 2);
    let once_more = RowSampling { tokens: &[5, 2, 3, 7, 2], ..often };
    assert_eq!(choose(Choice::new(once_more, 4)), 5);
}

#[test]
fn a_grammar_has_the_last_word() {
    crate::mlx::init().unwrap();
    let mask: &[u32] = &[0b10_0001_0010];
    let left = |logits: &[f32]| -> Vec<f32> {
        logits
            .iter()
            .enumerate()
            .map(|(i, &l)| if mask[0] >> i & 1 == 1 { l } else { f32::NEG_INFINITY })
            .collect()
    };
    for params in [
        plain(1.0),
        SamplingParams { top_k: 2, ..plain(0.7) },
        SamplingParams { typical_p: 0.6, ..plain(1.0) },
        SamplingParams { logit_bias: vec![(4, 3.0), (2, 50.0)], min_p: 0.01, ..plain(1.0) },
        // A ban yields to it: the engine has taken out of the mask what can be done without.
        SamplingParams { logit_bias: vec![(4, f32::NEG_INFINITY)], ..plain(1.0) },
    ] {
        let finite = params.logit_bias.iter().copied().filter(|(_, bias)| bias.is_finite()).collect();
        let biased = adjusted(&SamplingParams { logit_bias: finite, ..params.clone() }, &[], 0);
        let counts = count_how(RowSampling::new(&params), None, Some(mask));
        let (sum, freedom) = chi_squared(&counts, &exact(&left(&biased), &params));
        assert!(sum < limit(freedom), "{params:?}: {sum} with {freedom} degrees of freedom");
    }
    let greedy = SamplingParams::default();
    let short = Choice { allowed: Some(&[]), ..choice(&greedy, 0) };
    let logits = Array::from_slice(&LOGITS, &[1, LOGITS.len() as i32]);
    assert_eq!(sample(&logits, &[short], &nothing()).unwrap_err().status(), crate::error::Status::Internal);
}

#[test]
fn log_probabilities_are_the_models_own() {
    crate::mlx::init().unwrap();
    let total: f64 = LOGITS.iter().map(|&l| f64::from(l).exp()).sum();
    let of = |token: u32| f64::from(LOGITS[token as usize]) - total.ln();
    let logits = Array::from_slice(&LOGITS.repeat(3), &[3, LOGITS.len() as i32]);
    let tokens = Array::from_slice(&[8u32, 2, 0], &[3]);
    let values = DeviceLogprobs::of_rows(&logits, &tokens, &[0, 2], true).unwrap();
    let read = values.read([3, 0].into_iter()).unwrap();
    assert!((f64::from(read[0].logprob) - of(8)).abs() < 1e-5, "{read:?}");
    assert!((f64::from(read[1].logprob) - of(0)).abs() < 1e-5, "{read:?}");
    let top: Vec<u32> = read[0].top.iter().map(|(token, _)| *token).collect();
    assert_eq!(top, [2, 3, 7]);
    assert!(read[0].top.iter().all(|&(token, value)| (f64::from(value) - of(token)).abs() < 1e-5));
    assert!(read[1].top.is_empty());
    let alone = DeviceLogprobs::new(&logits, &tokens, false).unwrap().read([0, 0, 0].into_iter()).unwrap();
    assert_eq!(alone[0].logprob, read[0].logprob);
}
