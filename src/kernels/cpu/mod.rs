//! Kernels for CPUs, in plain Rust that the compiler vectorizes: one source for AVX-512, AVX2 and NEON.
//!
//! They know slices, not MLX; `mlx::host_op` puts them into MLX's graph. Activations are float32.

mod attention;
mod experts;
mod norm;
mod qmm;
mod simd;
mod threads;

pub use attention::{AttentionShape, PagedRow, Pages, Projected, paged_attention};
pub use experts::{ExpertActivation, ExpertRoutes, ExpertWeights, expert_mlp};
pub use norm::{rms_norm, swiglu};
pub use qmm::{QuantizedWeights, dequantize, quantized_matmul};
pub use threads::Threads;
