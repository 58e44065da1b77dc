//! Llama 1 to 3.x, SmolLM2, TinyLlama and others that call themselves `llama`: grouped-query attention with
//! rotary positions, gated SiLU feed-forward, RMS norms. (Touvron et al. 2023, arXiv:2302.13971; Llama 3's rope
//! scaling in `config::rope`.)

use super::ModelConfig;
use super::arch::Family;
use super::decoder::{self, Design};

pub(super) const FAMILY: Family = Family {
    name: "llama",
    required: &[],
    always_windowed: false,
    parts: |config, tied| decoder::parts(config, design(config), tied),
    #[cfg(feature = "mlx")]
    load: |config, weights, tied| decoder::load(config, design(config), weights, tied),
};

/// Biases where the configuration says so: in all projections of attention, in all of the feed-forward layer.
fn design(config: &ModelConfig) -> Design {
    let (attention, mlp) = (config.attention_bias, config.mlp_bias);
    Design { qkv_bias: attention, output_bias: attention, mlp_bias: mlp, ..Design::default() }
}
