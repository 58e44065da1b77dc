//! A small llama on MLX gives mlx-lm's tokens: alone, in batches, with its prompt in chunks, on pages in
//! any order, after a shared prefix, next to neighbours that sample.
#![cfg(feature = "mlx")]

mod common;

use common::{Driver, expected, expected_of, load_named, load_tiny, tiny};
use quire::cache::{BlockCopy, PageLayout, pages::Pages};
use quire::mlx::{Array, Device};
use quire::model::WeightFormat;
use quire::model::batch::{Batch, Outputs};
use quire::model::layers::Kernels;
use quire::model::locate::locate;
use quire::model::weights::Weights;
use quire::model::{Architecture, Checkpoint};
use quire::sampling::{RowSampling, SamplingParams};
use quire::scheduler::{Row, RowInput};

const CACHE: u64 = 8 << 20;
const NEW: usize = 40;

fn greedy() -> SamplingParams {
    SamplingParams::default()
}

#[test]
fn logits_after_a_prompt() {
    logits_of("tiny-llama");
    logits_of("tiny-llama-dense");
}

fn logits_of(name: &str) {
    let files = locate(tiny(name).to_str().unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&files).unwrap();
    let config = &checkpoint.config;
    assert_eq!(config.architecture, Architecture::Llama);
    let device = Device::best().unwrap();
    let kernels = Kernels::best(device.gpu(), true);
    device.run(|| {
        let mut progress = |_: f32, _: &str| true;
        let mut weights = Weights::open(&checkpoint, WeightFormat::Float32, &kernels, &mut progress).unwrap();
        let tied = checkpoint.manifest.tied;
        let model = config.architecture.load(config, &mut weights, tied).unwrap();
        let (kv_heads, head_dim) = (config.kv_heads, config.head_dim);
        let layout = PageLayout { kv_heads, num_blocks: 16, block_size: 16, head_dim };
        for case in expected_of(name) {
            let mut pages = Pages::new(layout, config.layers, model.ends().dtype, device.is_gpu()).unwrap();
            let row = Row {
                id: 1,
                slot: 0,
                input: RowInput::Tokens(case.prompt.clone()),
                start: 0,
                blocks: (0..16).collect(),
                samples: true,
                sampled_before: 0,
            };
            let batch = Batch::new(&[row], &[], &pages, model.as_ref(), &kernels).unwrap();
            let mut tokens = case.prompt.clone();
            tokens.resize(batch.rows, 0);
            let tokens = Array::from_slice(&tokens, &[batch.rows as i32]);
            let hidden = model.forward(&tokens, &batch, &mut pages).unwrap();
            let rows = match &batch.outputs {
                Outputs::Rows(rows) => Some(rows),
                Outputs::All => None,
                Outputs::Nothing => panic!("no logits are wanted"),
            };
            let logits = model.ends().logits(&hidden, rows).unwrap();
            let logits = logits.to_vec_exact::<f32>().unwrap();
            for (own, want) in logits.iter().zip(&case.logits) {
                assert!(
                    (own - want).abs() < 1e-3,
                    "{name}, {} tokens: {own}, want {want}",
                    case.prompt.len()
                );
            }
        }
    });
}

#[test]
fn dense_weights_in_shards_with_biases_yarn_and_an_output_of_their_own() {
    let name = "tiny-llama-dense";
    let cases = expected_of(name);
    for format in [WeightFormat::Auto, WeightFormat::AsStored] {
        for (chunk, reference) in [(512, false), (13, false), (13, true)] {
            let mut driver = Driver::new(load_named(name, format, CACHE, reference), true);
            let who: Vec<usize> = cases.iter().map(|case| driver.add(&case.prompt, greedy())).collect();
            for (tokens, case) in driver.run(&who, chunk, NEW).iter().zip(&cases) {
                assert_eq!(tokens, &case.tokens, "{} tokens, {format:?}", case.prompt.len());
            }
        }
    }
}

#[test]
fn alone_with_every_weight_format() {
    for format in [WeightFormat::Auto, WeightFormat::AsStored, WeightFormat::Float32] {
        for reference in [false, true] {
            let mut driver = Driver::new(load_named("tiny-llama", format, CACHE, reference), false);
            for case in expected() {
                let i = driver.add(&case.prompt, greedy());
                let tokens = driver.run(&[i], 512, NEW).remove(0);
                assert_eq!(tokens, case.tokens, "{} tokens, {format:?}, {reference}", case.prompt.len());
                let freed = std::mem::take(&mut driver.sequences[i].blocks);
                driver.free.extend(freed);
            }
        }
    }
}

#[test]
fn all_together_on_scattered_pages_with_prompts_in_odd_chunks() {
    let cases = expected();
    for chunk in [512, 16, 7, 1] {
        for (scattered, reference) in [(false, false), (true, false), (false, true), (true, true)] {
            let loaded = load_named("tiny-llama", WeightFormat::Auto, CACHE, reference);
            let mut driver = Driver::new(loaded, scattered);
            let who: Vec<usize> = cases.iter().map(|case| driver.add(&case.prompt, greedy())).collect();
            for (tokens, case) in driver.run(&who, chunk, NEW).iter().zip(&cases) {
                assert_eq!(tokens, &case.tokens, "{} tokens, chunks of {chunk}", case.prompt.len());
            }
        }
    }
}

