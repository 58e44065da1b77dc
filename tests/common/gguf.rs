//! Puts a model of `formula.rs` without quantization into a GGUF file, as converters do.

// The writer of the crate's own tests.
#[allow(dead_code)]
#[path = "../../src/model/gguf/testing.rs"]
mod writer;

use super::formula::{Reference, Tensor};
use writer::GgufBytes;

/// The file, gone when dropped.
pub fn write(reference: &Reference) -> tempfile::NamedTempFile {
    let config = &reference.config;
    let family = config["model_type"].as_str().unwrap();
    let size = |name: &str| config[name].as_u64().unwrap() as u32;
    let key = |name: &str| format!("{family}.{name}");
    let f32_key =
        |file: GgufBytes, name: &str, value: f64| file.key(&key(name), 6, &(value as f32).to_le_bytes());
    let mut file = GgufBytes::default()
        .str("general.architecture", family)
        .u32(&key("embedding_length"), size("hidden_size"))
        .u32(&key("block_count"), size("num_hidden_layers"))
        .u32(&key("attention.head_count"), size("num_attention_heads"))
        .u32(&key("attention.head_count_kv"), size("num_key_value_heads"))
        .u32(&key("feed_forward_length"), size("intermediate_size"))
        .u32(&key("context_length"), size("max_position_embeddings"))
        .u32("tokenizer.ggml.eos_token_id", size("eos_token_id"));
    file = f32_key(file, "attention.layer_norm_rms_epsilon", config["rms_norm_eps"].as_f64().unwrap());
    file = f32_key(file, "rope.freq_base", config["rope_theta"].as_f64().unwrap());
    let head_dim =
        config["head_dim"].as_u64().unwrap_or(u64::from(size("hidden_size") / size("num_attention_heads")));
    for tensor in &reference.tensors {
        let permuted =
            family == "llama" && (tensor.name.contains("q_proj") || tensor.name.contains("k_proj"));
        let bytes = if permuted { interleaved(tensor, head_dim as usize) } else { tensor.bytes() };
        let kind = match tensor.dtype.as_str() {
            "F32" => 0,
            "F16" => 1,
            "BF16" => 30,
            other => panic!("{}: {other}", tensor.name),
        };
        let ne: Vec<u64> = tensor.shape.iter().rev().map(|&n| n as u64).collect();
        file = file.tensor(&gguf_name(&tensor.name), &ne, kind, &bytes);
    }
    file.write()
}

/// Rows of each head in the order 0, d/2, 1, d/2 + 1, ...
fn interleaved(tensor: &Tensor, head_dim: usize) -> Vec<u8> {
    let bytes = tensor.bytes();
    let row = bytes.len() / tensor.shape[0];
    let half = head_dim / 2;
    let order = |r: usize| r / head_dim * head_dim + r % 2 * half + r % head_dim / 2;
    (0..tensor.shape[0]).flat_map(|r| bytes[order(r) * row..][..row].to_vec()).collect()
}

fn gguf_name(name: &str) -> String {
    let modules = [
        ("model.layers.", "blk."),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
    ];
    modules.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}
