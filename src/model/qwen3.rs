//! Qwen3: a llama that normalizes each query and key head before rotating it, and has no biases. (Yang et al.
//! 2025, arXiv:2505.09388.)

use super::ModelConfig;
use super::arch::Family;
use super::decoder::{self, Design};

pub(super) const FAMILY: Family = Family {
    name: "qwen3",
    // What no default can stand for: Hugging Face's and MLX's differ, or MLX has none.
    required: &["num_key_value_heads", "head_dim", "rope_theta", "max_position_embeddings"],
    always_windowed: false,
    parts: |config, tied| decoder::parts(config, design(config), tied),
    #[cfg(feature = "mlx")]
    load: |config, weights, tied| decoder::load(config, design(config), weights, tied),
};

/// Published models have no biases; the configuration can ask for attention's.
pub(super) fn design(config: &ModelConfig) -> Design {
    let bias = config.attention_bias;
    Design { qkv_bias: bias, output_bias: bias, head_norms: true, mlp_bias: false }
}
