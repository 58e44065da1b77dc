//! The families this library runs. A family is one file: the tensors it expects and its forward pass.

use super::tensors::Part;
use super::{ModelConfig, llama};
use crate::error::{Error, Result};
#[cfg(feature = "mlx")]
use crate::mlx::{Array, Dtype};

/// A model family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1 to 3.x, SmolLM2, TinyLlama and others that call themselves `llama`.
    Llama,
}

impl Architecture {
    /// The family of a `model_type` (of `config.json`) or `general.architecture` (of a GGUF file).
    ///
    /// Errors: `ModelUnsupported`, naming it.
    pub fn from_model_type(name: &str) -> Result<Architecture> {
        match name {
            "llama" => Ok(Architecture::Llama),
            other => Err(Error::unsupported(format!(
                "architecture \"{other}\" is not supported; supported: llama"
            ))),
        }
    }

    /// The family's name, as `config.json` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
        }
    }

    /// Every part with weights that a model of this family and configuration has.
    pub fn parts(self, config: &ModelConfig, tied: bool) -> Vec<Part> {
        match self {
            Architecture::Llama => llama::parts(config, tied),
        }
    }

    /// Loads a model of this family.
    #[cfg(feature = "mlx")]
    pub fn load(
        self,
        config: &ModelConfig,
        weights: &mut super::weights::Weights,
        tied: bool,
    ) -> Result<Box<dyn Model>> {
        match self {
            Architecture::Llama => Ok(Box::new(llama::Llama::load(config, weights, tied)?)),
        }
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

    /// The logits of these rows `[n]` of what [`Model::forward`] gave: `[n, vocab]`.
    fn logits(&self, hidden: &Array, rows: &Array) -> Result<Array>;

    /// The rotation its rows need, to lay out a [`Batch`](super::batch::Batch).
    fn rope(&self) -> &super::layers::Rope;

    /// The type it computes in, and its pages hold.
    fn dtype(&self) -> Dtype;

    /// Whether its matrices are held as floats.
    fn is_dense(&self) -> bool;
}
