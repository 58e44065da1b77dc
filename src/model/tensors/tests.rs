use crate::engine::load::mock_options;
mod experts;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::error::Status;
use crate::model::Checkpoint;
use crate::model::gguf::testing::GgufBytes;
use crate::model::locate::{ModelFiles, locate};

/// Name, safetensors type, shape.
type Tensor = (String, &'static str, Vec<usize>);

fn config(quantized: bool, tied: bool) -> serde_json::Value {
    let mut config = json!({
        "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 64, "vocab_size": 40, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": tied, "eos_token_id": 2,
    });
    if quantized {
        config["quantization"] = json!({"group_size": 32, "bits": 4,
            "model.embed_tokens": {"group_size": 32, "bits": 8}});
    }
    config
}

/// Name, safetensors type and shape of every tensor the configuration asks for.
fn tensors(config: &serde_json::Value) -> Vec<Tensor> {
    let config = ModelConfig::from_json(&config.to_string()).unwrap();
    let mut out = Vec::new();
    for part in config.architecture.parts(&config, config.tie_word_embeddings.unwrap()) {
        match part {
            Part::Vector { name, len } => out.push((name, "BF16", vec![len])),
            Part::Floats { name, mut shapes } => out.push((name, "BF16", shapes.remove(0))),
            Part::Matrix { module, rows, columns, .. } => {
                matrix(&config, &module, &[rows], columns, &mut out)
            }
            Part::Experts { names, experts, rows, columns } => {
                matrix(&config, &names.stacked, &[experts, rows], columns, &mut out);
            }
        }
    }
    out
}

fn matrix(config: &ModelConfig, module: &str, rows: &[usize], columns: usize, out: &mut Vec<Tensor>) {
    let shape = |columns: usize| [rows, &[columns]].concat();
    match config.quantization.as_ref().and_then(|q| q.of(module)) {
        None => out.push((format!("{module}.weight"), "F16", shape(columns))),
        Some(QuantParams { group_size, bits, .. }) => {
            out.push((format!("{module}.weight"), "U32", shape(columns * bits / 32)));
            for kind in ["scales", "biases"] {
                out.push((format!("{module}.{kind}"), "BF16", shape(columns / group_size)));
            }
        }
    }
}

fn write_safetensors(path: &Path, tensors: &[Tensor]) {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, dtype, shape) in tensors {
        let size = if matches!(*dtype, "U32" | "F32" | "I32") { 4 } else { 2 };
        let start = end;
        end += shape.iter().product::<usize>() * size;
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}));
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(&vec![0; end]).unwrap();
}

struct Model {
    folder: tempfile::TempDir,
}

impl Model {
    fn new(config: &serde_json::Value, tensors: &[Tensor]) -> Model {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        write_safetensors(&folder.path().join("model.safetensors"), tensors);
        Model { folder }
    }

    fn weights(&self) -> PathBuf {
        self.folder.path().join("model.safetensors")
    }

    fn open(&self) -> Result<Checkpoint> {
        Checkpoint::open(&locate(self.folder.path().to_str().unwrap())?)
    }

    /// Opening fails as `status` with a message that names the weights file and each of `words`.
    fn fails(&self, status: Status, words: &[&str]) {
        let e = self.open().unwrap_err();
        assert_eq!(e.status(), status, "{e}");
        for word in words.iter().chain(&["model.safetensors"]) {
            assert!(e.message().contains(word), "{word:?} is not in: {e}");
        }
    }
}

#[test]
fn complete_checkpoints_pass() {
    for (quantized, tied) in [(false, false), (false, true), (true, false), (true, true)] {
        let config = config(quantized, tied);
        let checkpoint = Model::new(&config, &tensors(&config)).open().unwrap();
        let manifest = &checkpoint.manifest;
        assert_eq!(manifest.tied, tied);
        assert_eq!(manifest.quantized.len(), if quantized { 8 + usize::from(!tied) } else { 0 });
        let data: u64 = tensors(&config)
            .iter()
            .map(|(_, dtype, shape)| {
                shape.iter().product::<usize>() as u64 * if *dtype == "U32" { 4 } else { 2 }
            })
            .sum();
        assert_eq!(manifest.stored_bytes, data);
    }
}

