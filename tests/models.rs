//! Every architecture and every weight format computes what mlx-lm does, with small models whose weights follow from
//! a formula (`parity/reference.py` writes what is expected): logits at every position of a prompt; greedy tokens
//! alone, in a batch of mixed lengths, with prompts in odd chunks, after a prefix hit, after preemption.
#![cfg(feature = "mlx")]

#[path = "common/formula.rs"]
mod formula;
#[path = "common/gguf.rs"]
mod gguf;
mod harness;

use std::ops::Range;
use std::path::Path;

use formula::{Greedy, Logits, ModelDir, Reference};
use harness::{Answer, End, assert_all_pages_back, create, run, run_one, tokens};
use quire::engine::load::{Loaded, load};
use quire::engine::{Engine, EngineOptions, FinishReason, RequestOptions};
use quire::mlx::Device;
use quire::model::locate::locate;
use quire::model::{LoadOptions, WeightFormat};
use quire::scheduler::{Row, RowInput, Step};

/// How far any logit may be off in float32, relative to the largest of its position.
const FLOAT32: f32 = 2e-3;
/// How far logits may be off in bfloat16 (on a GPU), as the root of the mean square of the same. mlx-lm's own
/// bfloat16 is 0.004 (dense) to 0.025 (4 bit) away from its float32, for these models.
const BFLOAT16: f32 = 4e-2;
/// The same with experts: where two have nearly the same score, rounding may choose another, and a token goes another
/// way. mlx-lm's own is up to 0.063 away.
const EXPERTS_BFLOAT16: f32 = 0.1;
/// Where two logits are closer than this, rounding may choose either.
const NEAR_TIE: f32 = 0.02;
const CACHE: u64 = 32 << 20;

/// A module of tests for each model, so that a failure names it.
macro_rules! architectures {
    ($($name:ident),*) => {$(
        mod $name {
            #[test]
            fn logits() {
                super::logits(stringify!($name));
            }

            #[test]
            fn alone_together_and_warm() {
                super::alone_together_and_warm(stringify!($name));
            }

            #[test]
            fn in_odd_chunks() {
                super::in_odd_chunks(stringify!($name));
            }

            #[test]
            fn preempted() {
                super::preempted(stringify!($name));
            }
        }
    )*};
}

architectures!(llama, mistral, qwen2, qwen3, qwen3_moe, qwen3_moe_listed, nemotron_h, nemotron_h_other);

macro_rules! formats {
    ($($test:ident: $name:literal),*) => {$(
        #[test]
        fn $test() {
            format($name);
        }
    )*};
}

formats!(
    linear_rope: "rope-linear",
    yarn_rope: "rope-yarn",
    two_bits: "format-2bit",
    three_bits: "format-3bit",
    four_bits: "format-4bit",
    five_bits: "format-5bit",
    six_bits: "format-6bit",
    eight_bits: "format-8bit",
    mixed: "format-mixed",
    mixed_but_not_named: "format-unnamed",
    mxfp4: "format-mxfp4",
    mxfp8: "format-mxfp8",
    nvfp4: "format-nvfp4",
    mixed_experts: "format-experts-mixed",
    mxfp4_experts: "format-experts-mxfp4",
    bfloat16: "format-bf16",
    float16: "format-f16",
    float32: "format-f32"
);

fn logits(name: &str) {
    let reference = Reference::read(name);
    let model = reference.write();
    for operations in [Operations::Own, Operations::Elementary, Operations::Gpu] {
        let mut loaded = loaded(&model, WeightFormat::Float32, operations);
        for chunk in [40, 13, 1] {
            assert_close(FLOAT32, &reference, &mut loaded, chunk);
        }
        assert_close_together(&reference, &mut loaded);
    }
    for weight_format in [WeightFormat::Auto, WeightFormat::AsStored] {
        for operations in [Operations::Own, Operations::Elementary] {
            compare_logits(&reference, &mut loaded(&model, weight_format, operations), 40);
        }
    }
    compare_bfloat16(&reference, &model);
}

