//! Models: where they lie on disk, what they are, and (with MLX) how they compute.

mod arch;
mod config;
mod llama;
pub mod tensors;

pub use arch::Architecture;
pub use config::{ModelConfig, QuantParams, Quantization, RopeConfig, RopeScaling};
