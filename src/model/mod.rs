//! Models: where they lie on disk, what they are, and (with MLX) how they compute.

pub mod gguf;
pub mod locate;
