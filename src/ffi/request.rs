//! Requests: options, submit, cancel.

mod read;

use std::ffi::{c_char, c_void};

use self::read::read_request;
use super::chat::quire_chat;
use super::engine::quire_engine;
use super::error::{quire_error, quire_status};
use super::guard;
use crate::sampling::SamplingParams;

/// In which form a grammar is written.
pub type quire_grammar_kind = i32;

/// There is no grammar.
pub const QUIRE_GRAMMAR_NONE: quire_grammar_kind = 0;
/// A JSON schema; the answer is JSON that it validates.
pub const QUIRE_GRAMMAR_JSON_SCHEMA: quire_grammar_kind = 1;
/// Any JSON object; there is no text.
pub const QUIRE_GRAMMAR_JSON_OBJECT: quire_grammar_kind = 2;
/// A regular expression (syntax of Rust's regex crate) that the whole answer matches.
pub const QUIRE_GRAMMAR_REGEX: quire_grammar_kind = 3;
/// A grammar in llguidance's dialect of Lark.
pub const QUIRE_GRAMMAR_LARK: quire_grammar_kind = 4;
/// A JSON array of strings; the answer is one of them.
pub const QUIRE_GRAMMAR_CHOICE: quire_grammar_kind = 5;

/// What is added to a token's logit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct quire_logit_bias {
    /// The token.
    pub token: u32,
    /// Added to its logit before anything else happens; minus infinity bans it.
    pub bias: f32,
}

/// A piece of text that goes in: UTF-8, no NUL needed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct quire_string {
    /// The bytes; may be NULL if `len` is 0.
    pub bytes: *const c_char,
    /// Their number.
    pub len: usize,
}

/// Whether an answer is taken apart. The model's chat template tells how it marks reasoning (`<think>`) and
/// tool calls: JSON or functions in `<tool_call>` (Qwen, Hermes, Nemotron), `[TOOL_CALLS]` (Mistral), or JSON by
/// itself (Llama, only where there are tools). In other formats all is text.
pub type quire_parse = i32;

/// If the prompt is a `chat`.
pub const QUIRE_PARSE_DEFAULT: quire_parse = 0;
/// Also if it is `prompt`, whose text may end inside `<think>`.
pub const QUIRE_PARSE_ON: quire_parse = 1;
/// No: the whole answer comes as text, as the model wrote it.
pub const QUIRE_PARSE_OFF: quire_parse = 2;

