//! What a model is: sizes, rope, quantization, special tokens.
//!
//! Promises: a [`ModelConfig`] that exists is consistent (sizes are positive, heads divide, everything
//! fits the device's 32-bit shapes), so nothing after it checks sizes again; a value it does not
//! understand is an error that names the field, never a silent default; parsing reads no file and knows
//! no MLX.

mod hybrid;
mod json;
mod moe;
mod nemotron;
mod rope;

use std::collections::BTreeMap;
use std::ffi::CStr;

pub use hybrid::{HybridConfig, HybridExperts, LayerKind, MambaConfig};
pub use moe::{MoeConfig, Routing, Scoring};
pub use rope::{RopeConfig, RopeScaling};

pub(super) use json::without_python_numbers;

use super::Architecture;
use crate::error::{Error, Result};

/// A model's shape, in the terms of its `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Which family's forward pass it runs.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Query heads per layer.
    pub heads: usize,
    /// Key and value heads per layer; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Width of the gated feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the embedding: token ids are below this.
    pub vocab_size: usize,
    /// Added under the root in every RMS norm.
    pub rms_norm_eps: f32,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// Whether the output projection is the embedding's transpose. `None` where the configuration does
    /// not say: it is if the checkpoint has no output projection.
    pub tie_word_embeddings: Option<bool>,
    /// Whether the attention projections have biases, for families that leave it open.
    pub attention_bias: bool,
    /// Whether the feed-forward projections have biases, for families that leave it open.
    pub mlp_bias: bool,
    /// The longest context the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// How many tokens a token attends to at most, itself included, where that is less than all.
    pub sliding_window: Option<usize>,
    /// Token that opens a text, if the model has one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// The expert layers, of a family that has them.
    pub moe: Option<MoeConfig>,
    /// How linear layers and embeddings are quantized; `None` if they are not.
    pub quantization: Option<Quantization>,
    /// What its layers are, if they are of several kinds.
    pub hybrid: Option<HybridConfig>,
}

impl ModelConfig {
    /// How many layers have pages.
    pub fn page_layers(&self) -> usize {
        self.hybrid.as_ref().map_or(self.layers, |hybrid| hybrid.count(LayerKind::Attention))
    }

    /// How many layers have recurrent states.
    pub fn recurrent_layers(&self) -> usize {
        self.hybrid.as_ref().map_or(0, |hybrid| hybrid.count(LayerKind::Mamba))
    }

    /// Bytes of one sequence's recurrent states; zero if there are none.
    pub fn state_bytes(&self, element_bytes: usize) -> usize {
        let layer = self.hybrid.as_ref().map_or(0, |hybrid| hybrid.mamba.state_bytes(element_bytes));
        layer * self.recurrent_layers()
    }

    /// Reads a `config.json` in the Hugging Face / MLX layout.
    ///
    /// Errors: `ModelInvalid` naming the field that is missing, of the wrong type or inconsistent;
    /// `ModelUnsupported` naming an architecture, rope type or quantization this library does not run.
    pub fn from_json(text: &str) -> Result<ModelConfig> {
        json::parse(text)
    }

    /// How wide the gated activations are that a model of this configuration may have.
    pub fn gated_widths(&self) -> Vec<usize> {
        let experts = self.moe.as_ref().map(|moe| moe.intermediate_size);
        let mut widths: Vec<usize> = experts.into_iter().collect();
        if self.hybrid.is_none() && !widths.contains(&self.intermediate_size) {
            widths.push(self.intermediate_size);
        }
        widths
    }

    /// Whether some of its feed-forward layers are of experts.
    pub fn has_experts(&self) -> bool {
        self.moe.is_some() || self.hybrid.as_ref().is_some_and(|hybrid| hybrid.experts.is_some())
    }

    /// The longest context this library runs the model with, in tokens: attention is over all of it, so where the
    /// model's own has a window, no more than that.
    pub fn max_context(&self) -> usize {
        self.sliding_window.map_or(self.max_position_embeddings, |w| w.min(self.max_position_embeddings))
    }