/// mlx-lm does not read packed experts one by one; they are the same model as the packed stack.
#[test]
fn packed_experts_one_by_one() {
    let reference = Reference::read("qwen3_moe").with_listed_experts();
    let name = "model.layers.2.mlp.experts.7.down_proj.scales";
    assert!(reference.tensors.iter().any(|tensor| tensor.name == name));
    let model = reference.write();
    for weight_format in [WeightFormat::Auto, WeightFormat::Float32] {
        for operations in [Operations::Own, Operations::Elementary] {
            compare_logits(&reference, &mut loaded(&model, weight_format, operations), 13);
        }
    }
}

/// All that a weight format can get wrong shows in the logits and a few tokens.
fn format(name: &str) {
    let reference = Reference::read(name);
    let model = reference.write();
    compare_bfloat16(&reference, &model);
    for weight_format in [WeightFormat::Auto, WeightFormat::AsStored, WeightFormat::Float32] {
        for operations in [Operations::Own, Operations::Elementary] {
            compare_logits(&reference, &mut loaded(&model, weight_format, operations), 40);
        }
        if weight_format != WeightFormat::Float32 && Device::best().unwrap().is_gpu() {
            continue;
        }
        let engine = create(EngineOptions { weight_format, ..options(&model) });
        compare_tokens(&reference.cases, &run(&engine, requests(&reference)));
    }
}

#[test]
fn gguf_files_of_every_family() {
    for name in ["format-bf16", "dense-qwen2", "dense-qwen3"] {
        let reference = Reference::read(name);
        let file = gguf::write(&reference);
        for operations in [Operations::Own, Operations::Elementary] {
            let loaded = &mut load_at(file.path(), WeightFormat::Auto, operations);
            assert_eq!(loaded.info.architecture, reference.config["model_type"].as_str().unwrap());
            compare_logits(&reference, loaded, 40);
        }
    }
}

/// What computes a model, where there is a choice.
#[derive(Clone, Copy)]
enum Operations {
    /// Our own kernels, or MLX's fused ones on a GPU.
    Own,
    /// MLX's elementary ones.
    Elementary,
    /// What a GPU runs, on whatever there is.
    Gpu,
}

fn loaded(model: &ModelDir, weight_format: WeightFormat, operations: Operations) -> Loaded {
    load_at(&model.path(), weight_format, operations)
}

fn load_at(path: &Path, weight_format: WeightFormat, operations: Operations) -> Loaded {
    let files = locate(path.to_str().unwrap()).unwrap();
    let options = LoadOptions {
        max_sequences: 4,
        cache_bytes: Some(CACHE),
        weight_format,
        reference: matches!(operations, Operations::Elementary),
        as_on_gpu: matches!(operations, Operations::Gpu),
        ..LoadOptions::default()
    };
    load(&files, &options, &mut |_, _| true).unwrap()
}

/// Feeds the prompt in chunks and compares the logits after every token, in whichever type the model computes.
fn compare_logits(reference: &Reference, loaded: &mut Loaded, chunk: usize) {
    match Device::best().unwrap().is_gpu() {
        true => compare_mean(reference, loaded, chunk),
        false => assert_close(FLOAT32, reference, loaded, chunk),
    }
}

fn assert_close(tolerance: f32, reference: &Reference, loaded: &mut Loaded, chunk: usize) {
    for (error, place) in errors(&reference.logits, all_logits(&reference.logits.prompt, loaded, chunk)) {
        assert!(error <= tolerance, "chunks of {chunk}, {place}: off by {error} of the largest logit");
    }
}

/// What a GPU runs, in the type that it runs in.
fn compare_bfloat16(reference: &Reference, model: &ModelDir) {
    let packed = reference.tensors.iter().any(|tensor| tensor.name.ends_with(".scales"));
    if has_experts(reference) && !packed && !Device::best().unwrap().is_gpu() {
        // On a CPU, MLX multiplies experts that are not packed in float32 only.
        return;
    }
    compare_mean(reference, &mut loaded(model, WeightFormat::AsStored, Operations::Gpu), 40);
}

fn has_experts(reference: &Reference) -> bool {
    let names = ["switch_mlp", ".experts."];
    reference.tensors.iter().any(|tensor| names.iter().any(|name| tensor.name.contains(name)))
}