/// One request. Fill with `quire_request_options_init`, then set a prompt (one of `prompt`, `prompt_tokens`
/// and `chat`) and what else you like. Everything is copied during `quire_engine_submit`.
#[repr(C)]
pub struct quire_request_options {
    /// Size of this struct in bytes; set by `quire_request_options_init`.
    pub struct_size: usize,
    /// The prompt as UTF-8 text of `prompt_len` bytes; no NUL needed. Special tokens written out in it
    /// (such as "<|im_start|>") are recognised. Needs a model with a tokenizer.
    pub prompt: *const c_char,
    /// Length of `prompt` in bytes.
    pub prompt_len: usize,
    /// The prompt as `prompt_token_count` token ids, run as they are.
    pub prompt_tokens: *const u32,
    /// Number of prompt tokens.
    pub prompt_token_count: usize,
    /// Most tokens to generate, at least 1. Default 256.
    pub max_tokens: u32,
    /// Divides the logits, 0 to 100; 0 always takes the most likely token. Default 0.
    pub temperature: f32,
    /// Keep only the `top_k` most likely tokens. Default 0: keep all.
    pub top_k: u32,
    /// Keep the smallest set of most likely tokens that together have this probability, above 0 and at
    /// most 1. Default 1.
    pub top_p: f32,
    /// Drop tokens less likely than this times the most likely one, 0 to 1. Default 0.
    pub min_p: f32,
    /// Seeds the random draws: the same seed, prompt and settings give the same tokens, whatever else
    /// runs. Default: a fresh random number, drawn by `quire_request_options_init`.
    pub seed: u64,
    /// Further tokens that end the answer, besides the model's own end-of-sequence tokens.
    pub stop_tokens: *const u32,
    /// Number of stop tokens.
    pub stop_token_count: usize,
    /// 1 to go on past the model's end-of-sequence tokens. Default 0.
    pub ignore_eos: i32,
    /// Requests of higher priority start first and are put aside last. Default 0.
    pub priority: i32,
    /// The request fails with `QUIRE_DEADLINE_EXCEEDED` if it is not done this many milliseconds after
    /// submit. Default 0: no deadline.
    pub timeout_ms: u64,
    /// Requests reuse each other's pages only if their salts are equal: give each tenant its own.
    /// `cache_salt_len` bytes of anything. Default: empty.
    pub cache_salt: *const c_char,
    /// Length of `cache_salt` in bytes.
    pub cache_salt_len: usize,
    /// Comes back in each of the request's events. The library never looks at it. Default NULL.
    pub tag: *mut c_void,
    /// Texts that end the answer, wherever token boundaries lie: at most 64, of 1 to 1024 bytes each. A stop
    /// string is never part of the answer, nor is any piece of it; text that may become one is held back until
    /// it is certain. Needs a model with a tokenizer. Special tokens count as their text ("<|im_end|>").
    pub stop_strings: *const quire_string,
    /// Number of stop strings.
    pub stop_string_count: usize,
    /// The prompt as a conversation, put into text by the model's chat template (`quire_engine_render_chat`)
    /// on the thread that submits. Needs a model with a tokenizer and a template.
    pub chat: *const quire_chat,
    /// Whether the answer is taken apart into text, reasoning and tool calls: one of `QUIRE_PARSE_*`.
    pub parse: quire_parse,
    /// How many answers to give, 1 to 128; more than 1 needs a temperature. Each is a request of its own, with
    /// its own events and id: the first id comes from `quire_engine_submit`, the others follow it. They compute
    /// their common prompt once and share its pages. The first answer is what it would be alone. Default 1.
    pub n: u32,
    /// Tokens to generate before the answer may end: until then neither end-of-sequence tokens (unless
    /// `ignore_eos`) nor stop tokens are chosen. At most `max_tokens`. Default 0.
    pub min_tokens: u32,
    /// Keep the smallest set of tokens, most typical first, that together have this probability (locally
    /// typical sampling), above 0 and at most 1. It acts on what `top_k`, `top_p` and `min_p` have left. Default 1.
    pub typical_p: f32,
    /// How often, 0 to 1, XTC takes place for a token: then, of the tokens with a probability of
    /// `xtc_threshold` or more, only the least likely is kept. Default 0.
    pub xtc_probability: f32,
    /// From which probability on a token is one of XTC's top choices, 0 to 0.5. Default 0.1.
    pub xtc_threshold: f32,
    /// Divides the positive logits and multiplies the negative ones of tokens that are in the prompt or the
    /// answer, above 0 and at most 100. Default 1: nothing.
    pub repetition_penalty: f32,
    /// Taken from the logits of tokens that are in the answer, -100 to 100. Default 0.
    pub presence_penalty: f32,
    /// Taken from the logits of tokens in the answer once for each time they are there, -100 to 100. Default 0.
    pub frequency_penalty: f32,
    /// How many of the latest tokens, prompt and answer together, the three penalties look at. Default 0: all.
    pub penalty_window: u32,
    /// What is added to the logits of some tokens, at most 4096, none twice.
    pub logit_bias: *const quire_logit_bias,
    /// Number of biases.
    pub logit_bias_count: usize,
    /// 1 for the log-probability of each token of the answer. Log-probabilities are natural logarithms of the
    /// model's own probabilities, before bias, penalties, temperature and everything else. Default 0.
    pub logprobs: i32,
    /// With each of them this many of the most likely tokens and theirs, at most 20. Default 0.
    pub top_logprobs: u32,
    /// 1 for the log-probabilities of the prompt's tokens too; the prompt is then computed whole, whatever is cached.
    /// `top_logprobs` holds for them as well. Of `n` answers the first gives them. Default 0.
    pub prompt_logprobs: i32,
    /// Makes the answer follow a grammar: one of `QUIRE_GRAMMAR_*`. Every other setting still holds, but what the
    /// grammar needs is never banned. An answer cut off by `max_tokens` is the beginning of such a text. If the prompt
    /// ends inside reasoning (`<think>`) and the answer is taken apart (`parse`), the model may finish thinking
    /// and the grammar is for what follows; else it is for all of the answer, so that a model that opens its
    /// reasoning itself gives none. Needs a model with a tokenizer. Default `QUIRE_GRAMMAR_NONE`.
    pub grammar_kind: quire_grammar_kind,
    /// The grammar as UTF-8 text of `grammar_len` bytes, at most 1 MiB, and a regular expression, by itself or in a
    /// schema, at most 64 KiB; no NUL needed.
    pub grammar: *const c_char,
    /// Length of `grammar` in bytes.
    pub grammar_len: usize,
}

