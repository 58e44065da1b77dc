//! The whole engine on MLX with a tiny llama: alone, batched, warm, from a saved cache and after preemption, a
//! request gets the same tokens.
#![cfg(feature = "mlx")]

mod harness;

use std::path::Path;

use harness::{Answer, End, assert_all_pages_back, create, run, run_one, tokens};
use quire::engine::{EngineOptions, EventKind, FinishReason, RequestOptions};
use quire::grammar::{Grammar, GrammarKind};
use quire::sampling::{LogprobRequest, Penalties, SamplingParams};

fn options() -> EngineOptions {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-llama");
    EngineOptions {
        model: model.to_str().unwrap().to_owned(),
        cache_bytes: Some(32 << 20),
        max_sequences: 16,
        ..EngineOptions::default()
    }
}

/// Greedy and sampled requests of mixed lengths, two of them with a common prefix.
fn requests() -> Vec<RequestOptions> {
    (0..10u32)
        .map(|i| {
            let len = 3 + i * 17 % 90;
            let salt = if i < 2 { 0 } else { i };
            let prompt: Vec<u32> = (0..len).map(|t| (t * 31 + salt * 57 + 11) % 500).collect();
            let hot = SamplingParams {
                temperature: 0.8,
                top_k: 40,
                top_p: 0.95,
                min_p: 0.02,
                seed: u64::from(i),
                ..Default::default()
            };
            // Their tokens depend on each other, those still on the device included.
            let penalties = Penalties { repetition: 1.3, presence: 0.4, frequency: 0.2, window: i % 3 * 4 };
            let sampling = match i % 4 {
                0 => SamplingParams::default(),
                1 => hot,
                2 => SamplingParams { penalties, ..SamplingParams::default() },
                _ => SamplingParams { penalties, logit_bias: vec![(7, 2.0), (9, f32::NEG_INFINITY)], ..hot },
            };
            let logprobs = LogprobRequest { chosen: i % 3 == 0, top: i % 2, prompt: false };
            let logprobs = if logprobs.chosen { logprobs } else { LogprobRequest::default() };
            RequestOptions { sampling, logprobs, ..tokens(&prompt, 24) }
        })
        .collect()
}

fn alone() -> Vec<Vec<u32>> {
    let engine = create(EngineOptions { prefix_sharing: false, ..options() });
    requests().into_iter().map(|request| run_one(&engine, request).tokens).collect()
}

fn assert_equal(answers: &[Answer], alone: &[Vec<u32>]) {
    for (i, (answer, alone)) in answers.iter().zip(alone).enumerate() {
        assert_eq!(answer.end, End::Finished(FinishReason::Length), "request {i}");
        assert_eq!(&answer.tokens, alone, "request {i}");
    }
}

#[test]
fn batched_warm_and_reloaded_equal_alone() {
    let alone = alone();
    assert!(alone.iter().all(|tokens| tokens.len() == 24));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prefixes");
    let engine = create(options());
    for round in 0..3 {
        assert_equal(&run(&engine, requests()), &alone);
        let hits = engine.statistics().prefix_hits;
        assert!(hits >= 10 * round, "{hits} hits after round {round}");
    }
    assert_all_pages_back(&engine);
    assert!(engine.save_cache(&path).unwrap() > 10);

    let reloaded = create(options());
    assert!(reloaded.load_cache(&path).unwrap() > 10);
    let answers = run(&reloaded, requests());
    assert_equal(&answers, &alone);
    assert!(answers.iter().filter(|answer| answer.cached_tokens >= 16).count() >= 5, "{answers:?}");
}

#[test]
fn small_chunks_and_few_pages_change_nothing() {
    let alone = alone();
    // Prompts in chunks of at most 17 tokens.
    let chunked = create(EngineOptions { max_step_tokens: 17, ..options() });
    assert_equal(&run(&chunked, requests()), &alone);
    // Pages for two or three of the ten.
    let info = create(options()).model_info().clone();
    let page_bytes = (32 << 20) / (u64::from(info.num_blocks) + 1);
    let few = create(EngineOptions { cache_bytes: Some(20 * page_bytes), ..options() });
    assert_equal(&run(&few, requests()), &alone);
    assert!(few.statistics().preemptions > 0, "{:?}", few.statistics());
    assert_all_pages_back(&few);
}

#[test]
fn penalties_see_the_token_that_is_still_on_the_device() {
    let engine = create(options());
    let prompt: Vec<u32> = (0..20).map(|t| t * 13 % 500).collect();
    let free = run_one(&engine, tokens(&prompt, 40)).tokens;
    let distinct: std::collections::HashSet<u32> = free.iter().copied().collect();
    assert!(distinct.len() < free.len(), "nothing repeats of itself: {free:?}");
    // With so strong a penalty no token comes twice within the window.
    for window in [0, 5, 2] {
        let penalties = Penalties { presence: 100.0, window, ..Penalties::default() };
        let sampling = SamplingParams { penalties, ..SamplingParams::default() };
        let answer = run_one(&engine, RequestOptions { sampling, ..tokens(&prompt, 60) }).tokens;
        let window = if window == 0 { answer.len() } else { window as usize };
        for (i, token) in answer.iter().enumerate() {
            assert!(!answer[i.saturating_sub(window)..i].contains(token), "window {window}: {answer:?}");
        }
    }
}

