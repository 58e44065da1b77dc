//! Models: where they lie on disk, what they are, and (with MLX) how they compute.
//!
//! To add a family, write one file like `llama.rs` (the tensors it expects, its forward pass) and name it
//! in `arch.rs`.

mod arch;
#[cfg(feature = "mlx")]
pub mod batch;
mod budget;
mod checkpoint;
mod config;
mod fingerprint;
pub mod from_gguf;
pub mod gguf;
mod info;
#[cfg(feature = "mlx")]
pub mod layers;
mod llama;
pub mod load;
pub mod locate;
pub mod tensors;
#[cfg(feature = "mlx")]
pub mod weights;

pub use arch::Architecture;
#[cfg(feature = "mlx")]
pub use arch::Model;
pub use checkpoint::Checkpoint;
pub use config::{ModelConfig, QuantParams, Quantization, RopeConfig, RopeScaling};
pub use info::ModelInfo;
pub use load::{LoadOptions, Loaded, WeightFormat, load};
pub use locate::{ModelFiles, locate};

/// The error of a load that its caller stopped.
fn aborted() -> crate::error::Error {
    crate::error::Error::new(crate::error::Status::Aborted, "loading was stopped by the progress callback")
}
