//! The whole engine on MLX with a tiny llama: alone, batched, warm, from a saved cache and after preemption, a
//! request gets the same tokens.
#![cfg(feature = "mlx")]

mod harness;

use std::path::Path;

use harness::{Answer, End, assert_all_pages_back, create, run, run_one, tokens};
use quire::engine::{EngineOptions, FinishReason, RequestOptions};
use quire::sampling::SamplingParams;

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
            let hot =
                SamplingParams { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.02, seed: u64::from(i) };
            let sampling = if i % 2 == 0 { SamplingParams::default() } else { hot };
            RequestOptions { sampling, ..tokens(&prompt, 24) }
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
