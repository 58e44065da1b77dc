//! Quire runs language models inside your process, on MLX.

pub mod cache;
pub mod engine;
pub mod error;
pub mod ffi;
pub mod kernels;
pub mod log;
pub mod model;
pub mod sampling;
pub mod scheduler;
pub mod text;