#[test]
fn log_probabilities_are_of_the_chosen_token() {
    let engine = create(options());
    let logprobs = LogprobRequest { chosen: true, top: 3, prompt: false };
    let prompt: Vec<u32> = (0..30).map(|t| t * 17 % 500).collect();
    let id = engine.submit(RequestOptions { logprobs, ..tokens(&prompt, 20) }).unwrap();
    let (mut found, mut chosen) = (Vec::new(), Vec::new());
    loop {
        let event = engine.wait(None).unwrap();
        assert_eq!(event.request, id);
        let EventKind::Delta(delta) = event.kind else { break };
        chosen.extend(delta.tokens);
        found.extend(delta.logprobs);
    }
    assert_eq!((chosen.len(), found.len()), (20, 20));
    for (token, logprobs) in chosen.iter().zip(&found) {
        // Greedy: the chosen token is the most likely one.
        assert_eq!(logprobs.top.len(), 3);
        assert_eq!(logprobs.top[0], (*token, logprobs.logprob));
        assert!(logprobs.top[0].1 >= logprobs.top[1].1 && logprobs.top[1].1 >= logprobs.top[2].1);
        let sum: f32 = logprobs.top.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!(logprobs.logprob < 0.0 && sum < 1.0001);
    }
}

#[test]
fn log_probabilities_of_a_prompt_are_those_of_the_same_text_as_an_answer() {
    // Prompts in chunks, more tokens than are scored at a time, and a prefix that others have cached.
    let engine = create(EngineOptions { max_step_tokens: 70, ..options() });
    let prompt: Vec<u32> = (0..40).map(|t| t * 23 % 500).collect();
    let ask = |chosen, prompt| LogprobRequest { chosen, top: 2, prompt };
    let collect = |request: RequestOptions| {
        let id = engine.submit(request).unwrap();
        let (mut tokens, mut answer, mut prompt) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let event = engine.wait(None).unwrap();
            assert_eq!(event.request, id);
            let EventKind::Delta(delta) = event.kind else { return (tokens, answer, prompt) };
            tokens.extend(delta.tokens);
            answer.extend(delta.logprobs);
            prompt.extend(delta.prompt_logprobs);
        }
    };
    let (answer, expected, none) =
        collect(RequestOptions { logprobs: ask(true, false), ..tokens(&prompt, 100) });
    assert!(none.is_empty());
    let whole = [prompt.as_slice(), &answer].concat();
    let (_, none, found) = collect(RequestOptions { logprobs: ask(false, true), ..tokens(&whole, 1) });
    assert!(none.is_empty());
    assert_eq!(found.len(), whole.len() - 1);
    for (found, expected) in found[prompt.len() - 1..].iter().zip(&expected) {
        assert!((found.logprob - expected.logprob).abs() < 2e-2, "{found:?} {expected:?}");
        assert_eq!(found.top.len(), 2);
    }
}

/// The tiny llama with a tokenizer of bytes, which covers half of its vocabulary.
fn with_tokenizer(dir: &Path) -> EngineOptions {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for (folder, file) in [
        ("tiny-llama", "config.json"),
        ("tiny-llama", "model.safetensors"),
        ("byte-tokenizer", "tokenizer.json"),
        ("byte-tokenizer", "tokenizer_config.json"),
    ] {
        std::fs::copy(data.join(folder).join(file), dir.join(file)).unwrap();
    }
    EngineOptions { model: dir.to_str().unwrap().to_owned(), ..options() }
}

#[test]
fn grammars_hold_beside_rows_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let engine = create(with_tokenizer(dir.path()));
    let regex = |i: u32| {
        let grammar = Grammar { kind: GrammarKind::Regex, text: "[a-f]{3,9}(;[0-9]{2}){1,3}".into() };
        let penalties = Penalties { frequency: 0.5, ..Penalties::default() };
        let hot =
            SamplingParams { temperature: 2.0, seed: u64::from(i), penalties, ..SamplingParams::default() };
        let sampling = if i.is_multiple_of(2) { SamplingParams::default() } else { hot };
        let logprobs = LogprobRequest { chosen: i.is_multiple_of(3), top: 0, prompt: false };
        let prompt: Vec<u32> = (0..10 + i).map(|t| (t * 29 + i) % 250).collect();
        RequestOptions {
            grammar: Some(grammar),
            sampling,
            logprobs,
            ignore_eos: false,
            ..tokens(&prompt, 60)
        }
    };
    let free = |i: u32| tokens(&[i + 3, 2 * i + 1, 40], 30);
    let mixed = || (0..12).map(|i| if i % 3 == 2 { free(i) } else { regex(i) }).collect::<Vec<_>>();
    let alone: Vec<Answer> = mixed().into_iter().map(|request| run_one(&engine, request)).collect();
    let together = run(&engine, mixed());
    for (i, (answer, alone)) in together.iter().zip(&alone).enumerate() {
        assert_eq!((&answer.tokens, &answer.end), (&alone.tokens, &alone.end), "request {i}");
        if i % 3 == 2 {
            continue;
        }
        let (letters, numbers) = answer.text.split_once(';').unwrap();
        assert!((3..=9).contains(&letters.len()) && letters.bytes().all(|b| (b'a'..=b'f').contains(&b)));
        let sound = |n: &str| n.len() == 2 && n.bytes().all(|b| b.is_ascii_digit());
        assert!(numbers.split(';').all(sound) && numbers.len() <= 8, "{}", answer.text);
    }
    assert_all_pages_back(&engine);
}
