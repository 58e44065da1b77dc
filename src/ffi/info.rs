//! Statistics and model information.

use std::ffi::c_char;

use super::engine::quire_engine;
use super::error::{quire_error, quire_status};
use super::guard;

/// A snapshot of what an engine does and has done. Set `struct_size` to `sizeof(quire_statistics)`, then
/// call `quire_engine_statistics`.
#[repr(C)]
pub struct quire_statistics {
    /// Size of this struct in bytes; set by the caller.
    pub struct_size: usize,
    /// Requests accepted since the engine was made.
    pub requests_accepted: u64,
    /// Of these, finished.
    pub requests_finished: u64,
    /// Of these, cancelled.
    pub requests_cancelled: u64,
    /// Of these, failed.
    pub requests_failed: u64,
    /// Requests running now.
    pub requests_running: u64,
    /// Requests waiting now.
    pub requests_waiting: u64,
    /// Steps run.
    pub steps: u64,
    /// Prompt tokens that came in.
    pub prompt_tokens: u64,
    /// Prompt tokens whose pages were reused instead of computed: the tokens saved.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Requests that found at least one token of theirs in the cache.
    pub prefix_hits: u64,
    /// Times a running request was put aside for lack of pages, to be recomputed later.
    pub preemptions: u64,
    /// Pages in the pool.
    pub blocks_total: u64,
    /// Pages that hold nothing.
    pub blocks_free: u64,
    /// Pages that no request uses and a later one may reuse.
    pub blocks_cached: u64,
    /// Pages that running requests use; free + cached + in use = total.
    pub blocks_in_use: u64,
    /// Pages that were taken for new content since the engine was made.
    pub blocks_allocated: u64,
    /// Times a page was shared instead of computed anew.
    pub blocks_shared: u64,
    /// Cached pages that were given up for new content.
    pub blocks_evicted: u64,
    /// Bytes of weights as held.
    pub weight_bytes: u64,
    /// Bytes of the page pool.
    pub cache_bytes: u64,
    /// Most bytes the model's allocator ever held.
    pub peak_bytes: u64,
}

/// Fills `statistics`.
///
/// Any thread, callbacks too. Fails with `QUIRE_INVALID_ARGUMENT` or `QUIRE_INVALID_STRUCT_SIZE`.
///
/// # Safety
/// `engine` is a live engine; `statistics` is writable for its `struct_size`; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_statistics(
    engine: *const quire_engine,
    statistics: *mut quire_statistics,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let s = guard::reference(engine, "engine")?.inner().statistics();
            guard::fill_struct(statistics, "statistics", |struct_size| quire_statistics {
                struct_size,
                requests_accepted: s.accepted,
                requests_finished: s.finished,
                requests_cancelled: s.cancelled,
                requests_failed: s.failed,
                requests_running: s.running,
                requests_waiting: s.waiting,
                steps: s.steps,
                prompt_tokens: s.prompt_tokens,
                cached_tokens: s.cached_tokens,
                generated_tokens: s.generated_tokens,
                prefix_hits: s.prefix_hits,
                preemptions: s.preemptions,
                blocks_total: s.blocks_total,
                blocks_free: s.blocks_free,
                blocks_cached: s.blocks_cached,
                blocks_in_use: s.blocks_in_use,
                blocks_allocated: s.blocks_allocated,
                blocks_shared: s.blocks_shared,
                blocks_evicted: s.blocks_evicted,
                weight_bytes: s.memory.weights,
                cache_bytes: s.memory.pages,
                peak_bytes: s.memory.peak,
            })
        }
    })
}

/// What a model is. Set `struct_size` to `sizeof(quire_model_info)`, then call `quire_engine_model_info`.
/// The strings live as long as the engine.
#[repr(C)]
pub struct quire_model_info {
    /// Size of this struct in bytes; set by the caller.
    pub struct_size: usize,
    /// The architecture's name ("llama"), NUL-terminated.
    pub architecture: *const c_char,
    /// How the weights are stored ("4-bit affine, groups of 32"), NUL-terminated.
    pub quantization: *const c_char,
    /// What the model runs on ("CPU", or the GPU's name), NUL-terminated.
    pub device: *const c_char,
    /// Tokens in the vocabulary.
    pub vocab_size: u32,
    /// Longest prompt plus answer in tokens.
    pub max_context: u32,
    /// Layers.
    pub layers: u32,
    /// Size of the hidden state.
    pub hidden_size: u32,
    /// Attention heads.
    pub heads: u32,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Size of a head.
    pub head_dim: u32,
    /// Tokens in one page.
    pub block_tokens: u32,
    /// Pages in the pool.
    pub blocks: u32,
    /// 1 if the model came with a tokenizer, else 0.
    pub has_tokenizer: i32,
    /// Bytes of weights as held.
    pub weight_bytes: u64,
}

/// Fills `info`.
///
/// Any thread, callbacks too. Fails with `QUIRE_INVALID_ARGUMENT` or `QUIRE_INVALID_STRUCT_SIZE`.
///
/// # Safety
/// `engine` is a live engine; `info` is writable for its `struct_size`; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_model_info(
    engine: *const quire_engine,
    info: *mut quire_model_info,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let engine = guard::reference(engine, "engine")?;
            let (model, names) = (engine.inner().model_info(), engine.names());
            guard::fill_struct(info, "info", |struct_size| quire_model_info {
                struct_size,
                architecture: names.architecture.as_ptr(),
                quantization: names.quantization.as_ptr(),
                device: names.device.as_ptr(),
                vocab_size: model.vocab_size,
                max_context: model.max_context,
                layers: model.layers,
                hidden_size: model.hidden_size,
                heads: model.heads,
                kv_heads: model.kv_heads,
                head_dim: model.head_dim,
                block_tokens: model.block_size,
                blocks: model.num_blocks,
                has_tokenizer: i32::from(engine.inner().tokenizer().is_some()),
                weight_bytes: model.weight_bytes,
            })
        }
    })
}
