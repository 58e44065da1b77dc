//! The owner thread, its commands and events, its life cycle and statistics.

#[cfg(feature = "mlx")]
pub mod mlx_runner;
pub mod mock;
mod runner;

pub use runner::{MemoryUse, Runner, Sampled};
