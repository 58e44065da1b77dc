//! Sampling settings through the engine, on the mock model: what is refused, what is banned, what comes with tokens.
#![cfg(not(feature = "mlx"))]

mod harness;

use harness::{Collector, End, TestModel, create, run_one, tokens};
use quire::engine::{EngineOptions, EventKind, FinishReason, Prompt, RequestOptions};
use quire::error::Status;
use quire::sampling::{LogprobRequest, Penalties, SamplingParams, TokenLogprobs};
use serde_json::json;

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let model = TestModel::new(json!({}));
    let engine = model.engine();
    let with = |sampling: SamplingParams| RequestOptions { sampling, ..tokens(&[1], 4) };
    let plain = SamplingParams::default;
    let frequency = Penalties { frequency: f32::NAN, ..Penalties::default() };
    let asks = |chosen, top| LogprobRequest { chosen, top, prompt: false };
    let stop_all: Vec<u32> = (0..258).collect();
    let bad = [
        (with(SamplingParams { logit_bias: vec![(3, 0.0), (258, 1.0)], ..plain() }), "logit_bias[1]"),
        (with(SamplingParams { logit_bias: vec![(3, f32::NAN)], ..plain() }), "logit_bias[0]"),
        (with(SamplingParams { penalties: frequency, ..plain() }), "frequency_penalty"),
        (with(SamplingParams { typical_p: 1.5, ..plain() }), "typical_p"),
        (with(SamplingParams { xtc_threshold: -0.1, ..plain() }), "xtc_threshold"),
        (RequestOptions { min_tokens: 5, ..tokens(&[1], 4) }, "min_tokens is 5"),
        (
            RequestOptions { min_tokens: 1, stop_tokens: stop_all, ..tokens(&[1], 4) },
            "min_tokens leaves nothing",
        ),
        (RequestOptions { logprobs: asks(true, 21), ..tokens(&[1], 4) }, "top_logprobs"),
        (RequestOptions { logprobs: asks(false, 2), ..tokens(&[1], 4) }, "top_logprobs"),
    ];
    for (request, names) in bad {
        let error = engine.submit(request).unwrap_err();
        assert_eq!(error.status(), Status::InvalidArgument);
        assert!(error.message().contains(names), "{error} should name {names}");
    }
    assert_eq!(run_one(&engine, tokens(&[1], 4)).tokens.len(), 4);
}

#[test]
fn an_answer_does_not_end_before_its_least_length() {
    let model = TestModel::new(json!({ "eos_every": 3 }));
    let engine = model.engine();
    for i in 0..20 {
        let prompt = || RequestOptions { ignore_eos: false, ..tokens(&[i, 8], 60) };
        let first = run_one(&engine, tokens(&[i, 8], 1)).tokens[0];
        let answer =
            run_one(&engine, RequestOptions { min_tokens: 25, stop_tokens: vec![first], ..prompt() });
        // Ended by the first of these after that many tokens, or not at all.
        assert!(answer.tokens.len() >= 25, "{answer:?}");
        assert!(!answer.tokens.contains(&256) && !answer.tokens[..25].contains(&first));
        let short = run_one(&engine, prompt());
        assert!(short.tokens.len() < 60, "{short:?}");
        assert_eq!(short.end, End::Finished(FinishReason::EndOfSequence(256)));
    }
}

#[test]
fn a_banned_token_does_not_come() {
    let model = TestModel::new(json!({}));
    let engine = model.engine();
    let request = |logit_bias| RequestOptions {
        sampling: SamplingParams { logit_bias, ..SamplingParams::default() },
        ..tokens(&[4, 2], 200)
    };
    let free = run_one(&engine, request(vec![]));
    let banned: Vec<_> = free.tokens.iter().take(50).map(|&token| (token, f32::NEG_INFINITY)).collect();
    let mut once = banned.clone();
    once.sort_by_key(|(token, _)| *token);
    once.dedup();
    let other = run_one(&engine, request(once));
    assert_eq!(other.tokens.len(), 200);
    assert!(other.tokens.iter().all(|token| banned.iter().all(|(ban, _)| ban != token)));
}

#[test]
fn log_probabilities_come_one_for_each_token_when_asked_for() {
    let model = TestModel::new(json!({}));
    let engine = model.engine();
    let ask = |chosen, top| RequestOptions {
        logprobs: LogprobRequest { chosen, top, prompt: false },
        ..RequestOptions { max_tokens: 30, ..RequestOptions::new(Prompt::Tokens(vec![3, 1])) }
    };
    let mut ids = vec![];
    for (chosen, top) in [(false, 0), (true, 0), (true, 3)] {
        ids.push((engine.submit(ask(chosen, top)).unwrap(), chosen, top));
    }
    let mut collector = Collector::default();
    while collector.answers.len() < ids.len() {
        let event = engine.wait(None).unwrap();
        let (_, chosen, top) = *ids.iter().find(|(id, ..)| *id == event.request).unwrap();
        if let EventKind::Delta(delta) = &event.kind {
            assert_eq!(delta.logprobs.len(), if chosen { delta.tokens.len() } else { 0 });
            for (&token, TokenLogprobs { logprob, top: found }) in delta.tokens.iter().zip(&delta.logprobs) {
                // As the mock has it.
                assert_eq!(*logprob, -1.0 - token as f32);
                assert_eq!(found[..], [(0, -1.0), (1, -2.0), (2, -3.0)][..top as usize]);
            }
        }
        collector.add(event);
    }
}