/// Fills `options` with defaults. `struct_size` is `sizeof(quire_request_options)` as your compiler sees it.
///
/// Any thread. Fails with `QUIRE_INVALID_ARGUMENT` (NULL) or `QUIRE_INVALID_STRUCT_SIZE`.
///
/// # Safety
/// `options` points to `struct_size` writable bytes; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_request_options_init(
    options: *mut quire_request_options,
    struct_size: usize,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        let sampling = SamplingParams::default();
        // SAFETY: the caller vouches for `struct_size` writable bytes.
        unsafe {
            guard::init_struct(
                options,
                struct_size,
                "options",
                quire_request_options {
                    struct_size,
                    prompt: std::ptr::null(),
                    prompt_len: 0,
                    prompt_tokens: std::ptr::null(),
                    prompt_token_count: 0,
                    max_tokens: crate::engine::DEFAULT_MAX_TOKENS,
                    temperature: sampling.temperature,
                    top_k: sampling.top_k,
                    top_p: sampling.top_p,
                    min_p: sampling.min_p,
                    seed: guard::fresh_seed(),
                    stop_tokens: std::ptr::null(),
                    stop_token_count: 0,
                    ignore_eos: 0,
                    priority: 0,
                    timeout_ms: 0,
                    cache_salt: std::ptr::null(),
                    cache_salt_len: 0,
                    tag: std::ptr::null_mut(),
                    stop_strings: std::ptr::null(),
                    stop_string_count: 0,
                    chat: std::ptr::null(),
                    parse: QUIRE_PARSE_DEFAULT,
                    n: 1,
                    min_tokens: 0,
                    typical_p: sampling.typical_p,
                    xtc_probability: sampling.xtc_probability,
                    xtc_threshold: sampling.xtc_threshold,
                    repetition_penalty: sampling.penalties.repetition,
                    presence_penalty: sampling.penalties.presence,
                    frequency_penalty: sampling.penalties.frequency,
                    penalty_window: sampling.penalties.window,
                    logit_bias: std::ptr::null(),
                    logit_bias_count: 0,
                    logprobs: 0,
                    top_logprobs: 0,
                    prompt_logprobs: 0,
                    grammar_kind: QUIRE_GRAMMAR_NONE,
                    grammar: std::ptr::null(),
                    grammar_len: 0,
                },
            )
        }
    })
}

/// Submits a request and returns at once; the answer comes as events. `*request` becomes its id: never 0,
/// never used twice by one engine.
///
/// Any thread, callbacks too. Tokenizes the prompt and compiles the grammar on the calling thread. Fails with
/// `QUIRE_INVALID_ARGUMENT`, `QUIRE_INVALID_STRUCT_SIZE`, `QUIRE_INVALID_UTF8`, `QUIRE_TOKENIZER_MISSING`,
/// `QUIRE_TEMPLATE_MISSING`, `QUIRE_TEMPLATE_ERROR`, `QUIRE_PROMPT_TOO_LONG`, `QUIRE_GRAMMAR_INVALID`,
/// `QUIRE_QUEUE_FULL` or `QUIRE_SHUT_DOWN`; then no event will come.
///
/// # Safety
/// `engine` is a live engine; `options` was filled by its `_init` and its pointers are valid for the
/// lengths beside them; `request` is writable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_submit(
    engine: *const quire_engine,
    options: *const quire_request_options,
    request: *mut u64,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let engine = guard::reference(engine, "engine")?;
            guard::writable(request, "request")?;
            let id = engine.inner().submit(read_request(options)?)?;
            request.write(id);
        }
        Ok(())
    })
}

/// Cancels a request: it takes part in no further step, its pages are free, and its terminal event is
/// `QUIRE_EVENT_CANCELLED` (or the one it was about to have, if it ended first).
///
/// Any thread, callbacks too; does not wait. Fails with `QUIRE_NOT_FOUND` if the id is unknown, has ended
/// or is being cancelled already: harmless.
///
/// # Safety
/// `engine` is a live engine; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_cancel(
    engine: *const quire_engine,
    request: u64,
    error: *mut *mut quire_error,
) -> quire_status {
    // SAFETY: the caller's contract above.
    guard::entry(error, || unsafe { guard::reference(engine, "engine")?.inner().cancel(request) })
}

/// Cancels every live request.
///
/// Any thread, callbacks too; does not wait.
///
/// # Safety
/// `engine` is a live engine; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_cancel_all(
    engine: *const quire_engine,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe { guard::reference(engine, "engine")? }.inner().cancel_all();
        Ok(())
    })
}
