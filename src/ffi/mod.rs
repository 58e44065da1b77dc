//! The C ABI: one file per C concept, no logic. `include/quire.h` is generated from these files and
//! their comments.
//!
//! Every exported function goes through `guard::entry` (or a sibling of it), which catches panics and
//! turns an [`Error`](crate::error::Error) into a status and an owned `quire_error`. Pointers are checked
//! before use; outputs are written only on success.

// C callers read these names; Rust's casing rules are not theirs.
#![allow(non_camel_case_types)]

mod cache;
mod chat;
mod detokenizer;
mod engine;
mod error;
mod event;
mod guard;
mod info;
mod log;
mod options;
mod request;
mod text;
mod version;

pub use cache::*;
pub use chat::*;
pub use detokenizer::*;
pub use engine::*;
pub use error::*;
pub use event::*;
pub use info::*;
pub use log::*;
pub use options::*;
pub use request::*;
pub use text::*;
pub use version::*;
