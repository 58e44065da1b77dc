//! The owner thread, its commands and events, its life cycle and statistics.

pub mod mock;
mod runner;

pub use runner::{MemoryUse, Runner, Sampled};
