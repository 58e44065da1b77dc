//! Drives a runner by steps, without scheduler or engine.
#![allow(dead_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use quire::cache::BlockId;
use quire::engine::load::{Loaded, load};
use quire::model::locate::locate;
use quire::model::{LoadOptions, WeightFormat};
use quire::sampling::{RowSampling, SamplingParams};
use quire::scheduler::{BlockCopy, Row, RowInput, SequenceId, Step};
use serde::Deserialize;

/// What `make_tiny_llama.py` wrote.
#[derive(Deserialize)]
pub struct Expected {
    pub cases: Vec<Case>,
}

#[derive(Deserialize, Clone)]
pub struct Case {
    pub prompt: Vec<u32>,
    pub logits: Vec<f32>,
    pub tokens: Vec<u32>,
}

pub fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

pub fn expected_of(name: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(tiny(name).join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_str(&text).unwrap();
    assert!(!expected.cases.is_empty());
    expected.cases
}

/// The prompts of `tiny-llama`.
pub fn expected() -> Vec<Case> {
    expected_of("tiny-llama")
}

/// `tiny-llama`, ready to run.
pub fn load_tiny(weight_format: WeightFormat, cache_bytes: u64) -> Loaded {
    load_named("tiny-llama", weight_format, cache_bytes, false)
}

/// A model of tests/data; on MLX's elementary operations if `reference`.
pub fn load_named(name: &str, weight_format: WeightFormat, cache_bytes: u64, reference: bool) -> Loaded {
    let options = LoadOptions {
        max_sequences: 16,
        cache_bytes: Some(cache_bytes),
        weight_format,
        reference,
        ..LoadOptions::default()
    };
    let files = locate(tiny(name).to_str().unwrap()).unwrap();
    load(&files, &options, &mut |_, _| true).unwrap()
}

/// A sequence as a scheduler would hold it.
pub struct Sequence {
    pub id: SequenceId,
    pub prompt: Vec<u32>,
    pub params: SamplingParams,
    pub blocks: Vec<BlockId>,
    /// Tokens in its pages, or on their way there.
    pub computed: usize,
    /// Tokens it has sampled, as far as launched.
    pub sampled: usize,
    pub tokens: Vec<u32>,
}

/// Builds steps for sequences and runs them.
pub struct Driver {
    pub loaded: Loaded,
    pub free: Vec<BlockId>,
    pub sequences: Vec<Sequence>,
    slots: HashMap<SequenceId, u32>,
}

impl Driver {
    /// Blocks are handed out in an order that leaves hardly two neighbours together if `scattered`.
    pub fn new(loaded: Loaded, scattered: bool) -> Driver {
        let n = loaded.info.num_blocks;
        let mut free: Vec<BlockId> = (0..n).rev().collect();
        if scattered {
            free.sort_by_key(|&b| b.wrapping_mul(2_654_435_761));
        }
        Driver { loaded, free, sequences: Vec::new(), slots: HashMap::new() }
    }

    pub fn add(&mut self, prompt: &[u32], params: SamplingParams) -> usize {
        let id = 100 + self.sequences.len() as SequenceId;
        self.slots.insert(id, (self.sequences.len() % 16) as u32);
        self.sequences.push(Sequence {
            id,
            prompt: prompt.to_vec(),
            params,
            blocks: vec![],
            computed: 0,
            sampled: 0,
            tokens: vec![],
        });
        self.sequences.len() - 1
    }

    /// The next row of a sequence: up to `chunk` prompt tokens, or one sampled token.
    fn row(&mut self, index: usize, chunk: usize) -> Row {
        let size = self.loaded.info.block_size as usize;
        let sequence = &mut self.sequences[index];
        let start = sequence.computed;
        let left = sequence.prompt.len().saturating_sub(start);
        let (input, end) = match left {
            0 => (RowInput::Sampled, start + 1),
            _ => {
                let end = start + left.min(chunk);
                (RowInput::Tokens(sequence.prompt[start..end].to_vec()), end)
            }
        };
        while sequence.blocks.len() < end.div_ceil(size) {
            sequence.blocks.push(self.free.pop().unwrap());
        }
        let samples = end >= sequence.prompt.len();
        let row = Row {
            id: sequence.id,
            slot: self.slots[&sequence.id],
            input,
            start: start as u32,
            blocks: sequence.blocks.as_slice().into(),
            samples,
            sampled_before: sequence.sampled as u32,
        };
        sequence.computed = end;
        sequence.sampled += usize::from(samples);
        row
    }

    /// Launches one step of these sequences.
    pub fn launch(&mut self, who: &[usize], chunk: usize, copies: Vec<BlockCopy>) {
        let mut rows: Vec<Row> = who.iter().map(|&i| self.row(i, chunk)).collect();
        rows.sort_by_key(|row| row.input != RowInput::Sampled);
        let params: Vec<Option<SamplingParams>> = rows
            .iter()
            .map(|row| {
                let owner = self.sequences.iter().find(|s| s.id == row.id).unwrap();
                row.samples.then(|| owner.params.clone())
            })
            .collect();
        let params: Vec<Option<RowSampling<'_>>> =
            params.iter().map(|params| params.as_ref().map(RowSampling::new)).collect();
        self.loaded.runner.launch(&Step { rows, copies, ..Default::default() }, &params).unwrap();
    }

    pub fn collect(&mut self) {
        for sampled in self.loaded.runner.collect().unwrap() {
            let owner = self.sequences.iter_mut().find(|s| s.id == sampled.id).unwrap();
            owner.tokens.push(sampled.token);
        }
    }

    /// Runs these sequences together until each has `count` tokens, one step ahead, and returns them.
    pub fn run(&mut self, who: &[usize], chunk: usize, count: usize) -> Vec<Vec<u32>> {
        let mut ahead = 0;
        loop {
            let rows: Vec<usize> =
                who.iter().copied().filter(|&i| self.sequences[i].sampled < count).collect();
            if rows.is_empty() {
                break;
            }
            self.launch(&rows, chunk, vec![]);
            ahead += 1;
            if ahead > 1 {
                self.collect();
                ahead -= 1;
            }
        }
        (0..ahead).for_each(|_| self.collect());
        who.iter().map(|&i| self.sequences[i].tokens.clone()).collect()
    }
}
