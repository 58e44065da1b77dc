//! The families this library runs. A family is one file, which says so in a [`Family`].

use super::tensors::Part;
use super::{ModelConfig, llama, mistral, nemotron_h, qwen2, qwen3, qwen3_moe};
use crate::error::{Error, Result};
#[cfg(feature = "mlx")]
use crate::mlx::Array;

/// A model family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1 to 3.x, SmolLM2, TinyLlama and others that call themselves `llama`.
    Llama,
    /// Mistral.
    Mistral,
    /// Nemotron-H and Nemotron 3: Mamba-2, attention, feed-forward layers and experts mixed.
    NemotronH,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3.
    Qwen3,
    /// Qwen3's mixtures of experts.
    Qwen3Moe,
}

/// What a family's file says of it.
pub(super) struct Family {
    /// Its `model_type` (of `config.json`) or `general.architecture` (of a GGUF file).
    pub name: &'static str,
    /// Fields of `config.json` that must be there, beside those that every family needs.
    pub required: &'static [&'static str],
    /// Whether attention has a window wherever the configuration has a `sliding_window`, rather than where it
    /// also says that it is used.
    pub always_windowed: bool,
    /// Every part with weights that a model of this configuration has, its output projection tied or not.
    pub parts: fn(&ModelConfig, bool) -> Vec<Part>,
    /// Loads a model, its output projection tied or not.
    #[cfg(feature = "mlx")]
    pub load: fn(&ModelConfig, &mut super::weights::Weights, bool) -> Result<Box<dyn Model>>,
}

impl Architecture {
    /// Every family, in the order of their names.
    pub const ALL: [Architecture; 6] = [
        Architecture::Llama,
        Architecture::Mistral,
        Architecture::NemotronH,
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Qwen3Moe,
    ];

    pub(super) fn family(self) -> &'static Family {
        match self {
            Architecture::Llama => &llama::FAMILY,
            Architecture::Mistral => &mistral::FAMILY,
            Architecture::NemotronH => &nemotron_h::FAMILY,
            Architecture::Qwen2 => &qwen2::FAMILY,
            Architecture::Qwen3 => &qwen3::FAMILY,
            Architecture::Qwen3Moe => &qwen3_moe::FAMILY,
        }
    }

    /// The family of a `model_type` (of `config.json`) or `general.architecture` (of a GGUF file).
    ///
    /// Errors: `ModelUnsupported`, naming it.
    pub fn from_model_type(name: &str) -> Result<Architecture> {
        Self::ALL.into_iter().find(|family| family.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Architecture::name).join(", ");
            Error::unsupported(format!("architecture \"{name}\" is not supported; supported: {known}"))
        })
    }

    /// The family's name, as `config.json` spells it.
    pub fn name(self) -> &'static str {
        self.family().name
    }

    /// Every part with weights that a model of this family and configuration has.
    pub fn parts(self, config: &ModelConfig, tied: bool) -> Vec<Part> {
        (self.family().parts)(config, tied)
    }

    /// Loads a model of this family.
    #[cfg(feature = "mlx")]
    pub fn load(
        self,
        config: &ModelConfig,
        weights: &mut super::weights::Weights,
        tied: bool,
    ) -> Result<Box<dyn Model>> {
        (self.family().load)(config, weights, tied)
    }
}

/// A model with its weights, on the thread that loaded it.
#[cfg(feature = "mlx")]
pub trait Model {
    /// Builds the graph of one step: tokens `[rows]` (those that only fill up included) to the residual
    /// stream behind the last layer, `[rows, hidden]`. Nothing is evaluated.
    fn forward(
        &self,
        tokens: &Array,
        batch: &super::batch::Batch,
        pages: &mut crate::cache::pages::Pages,
    ) -> Result<Array>;

    /// What is before and behind its layers: the logits of what [`Model::forward`] gives, and what a
    /// [`Batch`](super::batch::Batch) is laid out by.
    fn ends(&self) -> &super::layers::Ends;

    /// What one sequence's state in a recurrent layer looks like, if it has such layers.
    fn state_shape(&self) -> Option<crate::cache::states::StateShape> {
        None
    }
}
