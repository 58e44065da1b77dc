//! What a loaded model is, for people and programs.

use super::ModelConfig;

/// A loaded model's properties.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// The family, as `config.json` spells it.
    pub architecture: String,
    /// Token ids are below this.
    pub vocab_size: u32,
    /// The longest context, in tokens: the model's own, or what the load options or the cache allow.
    pub max_context: u32,
    /// Transformer blocks.
    pub layers: u32,
    /// Query heads per layer.
    pub heads: u32,
    /// Key and value heads per layer.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Bits most weights are stored with; 16 or 32 if they are not quantized.
    pub quantization_bits: u32,
    /// How weights are stored, as in `4 bit, groups of 32 (1 module differs), held as float32`.
    pub quantization: String,
    /// Bytes of the weights, as held.
    pub weight_bytes: u64,
    /// Tokens a block of the page pool holds.
    pub block_size: u32,
    /// Blocks in the page pool.
    pub num_blocks: u32,
    /// What runs the model, as in `Apple M3 Max` or `CPU`.
    pub device: String,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// Token that opens a text, if the model has one.
    pub bos_token_id: Option<u32>,
}

impl ModelInfo {
    /// What the configuration says; sizes of memory and the device are the loader's to fill in.
    pub(crate) fn of(config: &ModelConfig) -> ModelInfo {
        // A configuration's sizes are far below 2^32 (`ModelConfig` checks them).
        let n = |size: usize| size as u32;
        let default = config.quantization.as_ref().map(|q| q.default.bits);
        ModelInfo {
            architecture: config.architecture.name().to_owned(),
            vocab_size: n(config.vocab_size),
            max_context: n(config.max_context()),
            layers: n(config.layers),
            heads: n(config.heads),
            kv_heads: n(config.kv_heads),
            head_dim: n(config.head_dim),
            hidden_size: n(config.hidden_size),
            quantization_bits: default.map_or(0, n),
            quantization: config
                .quantization
                .as_ref()
                .map_or_else(|| "not quantized".into(), |q| q.describe()),
            weight_bytes: 0,
            block_size: 0,
            num_blocks: 0,
            device: String::new(),
            eos_token_ids: config.eos_token_ids.clone(),
            bos_token_id: config.bos_token_id,
        }
    }
}
