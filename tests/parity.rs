//! Greedy tokens on the real model equal mlx-lm's, prompt by prompt (see `parity/make_expected.py`).
#![cfg(feature = "mlx")]

use std::path::{Path, PathBuf};

use quire::engine::Runner;
use quire::engine::load::load;
use quire::model::LoadOptions;
use quire::model::locate::locate;
use quire::sampling::{RowSampling, SamplingParams};
use quire::scheduler::{Row, RowInput, Step};
use serde::Deserialize;

/// Where two logits are closer than this, rounding may choose either.
const NEAR_TIE: f32 = 0.02;

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    gaps: Vec<f32>,
}

fn model_path() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join(".models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let path = std::env::var_os("QUIRE_TEST_MODEL").map_or(default, PathBuf::from);
    assert!(
        path.exists(),
        "the test model is not at {}: run `make test`, which fetches it, or set QUIRE_TEST_MODEL",
        path.display()
    );
    path
}

#[test]
fn greedy_tokens_equal_mlx_lm() {
    let text = include_str!("parity/smollm2.json");
    let expected: Expected = serde_json::from_str(text).unwrap();
    assert!(expected.cases.len() >= 10);
    let files = locate(model_path().to_str().unwrap()).unwrap();
    let mut loaded = load(&files, &LoadOptions::default(), &mut |_, _| true).unwrap();
    let mut ties = 0;
    for (i, case) in expected.cases.iter().enumerate() {
        ties += follow(loaded.runner.as_mut(), loaded.info.block_size, i as u64, case);
    }
    println!("{} prompts, {ties} near ties went the other way", expected.cases.len());
}

/// Runs one prompt alone and compares token by token; where a near tie goes the other way, goes on with
/// the reference's token. Returns how many did.
fn follow(runner: &mut dyn Runner, block_size: u32, id: u64, case: &Case) -> usize {
    let greedy = SamplingParams::default();
    let mut input = RowInput::Tokens(case.prompt.clone());
    let mut start = 0;
    let mut ties = 0;
    for (n, (&token, &gap)) in case.tokens.iter().zip(&case.gaps).enumerate() {
        let row =
            Row { id, slot: 0, input, start, blocks: [].into(), samples: true, sampled_before: n as u32 };
        let end = start + row.input_len() as u32;
        let blocks = (0..end.div_ceil(block_size)).collect();
        runner
            .launch(
                &Step { rows: vec![Row { blocks, ..row }], ..Step::default() },
                &[Some(RowSampling::new(&greedy))],
            )
            .unwrap();
        let sampled = runner.collect().unwrap();
        let own = sampled[0].token;
        start = end;
        input = RowInput::Sampled;
        if own != token {
            assert!(gap < NEAR_TIE, "{}: token {n} is {own}, want {token} (ahead by {gap})", case.kind);
            ties += 1;
            input = RowInput::Tokens(vec![token]);
        }
    }
    ties
}