#[test]
fn joining_while_others_decode() {
    let cases = expected();
    let mut driver = Driver::new(load_tiny(WeightFormat::Auto, CACHE), true);
    let mut running: Vec<usize> = Vec::new();
    for case in &cases {
        running.push(driver.add(&case.prompt, greedy()));
        for _ in 0..3 {
            driver.launch(&running, 11, vec![]);
            driver.collect();
        }
    }
    for (tokens, case) in driver.run(&running, 11, NEW).iter().zip(&cases) {
        assert_eq!(&tokens[..NEW], &case.tokens[..], "{} tokens", case.prompt.len());
    }
}

#[test]
fn a_shared_prefix_is_read_and_a_shared_block_is_copied() {
    share_a_prefix(false);
    share_a_prefix(true);
}

fn share_a_prefix(reference: bool) {
    let case = expected().pop().unwrap();
    let mut driver = Driver::new(load_named("tiny-llama", WeightFormat::Auto, CACHE, reference), true);
    let first = driver.add(&case.prompt, greedy());
    assert_eq!(driver.run(&[first], 64, NEW)[0], case.tokens);
    let size = driver.loaded.info.block_size as usize;
    let whole = case.prompt.len() / size;

    // Whole blocks are read where they are.
    let warm = driver.add(&case.prompt, greedy());
    driver.sequences[warm].blocks = driver.sequences[first].blocks[..whole].to_vec();
    driver.sequences[warm].computed = whole * size;
    assert_eq!(driver.run(&[warm], 64, NEW)[0], case.tokens);

    // So are the tokens of a partial one, copied first; the sequence it is copied from goes on decoding.
    let copied = driver.add(&case.prompt, greedy());
    let source = driver.sequences[first].blocks.clone();
    let own = driver.free.pop().unwrap();
    let reused = case.prompt.len() - 1;
    assert!(!reused.is_multiple_of(size));
    driver.sequences[copied].blocks = [&source[..whole], &[own]].concat();
    driver.sequences[copied].computed = reused;
    let copy = BlockCopy { from: source[whole], to: own, tokens: (reused % size) as u32 };
    driver.launch(&[first, copied], 64, vec![copy]);
    driver.collect();
    let tokens = driver.run(&[first, copied], 64, NEW + 4);
    assert_eq!(tokens[1][..NEW], case.tokens[..]);
    assert_eq!(tokens[0][..NEW], case.tokens[..]);
    assert_eq!(tokens[0], tokens[1]);
}

#[test]
fn a_seeded_row_samples_the_same_alone_and_among_others() {
    let cases = expected();
    let sampled =
        |seed| SamplingParams { temperature: 1.3, top_k: 40, top_p: 0.95, min_p: 0.01, seed, ..greedy() };
    let mut driver = Driver::new(load_tiny(WeightFormat::Auto, CACHE), true);
    let alone: Vec<Vec<u32>> = (0..4)
        .map(|i| {
            let who = driver.add(&cases[3 + i].prompt, sampled(i as u64));
            driver.run(&[who], 512, NEW).remove(0)
        })
        .collect();
    let mut who: Vec<usize> = (0..4).map(|i| driver.add(&cases[3 + i].prompt, sampled(i as u64))).collect();
    who.push(driver.add(&cases[5].prompt, greedy()));
    who.push(driver.add(&cases[6].prompt, SamplingParams { temperature: 0.7, ..greedy() }));
    let together = driver.run(&who, 512, NEW);
    assert_eq!(&together[..4], &alone[..]);
    assert_eq!(together[4], cases[5].tokens, "a greedy row next to others that sample");
    assert_ne!(alone[2], cases[5].tokens, "temperature 1.3 gave the greedy tokens");
}

#[test]
fn after_a_reset_nothing_is_left() {
    let case = expected().pop().unwrap();
    let mut driver = Driver::new(load_tiny(WeightFormat::Auto, CACHE), false);
    let first = driver.add(&case.prompt, greedy());
    driver.launch(&[first], 64, vec![]);
    driver.loaded.runner.reset().unwrap();
    assert!(driver.loaded.runner.collect().is_err(), "the step in flight should be gone");
    let again = driver.add(&case.prompt, greedy());
    assert_eq!(driver.run(&[again], 64, NEW)[0], case.tokens);
}

#[test]
fn ids_out_of_range_are_refused_before_anything_runs() {
    let mut driver = Driver::new(load_tiny(WeightFormat::Auto, CACHE), false);
    let n = driver.loaded.info.num_blocks;
    let good = Row {
        id: 1,
        slot: 0,
        input: RowInput::Tokens(vec![5; 4]),
        start: 0,
        blocks: [0].into(),
        samples: true,
        sampled_before: 0,
    };
    let bad = [
        ("slot", Row { slot: 16, ..good.clone() }),
        ("token", Row { input: RowInput::Tokens(vec![512]), ..good.clone() }),
        ("block", Row { blocks: [n].into(), ..good.clone() }),
        ("blocks", Row { start: 13, ..good.clone() }),
        ("no input", Row { input: RowInput::Tokens(vec![]), ..good.clone() }),
    ];
    for (what, row) in bad {
        let step = quire::scheduler::Step { rows: vec![row], ..Default::default() };
        let e = driver.loaded.runner.launch(&step, &[Some(RowSampling::new(&greedy()))]).unwrap_err();
        assert!(e.message().contains(what), "{what}: {e}");
    }
    let step = quire::scheduler::Step { rows: vec![good], ..Default::default() };
    assert!(driver.loaded.runner.launch(&step, &[]).is_err());
    driver.loaded.runner.launch(&step, &[Some(RowSampling::new(&greedy()))]).unwrap();
    assert_eq!(driver.loaded.runner.collect().unwrap().len(), 1);
}
