//! Models: where they lie on disk, what they are, and (with MLX) how they compute.

mod arch;
mod config;
pub mod from_gguf;
pub mod gguf;
mod llama;
pub mod locate;
pub mod tensors;

pub use arch::Architecture;
pub use config::{ModelConfig, QuantParams, Quantization, RopeConfig, RopeScaling};
