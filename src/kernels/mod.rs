//! Fused kernels and their launchers.
//!
//! `cpu`: for MLX's CPU backend, which on x86 multiplies quantized weights one number at a time.
//! `gpu`: for Metal and CUDA, from one text.

pub mod cpu;
#[cfg(feature = "mlx")]
pub mod gpu;
#[cfg(quire_host_op)]
pub mod host;