/// Bytes of a page of the mock model.
const BLOCK_BYTES: u64 = 512;

#[test]
fn log_probabilities_of_the_prompt_come_once_and_whole() {
    let model = TestModel::new(json!({}));
    // Prompts in chunks, and pages for one or two of them.
    let options = EngineOptions { max_sequences: 4, max_step_tokens: 32, ..model.options() };
    let engine = create(EngineOptions { cache_bytes: Some(17 * BLOCK_BYTES), ..options });
    let prompt: Vec<u32> = (0..100).map(|t| t * 7 % 250).collect();
    let logprobs = LogprobRequest { chosen: false, top: 2, prompt: true };
    let request = || RequestOptions { logprobs, ..tokens(&prompt, 60) };
    run_one(&engine, tokens(&prompt, 2));
    let ids: Vec<_> = (0..4).map(|_| engine.submit(request()).unwrap()).collect();
    let mut found = vec![Vec::new(); ids.len()];
    let mut collector = Collector::default();
    while collector.answers.len() < ids.len() {
        let event = engine.wait(None).unwrap();
        if let EventKind::Delta(delta) = &event.kind {
            let at = ids.iter().position(|id| *id == event.request).unwrap();
            assert!(delta.prompt_logprobs.is_empty() || found[at].is_empty());
            found[at].extend(delta.prompt_logprobs.clone());
        }
        collector.add(event);
    }
    assert!(engine.statistics().preemptions > 0, "{:?}", engine.statistics());
    for found in found {
        // As the mock has it.
        let expected =
            |token: &u32| TokenLogprobs { logprob: -1.0 - *token as f32, top: vec![(0, -1.0), (1, -2.0)] };
        assert_eq!(found, prompt[1..].iter().map(expected).collect::<Vec<_>>());
    }
}

#[test]
fn several_answers_share_their_prompt_and_nothing_else() {
    let model = TestModel::new(json!({}));
    let engine = model.engine();
    let prompt: Vec<u32> = (0..150).map(|t| t * 11 % 250).collect();
    let sampling = SamplingParams { temperature: 1.0, seed: 77, ..SamplingParams::default() };
    let request = |n| RequestOptions { n, sampling: sampling.clone(), ..tokens(&prompt, 20) };
    let alone = run_one(&model.engine(), request(1));
    let first = engine.submit(request(4)).unwrap();
    let mut collector = Collector::default();
    while collector.answers.len() < 4 {
        let event = engine.wait(None).unwrap();
        assert_eq!(u64::from(event.index), event.request - first);
        collector.add(event);
    }
    let answers: Vec<_> = (first..first + 4).map(|id| collector.answers[&id].clone()).collect();
    assert_eq!(answers[0].tokens, alone.tokens);
    for (i, answer) in answers.iter().enumerate() {
        let seed = sampling.seed_of(i as u32);
        let own = RequestOptions { sampling: SamplingParams { seed, ..sampling.clone() }, ..request(1) };
        assert_eq!(run_one(&model.engine(), own).tokens, answer.tokens, "answer {i}");
        assert!(answers[..i].iter().all(|other| other.tokens != answer.tokens));
        // All but the last few tokens of the prompt: the first answer computes it for all.
        assert!(i == 0 || answer.cached_tokens >= 144, "{answer:?}");
    }
    let statistics = engine.statistics();
    assert!(statistics.blocks_shared >= 3 * 9, "{statistics:?}");
    for (n, names) in [(0, "n is 0"), (129, "n is 129")] {
        assert!(engine.submit(request(n)).unwrap_err().message().contains(names));
    }
    let greedy = RequestOptions { n: 2, ..tokens(&prompt, 5) };
    assert!(engine.submit(greedy).unwrap_err().message().contains("temperature is 0"));
}

#[test]
fn one_of_several_answers_can_be_cancelled() {
    let engine = TestModel::new(json!({ "step_micros": 1000 })).engine();
    let sampling = SamplingParams { temperature: 1.0, ..SamplingParams::default() };
    let first = engine.submit(RequestOptions { n: 3, sampling, ..tokens(&[1, 2, 3], 60) }).unwrap();
    engine.cancel(first + 1).unwrap();
    let mut collector = Collector::default();
    collector.wait_for(&engine, 3);
    let ends: Vec<_> = (first..first + 3).map(|id| collector.answers[&id].end.clone()).collect();
    let length = End::Finished(FinishReason::Length);
    assert_eq!(ends, [length.clone(), End::Cancelled, length]);
}