    /// Refuses sizes that contradict each other, naming the field.
    pub(super) fn validate(self) -> Result<ModelConfig> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
        ];
        for (field, size) in sizes {
            if size == 0 || size > MAX_SIZE {
                return Err(Error::model(format!("'{field}' is {size}, want 1 to {MAX_SIZE}")));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::model(format!(
                "'num_key_value_heads' is {}, which does not divide 'num_attention_heads' ({})",
                self.kv_heads, self.heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(Error::model(format!("'head_dim' is {}, want an even number", self.head_dim)));
        }
        let widest = self.heads.saturating_mul(self.head_dim).max(self.intermediate_size.saturating_mul(2));
        if widest > MAX_SIZE {
            return Err(Error::model(format!("a layer is {widest} wide, want at most {MAX_SIZE}")));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(Error::model(format!(
                "'rms_norm_eps' is {}, want between 0 and 1",
                self.rms_norm_eps
            )));
        }
        let ids = self.eos_token_ids.iter().map(|id| ("eos_token_id", *id));
        for (field, id) in ids.chain(self.bos_token_id.map(|id| ("bos_token_id", id))) {
            if id as usize >= self.vocab_size {
                return Err(Error::model(format!(
                    "'{field}' is {id}, but 'vocab_size' is {}",
                    self.vocab_size
                )));
            }
        }
        self.rope.validate(self.head_dim)?;
        if let Some(hybrid) = &self.hybrid {
            hybrid.validate(MAX_SIZE)?;
        }
        if let Some(moe) = &self.moe {
            moe.validate(MAX_SIZE)?;
        }
        Ok(self)
    }
}

/// No dimension of a published model comes near; products of two stay far inside 64 bits.
const MAX_SIZE: usize = 1 << 24;

/// What the packed elements and the scales of a weight stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantMode {
    /// Unsigned integers; a group has a float scale and a float bias: `scale * q + bias`.
    Affine,
    /// 4-bit floats (E2M1), a power of two for each 32 (OCP Microscaling Formats 1.0).
    Mxfp4,
    /// 8-bit floats (E4M3), a power of two for each 32 (likewise).
    Mxfp8,
    /// 4-bit floats (E2M1), an 8-bit float (E4M3) for each 16.
    Nvfp4,
}

impl QuantMode {
    /// Every mode.
    pub const ALL: [QuantMode; 4] = [QuantMode::Affine, QuantMode::Mxfp4, QuantMode::Mxfp8, QuantMode::Nvfp4];

    /// Its name in `config.json` and in MLX.
    pub fn c_name(self) -> &'static CStr {
        match self {
            QuantMode::Affine => c"affine",
            QuantMode::Mxfp4 => c"mxfp4",
            QuantMode::Mxfp8 => c"mxfp8",
            QuantMode::Nvfp4 => c"nvfp4",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }

    /// The one group size and number of bits it comes with; none for the affine mode, which has many.
    pub(super) fn only(self) -> Option<(usize, usize)> {
        match self {
            QuantMode::Affine => None,
            QuantMode::Mxfp4 => Some((32, 4)),
            QuantMode::Mxfp8 => Some((32, 8)),
            QuantMode::Nvfp4 => Some((16, 4)),
        }
    }
}

/// How one weight is packed: groups of `group_size` elements share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantParams {
    /// Elements of a row that share a scale.
    pub group_size: usize,
    /// Bits an element takes.
    pub bits: usize,
    /// What elements and scales stand for.
    pub mode: QuantMode,
}

impl QuantParams {
    /// Affine, with these parameters.
    pub const fn affine(group_size: usize, bits: usize) -> QuantParams {
        QuantParams { group_size, bits, mode: QuantMode::Affine }
    }

    /// Refuses what MLX's kernels do not take.
    pub(super) fn validate(self, field: &str) -> Result<QuantParams> {
        if let Some((group_size, bits)) = self.mode.only() {
            if (self.group_size, self.bits) == (group_size, bits) {
                return Ok(self);
            }
            return Err(Error::unsupported(format!(
                "'{field}' has {} bits in groups of {}, but mode \"{}\" is {bits} bits in groups of {group_size}",
                self.bits,
                self.group_size,
                self.mode.name()
            )));
        }
        if !matches!(self.group_size, 32 | 64 | 128) {
            return Err(Error::unsupported(format!(
                "'{field}.group_size' is {}, want 32, 64 or 128",
                self.group_size
            )));
        }
        if !matches!(self.bits, 2 | 3 | 4 | 5 | 6 | 8) {
            return Err(Error::unsupported(format!(
                "'{field}.bits' is {}, want 2, 3, 4, 5, 6 or 8",
                self.bits
            )));
        }
        Ok(self)
    }
}

/// A model's quantization: one setting, and modules that differ from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantization {
    /// For every module that is quantized and not named below.
    pub default: QuantParams,
    /// By module name (`model.embed_tokens`): other parameters, or `None` for a module left dense.
    pub overrides: BTreeMap<String, Option<QuantParams>>,
}

impl Quantization {
    /// What the configuration says of a module: parameters, or `None` if it is left dense. A module
    /// that is not named may still be dense; whether it has scales decides.
    pub fn of(&self, module: &str) -> Option<QuantParams> {
        self.overrides.get(module).copied().unwrap_or(Some(self.default))
    }

    /// A line for people, as in `4 bit, groups of 32 (1 module differs)`.
    pub fn describe(&self) -> String {
        let QuantParams { group_size, bits, mode } = self.default;
        let most = match mode {
            QuantMode::Affine => format!("{bits} bit, groups of {group_size}"),
            other => other.name().to_owned(),
        };
        match self.overrides.len() {
            0 => most,
            1 => format!("{most} (1 module differs)"),
            n => format!("{most} ({n} modules differ)"),
        }
    }
}