#[test]
fn every_missing_tensor_is_named() {
    let config = config(true, true);
    let all = tensors(&config);
    for i in 0..all.len() {
        let mut some = all.clone();
        let (name, ..) = some.remove(i);
        // A module without scales counts as dense, so its packed weight is what is wrong then.
        let named = name.replace(".scales", ".weight");
        let named = if name.starts_with("model.embed_tokens") { name.as_str() } else { named.as_str() };
        Model::new(&config, &some).fails(Status::ModelInvalid, &[named]);
    }
}

#[test]
fn wrong_shapes_types_and_leftovers_are_named() {
    let config = config(false, true);
    let all = tensors(&config);
    let with = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut changed = all.clone();
        change(&mut changed);
        Model::new(&config, &changed)
    };
    let name = all[2].0.clone();
    with(&|t| t[2].2.push(1)).fails(Status::ModelInvalid, &[&name, "shape"]);
    with(&|t| t[2].2[0] += 1).fails(Status::ModelInvalid, &[&name, "shape"]);
    with(&|t| t[2].1 = "I32").fails(Status::ModelInvalid, &[&name, "I32"]);
    with(&|t| t.push(("model.extra.weight".into(), "F16", vec![2])))
        .fails(Status::ModelInvalid, &["model.extra.weight", "not part of"]);
    let scales = ("model.layers.0.mlp.up_proj.scales".into(), "F16", vec![64, 1]);
    with(&|t| t.push(scales.clone())).fails(Status::ModelInvalid, &["quantization"]);
    // What old or careless converters leave is harmless.
    with(&|t| t.push(("model.layers.0.self_attn.rotary_emb.inv_freq".into(), "F32", vec![8])))
        .open()
        .unwrap();
    with(&|t| t.push(("lm_head.weight".into(), "F16", vec![40, 32]))).open().unwrap();
}

#[test]
fn damaged_files_are_named() {
    let config = config(true, true);
    let model = Model::new(&config, &tensors(&config));
    let good = std::fs::read(model.weights()).unwrap();
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let damaged = |bytes: &[u8]| {
        std::fs::write(model.weights(), bytes).unwrap();
        model.fails(Status::ModelInvalid, &[]);
    };
    for cut in [0, 4, 8, 8 + header / 2, 8 + header, good.len() - 1] {
        damaged(&good[..cut]);
    }
    damaged(&[&good[..], &[0]].concat());
    let mut bytes = good.clone();
    bytes[20] = 0xff;
    damaged(&bytes);
    bytes = good.clone();
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    damaged(&bytes);
    std::fs::write(model.weights(), &good).unwrap();
    model.open().unwrap();
}

#[test]
fn a_tensor_in_two_shards_is_an_error() {
    let config = config(false, true);
    let all = tensors(&config);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let (one, two) = all.split_at(4);
    write_safetensors(&folder.path().join("a.safetensors"), one);
    write_safetensors(&folder.path().join("b.safetensors"), two);
    let open = || Checkpoint::open(&locate(folder.path().to_str().unwrap()).unwrap());
    assert_eq!(open().unwrap().manifest.index.files().len(), 2);
    write_safetensors(&folder.path().join("b.safetensors"), &all[3..]);
    let e = open().unwrap_err();
    assert!(e.message().contains(&all[3].0) && e.message().contains("b.safetensors"), "{e}");
}

