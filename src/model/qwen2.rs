//! Qwen2 and Qwen2.5: a llama with biases in the query, key and value projections. (Yang et al. 2024,
//! arXiv:2407.10671.)

use super::arch::Family;
use super::decoder::{self, Design};

pub(super) const FAMILY: Family = Family {
    name: "qwen2",
    // Hugging Face's and MLX's defaults for these differ.
    required: &["num_key_value_heads", "rope_theta"],
    always_windowed: false,
    parts: |config, tied| decoder::parts(config, DESIGN, tied),
    #[cfg(feature = "mlx")]
    load: |config, weights, tied| decoder::load(config, DESIGN, weights, tied),
};

const DESIGN: Design = Design { qkv_bias: true, output_bias: false, head_norms: false, mlp_bias: false };
