//! Engine options.

use std::ffi::{c_char, c_void};

use super::error::{quire_error, quire_status};
use super::event::quire_event;
use super::guard;
use super::log::quire_release_fn;
use crate::engine::EngineOptions;

/// How weights are held in memory.
pub type quire_weight_format = i32;

/// As stored on a GPU; on a CPU dense 32-bit floats if these take at most a quarter of the physical
/// memory (a CPU multiplies them several times faster), as stored otherwise.
pub const QUIRE_WEIGHTS_AUTO: quire_weight_format = 0;
/// As the model's files store them.
pub const QUIRE_WEIGHTS_AS_STORED: quire_weight_format = 1;
/// Dense 32-bit floats.
pub const QUIRE_WEIGHTS_FLOAT32: quire_weight_format = 2;

/// Called with each event of an engine, one at a time, in order, on the engine's dispatcher thread. The
/// event is the library's and valid until the function returns. The function may call any function of
/// this library but `quire_engine_shutdown`; it must not throw or jump out.
pub type quire_event_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const quire_event)>;

/// Called while a model loads, on the thread that called `quire_engine_create`. `fraction` runs from 0 to
/// 1; `stage` is a short NUL-terminated description, valid until the function returns. Return 0 to go on,
/// anything else to stop: create then fails with `QUIRE_ABORTED`.
pub type quire_progress_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, fraction: f32, stage: *const c_char) -> i32>;

/// What an engine is made of. Fill with `quire_engine_options_init`, then set `model` and what else you
/// like. Everything is copied during `quire_engine_create`.
#[repr(C)]
pub struct quire_engine_options {
    /// Size of this struct in bytes; set by `quire_engine_options_init`.
    pub struct_size: usize,
    /// The model: a directory (config.json, safetensors, tokenizer.json), a GGUF file, or a name
    /// "org/name" in the local Hugging Face cache. UTF-8, `model_len` bytes, no NUL needed. Required.
    pub model: *const c_char,
    /// Length of `model` in bytes.
    pub model_len: usize,
    /// Most sequences that run at the same time, 1 to 4096. Default 64.
    pub max_sequences: u32,
    /// Most requests beyond those that may wait, 0 to 1,000,000. Default 1024. A request that finds no
    /// place is refused with `QUIRE_QUEUE_FULL`.
    pub max_waiting: u32,
    /// Longest prompt plus answer in tokens. Default 0: what the model was made for.
    pub max_context: u32,
    /// Most tokens computed in one step, 16 to 32768 and more than `max_sequences`. Long prompts are cut into
    /// chunks that leave room for the streams that are decoding. Default 512.
    pub max_step_tokens: u32,
    /// Tokens in one page of the key-value cache, a power of two from 1 to 1024. Default 16.
    pub block_tokens: u32,
    /// How to hold weights: `QUIRE_WEIGHTS_AUTO` (default), `QUIRE_WEIGHTS_AS_STORED` or
    /// `QUIRE_WEIGHTS_FLOAT32`.
    pub weight_format: quire_weight_format,
    /// Memory for the key-value cache in bytes. Default 0: chosen from what the device has left. For a model with
    /// recurrent layers (Mamba-2) it also holds `max_sequences` states and snapshots of such.
    pub cache_bytes: u64,
    /// 1 to compute every prompt in full, never reusing pages of equal prefixes. Default 0.
    pub disable_prefix_sharing: i32,
    /// Receives all events on a thread of the engine's own. Default NULL: events are taken with
    /// `quire_engine_poll` and `quire_engine_wait` instead.
    pub on_event: quire_event_fn,
    /// First argument of `on_event`.
    pub on_event_data: *mut c_void,
    /// Called once with `on_event_data` after the last event, also when create fails, unless it fails because
    /// the options are NULL or of an unknown size. May be NULL.
    pub release_on_event_data: quire_release_fn,
    /// Receives loading progress during `quire_engine_create`. May be NULL.
    pub on_progress: quire_progress_fn,
    /// First argument of `on_progress`.
    pub on_progress_data: *mut c_void,
}

/// Fills `options` with defaults. `struct_size` is `sizeof(quire_engine_options)` as your compiler sees it.
///
/// Any thread. Fails with `QUIRE_INVALID_ARGUMENT` (NULL) or `QUIRE_INVALID_STRUCT_SIZE`.
///
/// # Safety
/// `options` points to `struct_size` writable bytes; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_options_init(
    options: *mut quire_engine_options,
    struct_size: usize,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        let defaults = EngineOptions::default();
        // SAFETY: the caller vouches for `struct_size` writable bytes.
        unsafe {
            guard::init_struct(
                options,
                struct_size,
                "options",
                quire_engine_options {
                    struct_size,
                    model: std::ptr::null(),
                    model_len: 0,
                    max_sequences: defaults.max_sequences,
                    max_waiting: defaults.max_waiting,
                    max_context: 0,
                    max_step_tokens: defaults.max_step_tokens,
                    block_tokens: defaults.block_tokens,
                    weight_format: QUIRE_WEIGHTS_AUTO,
                    cache_bytes: 0,
                    disable_prefix_sharing: 0,
                    on_event: None,
                    on_event_data: std::ptr::null_mut(),
                    release_on_event_data: None,
                    on_progress: None,
                    on_progress_data: std::ptr::null_mut(),
                },
            )
        }
    })
}