/// A GGUF file of the same model, as 4 bit blocks, with `leave` left out.
fn gguf(leave: &str) -> GgufBytes {
    let f32s = |n: usize| vec![0u8; n * 4];
    let mut file = GgufBytes::default()
        .str("general.architecture", "llama")
        .u32("llama.embedding_length", 32)
        .u32("llama.block_count", 1)
        .u32("llama.attention.head_count", 2)
        .u32("llama.attention.head_count_kv", 1)
        .u32("llama.feed_forward_length", 64)
        .u32("llama.context_length", 128)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .key("llama.attention.layer_norm_rms_epsilon", 6, &1e-5f32.to_le_bytes());
    let matrices = [
        ("token_embd", 40, 32),
        ("blk.0.attn_q", 32, 32),
        ("blk.0.attn_k", 16, 32),
        ("blk.0.attn_v", 16, 32),
        ("blk.0.attn_output", 32, 32),
        ("blk.0.ffn_gate", 64, 32),
        ("blk.0.ffn_up", 64, 32),
        ("blk.0.ffn_down", 32, 64),
    ];
    for (name, rows, columns) in matrices {
        if name == leave {
            continue;
        }
        // Q4_1: 20 bytes for 32 elements; the embedding as Q8_0: 34 bytes.
        let (kind, block) = if name == "token_embd" { (8, 34) } else { (3, 20) };
        let data = vec![0; rows * columns / 32 * block];
        file = file.tensor(&format!("{name}.weight"), &[columns as u64, rows as u64], kind, &data);
    }
    for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"] {
        if name != leave {
            file = file.tensor(&format!("{name}.weight"), &[32], 0, &f32s(32));
        }
    }
    file
}

#[test]
fn gguf_files_are_checked_alike() {
    let file = gguf("").write();
    let checkpoint = Checkpoint::open(&ModelFiles::Gguf(file.path().into())).unwrap();
    let config = &checkpoint.config;
    assert_eq!((config.vocab_size, config.head_dim, config.layers), (40, 16, 1));
    assert_eq!(config.eos_token_ids, [2]);
    assert!(checkpoint.manifest.tied);
    let quantized = &checkpoint.manifest.quantized;
    assert_eq!(quantized["model.embed_tokens"], QuantParams::affine(32, 8));
    assert_eq!(quantized["model.layers.0.mlp.down_proj"], QuantParams::affine(32, 4));

    for (gguf_name, name) in [
        ("blk.0.attn_q", "model.layers.0.self_attn.q_proj.weight"),
        ("blk.0.ffn_norm", "model.layers.0.post_attention_layernorm.weight"),
        ("token_embd", "token_embd.weight"),
    ] {
        let file = gguf(gguf_name).write();
        let e = Checkpoint::open(&ModelFiles::Gguf(file.path().into())).unwrap_err();
        assert_eq!(e.status(), Status::ModelInvalid);
        assert!(e.message().contains(name) && e.message().contains(".gguf"), "{e}");
    }
    let file = gguf("").tensor("blk.0.surprise.weight", &[2], 0, &[0; 8]).write();
    let e = Checkpoint::open(&ModelFiles::Gguf(file.path().into())).unwrap_err();
    assert!(e.message().contains("blk.0.surprise.weight"), "{e}");
}

#[test]
fn gguf_rope_factors_are_a_tensor() {
    let file = gguf("").tensor("rope_freqs.weight", &[8], 0, &[0; 32]).write();
    let checkpoint = Checkpoint::open(&ModelFiles::Gguf(file.path().into())).unwrap();
    assert_eq!(checkpoint.config.rope.scaling, crate::model::RopeScaling::Tensor);
    let file = gguf("").str("llama.rope.scaling.type", "longrope").write();
    let e = Checkpoint::open(&ModelFiles::Gguf(file.path().into())).unwrap_err();
    assert_eq!(e.status(), Status::ModelUnsupported);
    assert!(e.message().contains("longrope"), "{e}");
}

#[test]
fn the_mock_object_is_read_from_the_configuration() {
    let mut config = config(false, true);
    let plain = mock_options(&Model::new(&config, &tensors(&config)).open().unwrap()).unwrap();
    assert_eq!((plain.vocab_size, plain.eos_token, plain.fail_at_step), (40, 2, 0));
    config["mock"] = json!({"fail_at_step": 7});
    let own = mock_options(&Model::new(&config, &tensors(&config)).open().unwrap()).unwrap();
    assert_eq!((own.vocab_size, own.fail_at_step), (40, 7));
    config["mock"] = json!({"no_such_option": 7});
    let e = mock_options(&Model::new(&config, &tensors(&config)).open().unwrap()).unwrap_err();
    assert!(e.message().contains("no_such_option"), "{e}");
}