fn compare_mean(reference: &Reference, loaded: &mut Loaded, chunk: usize) {
    let errors = errors(&reference.logits, all_logits(&reference.logits.prompt, loaded, chunk));
    let squares: f32 = errors.iter().map(|(error, _)| error * error).sum();
    let mean = (squares / errors.len() as f32).sqrt();
    let tolerance = if has_experts(reference) { EXPERTS_BFLOAT16 } else { BFLOAT16 };
    assert!(mean <= tolerance, "chunks of {chunk}: {mean}");
}

/// Logits after a token: its position, and `[vocab]`.
type Position = (usize, Vec<f32>);

/// Feeds the prompt in chunks.
fn all_logits(prompt: &[u32], loaded: &mut Loaded, chunk: usize) -> Vec<Position> {
    let starts = (0..prompt.len()).step_by(chunk);
    starts.flat_map(|start| feed(loaded, prompt, &[(0, start..prompt.len().min(start + chunk))])).collect()
}

/// One step of some sequences of this prompt: of each a number and which tokens.
fn feed(loaded: &mut Loaded, prompt: &[u32], sequences: &[(u32, Range<usize>)]) -> Vec<Position> {
    let rows = sequences.iter().map(|(number, tokens)| Row {
        id: u64::from(*number),
        slot: *number,
        input: RowInput::Tokens(prompt[tokens.clone()].to_vec()),
        start: tokens.start as u32,
        // Pages in an order of no use.
        blocks: (0..4).rev().map(|i| i * 4 + number).collect(),
        samples: false,
        sampled_before: 0,
    });
    let step = Step { rows: rows.collect(), ..Step::default() };
    let logits = loaded.runner.logits(&step).unwrap();
    let positions: Vec<usize> = sequences.iter().flat_map(|(_, tokens)| tokens.clone()).collect();
    let vocab = loaded.info.vocab_size as usize;
    assert_eq!(logits.len(), positions.len() * vocab);
    positions.into_iter().zip(logits.chunks(vocab).map(<[f32]>::to_vec)).collect()
}

/// Three sequences decode at different positions while a fourth begins.
fn assert_close_together(reference: &Reference, loaded: &mut Loaded) {
    let prompt = &reference.logits.prompt;
    for (number, before) in [(0, 12), (1, 33), (2, 5)] {
        feed(loaded, prompt, &[(number, 0..before)]);
    }
    let together = feed(loaded, prompt, &[(0, 12..13), (1, 33..34), (2, 5..6), (3, 0..7)]);
    for (error, place) in errors(&reference.logits, together) {
        assert!(error <= FLOAT32, "together, {place}: off by {error} of the largest logit");
    }
}

/// How far each logit that the reference has is off, relative to the largest of its position; and which it is.
fn errors(want: &Logits, own: Vec<Position>) -> Vec<(f32, String)> {
    let mut errors = Vec::new();
    for (position, own) in own {
        let mut compare = |token: usize, logit: f32| {
            let error = (own[token] - logit).abs() / want.scale[position];
            errors
                .push((error, format!("position {position}, token {token} ({}, want {logit})", own[token])));
        };
        let some = want.some[position].iter().enumerate();
        some.for_each(|(i, &logit)| compare((37 * position + 29 * i) % own.len(), logit));
        if position + 1 == want.prompt.len() {
            assert_eq!(want.last.len(), own.len());
            want.last.iter().enumerate().for_each(|(token, &logit)| compare(token, logit));
        }
    }
    // A logit that is no number must not pass as close.
    assert!(errors.iter().all(|(error, _)| error.is_finite()));
    errors
}

/// In float32 everywhere: in bfloat16, tokens other than the expected ones are no error.
fn options(model: &ModelDir) -> EngineOptions {
    let weight_format =
        if Device::best().unwrap().is_gpu() { WeightFormat::Float32 } else { WeightFormat::Auto };
    EngineOptions {
        weight_format,
        model: model.path().to_str().unwrap().to_owned(),
        cache_bytes: Some(CACHE),
        max_sequences: 8,
        ..EngineOptions::default()
    }
}

