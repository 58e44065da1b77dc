//! Fused kernels and their launchers.
//!
//! `cpu`: for MLX's CPU backend, which on x86 multiplies quantized weights one number at a time.

pub mod cpu;
#[cfg(quire_host_op)]
pub mod host;
