//! Llama: grouped-query attention with rotary positions, gated SiLU feed-forward, RMS norms.
//! (Touvron et al. 2023, arXiv:2302.13971; Llama 3's rope scaling in `config::rope`.)

use super::tensors::Part;
use super::{ModelConfig, RopeScaling};

/// Every tensor a llama checkpoint must have.
pub(super) fn parts(config: &ModelConfig, tied: bool) -> Vec<Part> {
    let hidden = config.hidden_size;
    let matrix = |module: String, rows, columns, bias| Part::Matrix { module, rows, columns, bias };
    let norm = |module: &str| Part::Vector { name: format!("{module}.weight"), len: hidden };
    let queries = config.heads * config.head_dim;
    let keys = config.kv_heads * config.head_dim;

    let mut parts = vec![matrix("model.embed_tokens".into(), config.vocab_size, hidden, false)];
    for layer in 0..config.layers {
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        let (attention, mlp) = (config.attention_bias, config.mlp_bias);
        parts.extend([
            norm(&at("input_layernorm")),
            matrix(at("self_attn.q_proj"), queries, hidden, attention),
            matrix(at("self_attn.k_proj"), keys, hidden, attention),
            matrix(at("self_attn.v_proj"), keys, hidden, attention),
            matrix(at("self_attn.o_proj"), hidden, queries, attention),
            norm(&at("post_attention_layernorm")),
            matrix(at("mlp.gate_proj"), config.intermediate_size, hidden, mlp),
            matrix(at("mlp.up_proj"), config.intermediate_size, hidden, mlp),
            matrix(at("mlp.down_proj"), hidden, config.intermediate_size, mlp),
        ]);
    }
    parts.push(norm("model.norm"));
    if !tied {
        parts.push(matrix("lm_head".into(), config.vocab_size, hidden, false));
    }
    if config.rope.scaling == RopeScaling::Tensor {
        parts.push(Part::Vector { name: "rope_freqs.weight".into(), len: config.head_dim / 2 });
    }
    parts
}
