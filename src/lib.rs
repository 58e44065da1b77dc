//! Quire runs language models inside your process, on MLX: many requests at a time in one batch, over a paged
//! key-value cache that shares equal prefixes, answers streamed as they come.
//!
//! Applications use the C ABI, `include/quire.h`; this page is for whoever works on the library.
//!
//! A request's way through the crate: [`ffi`] reads it from C; [`engine`] checks it, tokenizes its prompt on the
//! caller's thread ([`text`]) and sends it to the one thread that owns the model. There the [`scheduler`] plans
//! each step from ids alone, with pages from the [`cache`]; a runner launches it on the device, where the
//! [`model`]'s layers run on [`kernels`] and MLX and [`sampling`] picks the tokens; while the device works on
//! the next step, the engine turns the last one's tokens into text and events, and works out what a [`grammar`]
//! allows to follow them.
//!
//! Imports go down only: `ffi` to `engine` to `scheduler`, `model`, `sampling`, `grammar` and `text` to `cache` and `kernels`
//! to `mlx`. What knows no MLX (`scheduler`, `text`, `grammar`, `engine`, the page index, all checks of a model's files)
//! builds with `--no-default-features`, on a deterministic mock behind the same runner trait: most tests,
//! sanitizers and valgrind run on that build, in seconds.
//!
//! To begin reading: `engine/worker.rs` is the loop, `scheduler/mod.rs` its protocol, `model/llama.rs` a model.

pub mod cache;
pub mod engine;
pub mod error;
pub mod ffi;
pub mod grammar;
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
