//! Models whose weights follow from a formula: what `tests/parity/weights.py` writes, the same bit for bit.
#![allow(dead_code)]

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

/// A model and what mlx-lm computes with it: a file of `tests/parity/models`.
#[derive(Deserialize, Clone)]
pub struct Reference {
    pub config: serde_json::Value,
    pub shards: usize,
    pub tensors: Vec<Tensor>,
    pub logits: Logits,
    pub cases: Vec<Greedy>,
}

/// How a tensor's elements are made.
#[derive(Deserialize, Clone)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    seed: Option<String>,
    #[serde(default)]
    start: u32,
    pub float: Option<[f64; 2]>,
    words: Option<u32>,
    bytes: Option<[u32; 2]>,
}

/// Logits at every position of a prompt.
#[derive(Deserialize, Clone)]
pub struct Logits {
    pub prompt: Vec<u32>,
    /// The largest magnitude at each position.
    pub scale: Vec<f32>,
    /// At position `p`, token `(37 p + 29 i) % vocab`.
    pub some: Vec<Vec<f32>>,
    /// All of the last position.
    pub last: Vec<f32>,
}

/// The tokens with the largest logit in turn, and by how much each won.
#[derive(Deserialize, Clone)]
pub struct Greedy {
    pub prompt: Vec<u32>,
    pub tokens: Vec<u32>,
    pub gaps: Vec<f32>,
}

impl Reference {
    /// Reads `tests/parity/models/{name}.json`.
    pub fn read(name: &str) -> Reference {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/models");
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The same model with its experts one by one, as `listed` of `cases.py` has them.
    pub fn with_listed_experts(mut self) -> Reference {
        self.tensors = self.tensors.iter().flat_map(Tensor::listed).collect();
        self
    }

    /// Writes the model into a temporary directory.
    pub fn write(&self) -> ModelDir {
        let dir = ModelDir(tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("config.json"), self.config.to_string()).unwrap();
        let mut places = serde_json::Map::new();
        for shard in 0..self.shards {
            let file = format!("model-{:05}-of-{:05}.safetensors", shard + 1, self.shards);
            let tensors: Vec<&Tensor> = self.tensors.iter().skip(shard).step_by(self.shards).collect();
            tensors.iter().for_each(|t| drop(places.insert(t.name.clone(), file.clone().into())));
            std::fs::write(dir.path().join(file), safetensors(&tensors)).unwrap();
        }
        let index = json!({ "weight_map": places }).to_string();
        std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        dir
    }
}

/// A model directory, gone when dropped.
pub struct ModelDir(tempfile::TempDir);

impl ModelDir {
    /// Writes over a tensor's bytes, from byte `at` of its data on. The model is one file.
    pub fn write_over(&self, tensor: &str, at: u64, bytes: &[u8]) {
        let path = self.path().join("model-00001-of-00001.safetensors");
        let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut length = [0; 8];
        file.read_exact(&mut length).unwrap();
        let mut header = vec![0; u64::from_le_bytes(length) as usize];
        file.read_exact(&mut header).unwrap();
        let start = 8 + header.len() as u64;
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        let data = header[tensor]["data_offsets"][0].as_u64().unwrap();
        file.seek(SeekFrom::Start(start + data + at)).unwrap();
        file.write_all(bytes).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

fn safetensors(tensors: &[&Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in tensors {
        let start = data.len();
        data.extend(tensor.bytes());
        let place =
            json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, data.len()]});
        header.insert(tensor.name.clone(), place);
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

impl Tensor {
    /// What stands in its place where experts are one by one.
    fn listed(&self) -> Vec<Tensor> {
        let Some((before, after)) = self.name.split_once(".switch_mlp.") else { return vec![self.clone()] };
        let (experts, shape) = (self.shape[0], self.shape[1..].to_vec());
        let each = shape.iter().product::<usize>();
        let one = |n: usize| Tensor {
            name: format!("{before}.experts.{n}.{after}"),
            shape: shape.clone(),
            seed: Some(self.seed.clone().unwrap_or_else(|| self.name.clone())),
            start: (n * each) as u32,
            ..self.clone()
        };
        (0..experts).map(one).collect()
    }

    /// Its elements as a file stores them.
    pub fn bytes(&self) -> Vec<u8> {
        let count: usize = self.shape.iter().product();
        let seed = fnv1a(self.seed.as_ref().unwrap_or(&self.name));
        let words = (self.start..self.start + count as u32).map(|i| mixed(i, seed));
        match (self.float, self.words, self.bytes) {
            (Some([offset, amplitude]), None, None) => words
                .flat_map(|word| {
                    let u = f64::from(word >> 8) / f64::from(1 << 23) - 1.0;
                    rounded((offset + amplitude * u) as f32, &self.dtype)
                })
                .collect(),
            (None, Some(mask), None) => words.flat_map(|word| (word & mask).to_le_bytes()).collect(),
            (None, None, Some([low, span])) => words.map(|word| (low + word % span) as u8).collect(),
            _ => panic!("{}: no formula, or several", self.name),
        }
    }
}

fn fnv1a(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The finalizer of MurmurHash3.
fn mixed(i: u32, seed: u32) -> u32 {
    let x = i.wrapping_mul(0x9e37_79b9).wrapping_add(seed);
    let x = (x ^ x >> 16).wrapping_mul(0x85eb_ca6b);
    let x = (x ^ x >> 13).wrapping_mul(0xc2b2_ae35);
    x ^ x >> 16
}

fn rounded(value: f32, dtype: &str) -> Vec<u8> {
    match dtype {
        "F32" => value.to_le_bytes().to_vec(),
        "F16" => half::f16::from_f32(value).to_le_bytes().to_vec(),
        "BF16" => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        other => panic!("floats of type {other}"),
    }
}
