//! The owner thread, its commands and events, its life cycle and statistics.

mod runner;

pub use runner::{MemoryUse, Runner, Sampled};
