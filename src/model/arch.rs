//! The families this library runs. A family is one file: the tensors it expects and its forward pass.

use super::tensors::Part;
use super::{ModelConfig, llama};
use crate::error::{Error, Result};

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
}
