//! Quire runs language models inside your process, on MLX.

pub mod cache;
pub mod engine;
pub mod error;
pub mod ffi;
pub mod kernels;
pub mod log;
#[cfg(feature = "mlx")]
pub mod mlx;
pub mod model;
mod panic;
pub mod sampling;
pub mod scheduler;
pub mod text;

// mlx-rs marks its error handler `no_mangle`, which would make it an export of libquire. The linker
// gives a symbol the narrowest visibility that any object asks for.
#[cfg(all(feature = "mlx", target_os = "linux"))]
core::arch::global_asm!(".hidden default_mlx_error_handler");