fn requests(reference: &Reference) -> Vec<RequestOptions> {
    reference.cases.iter().map(|case| tokens(&case.prompt, case.tokens.len() as u32)).collect()
}

/// The answers are the expected tokens; one that took the other side of a near tie may go its own way from there.
fn compare_tokens(cases: &[Greedy], answers: &[Answer]) {
    assert_eq!(cases.len(), answers.len());
    for (case, answer) in cases.iter().zip(answers) {
        assert_eq!(answer.end, End::Finished(FinishReason::Length));
        assert_eq!(answer.tokens.len(), case.tokens.len());
        if let Some(n) = (0..case.tokens.len()).find(|&n| answer.tokens[n] != case.tokens[n]) {
            let (own, want, gap) = (answer.tokens[n], case.tokens[n], case.gaps[n]);
            let prompt = case.prompt.len();
            assert!(
                gap < NEAR_TIE,
                "after {prompt} tokens, token {n} is {own}, want {want} (ahead by {gap})"
            );
        }
    }
}

fn alone_together_and_warm(name: &str) {
    let reference = Reference::read(name);
    let model = reference.write();
    let engine = create(EngineOptions { prefix_sharing: false, ..options(&model) });
    let alone: Vec<Answer> = requests(&reference).into_iter().map(|r| run_one(&engine, r)).collect();
    compare_tokens(&reference.cases, &alone);

    let engine = create(options(&model));
    for round in 0..2 {
        let answers = run(&engine, requests(&reference));
        compare_tokens(&reference.cases, &answers);
        let cached: u32 = answers.iter().map(|answer| answer.cached_tokens).sum();
        assert_eq!(cached > 0, round > 0, "{cached} tokens from the cache in round {round}");
    }
    assert_all_pages_back(&engine);
}

fn in_odd_chunks(name: &str) {
    let reference = Reference::read(name);
    let model = reference.write();
    for max_step_tokens in [17, 37] {
        let engine = create(EngineOptions { max_step_tokens, ..options(&model) });
        compare_tokens(&reference.cases, &run(&engine, requests(&reference)));
    }
}

#[test]
fn a_saved_cache_has_recurrent_states() {
    let reference = Reference::read("nemotron_h");
    let model = reference.write();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prefixes");
    let first = create(options(&model));
    compare_tokens(&reference.cases, &run(&first, requests(&reference)));
    first.save_cache(&path).unwrap();

    let second = create(options(&model));
    second.load_cache(&path).unwrap();
    let answers = run(&second, requests(&reference));
    compare_tokens(&reference.cases, &answers);
    // The last full block before each prompt's last token.
    for (case, answer) in reference.cases.iter().zip(&answers) {
        assert_eq!(answer.cached_tokens as usize, (case.prompt.len() - 1) / 16 * 16);
    }
}

/// Options for the smallest cache of so many pages, found by trying: what else it holds depends on the model.
fn smallest_with(pages: u32, model: &ModelDir) -> EngineOptions {
    let of = |kilobytes: u64| EngineOptions { cache_bytes: Some(kilobytes << 10), ..options(model) };
    let (mut too_small, mut enough) = (0, CACHE >> 10);
    while too_small + 1 < enough {
        let middle = too_small.midpoint(enough);
        let engine = Engine::create(of(middle), None, &mut |_, _| true);
        match engine.is_ok_and(|engine| engine.model_info().num_blocks >= pages) {
            true => enough = middle,
            false => too_small = middle,
        }
    }
    of(enough)
}

fn preempted(name: &str) {
    let reference = Reference::read(name);
    let model = reference.write();
    let block_size = create(options(&model)).model_info().block_size;
    let longest = reference.cases.iter().map(|case| case.prompt.len() + case.tokens.len()).max().unwrap();
    // Pages for the longest request, and hardly more.
    let engine = create(smallest_with(longest as u32 / block_size + 2, &model));
    compare_tokens(&reference.cases, &run(&engine, requests(&reference)));
    assert!(engine.statistics().preemptions > 0, "{:?}", engine.statistics());
    assert_all_pages_back(&engine);
}
