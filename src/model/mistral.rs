//! Mistral: a llama without biases, whose first versions attend to a sliding window of the last 4096 tokens.
//! (Jiang et al. 2023, arXiv:2310.06825.)

use super::arch::Family;
use super::decoder::{self, Design};

pub(super) const FAMILY: Family = Family {
    name: "mistral",
    // Hugging Face's and MLX's defaults for these differ.
    required: &["num_key_value_heads", "max_position_embeddings"],
    always_windowed: true,
    parts: |config, tied| decoder::parts(config, Design::default(), tied),
    #[cfg(feature = "mlx")]
    load: |config, weights, tied| decoder::load(config, Design::default(), weights, tied),
};
