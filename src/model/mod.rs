//! Models: where they lie on disk, what they are, and (with MLX) how they compute.
//!
//! To add a family, write one file like `mistral.rs` and name it in `arch.rs`: docs/adding-a-model.md.

mod arch;
#[cfg(feature = "mlx")]
pub mod batch;
pub mod budget;
mod checkpoint;
mod config;
mod decoder;
mod fingerprint;
#[cfg_attr(not(feature = "mlx"), expect(dead_code, reason = "weights are read with MLX only"))]
mod finite;
pub mod from_gguf;
pub mod gguf;
mod info;
#[cfg(feature = "mlx")]
pub mod layers;
mod llama;
pub mod locate;
mod mistral;
mod nemotron_h;
mod options;
mod qwen2;
mod qwen3;
mod qwen3_moe;
pub mod tensors;
#[cfg(feature = "mlx")]
pub mod weights;

pub use arch::Architecture;
#[cfg(feature = "mlx")]
pub use arch::Model;
pub use checkpoint::Checkpoint;
pub use config::{
    HybridConfig, HybridExperts, LayerKind, MambaConfig, ModelConfig, MoeConfig, QuantMode, QuantParams,
    Quantization, RopeConfig, RopeScaling, Routing, Scoring,
};
pub use info::ModelInfo;
pub use locate::{ModelFiles, locate};
pub(crate) use options::aborted;
pub use options::{LoadOptions, Progress, WeightFormat};
