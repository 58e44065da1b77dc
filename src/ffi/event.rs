//! Events and the two ways to take them.

use std::ffi::{CString, c_char, c_void};

use super::engine::quire_engine;
use super::error::{quire_error, quire_status};
use super::guard;
use crate::engine::{DeltaKind, Event, EventKind, FinishReason, Usage};
use crate::sampling::TokenLogprobs;

/// What an event says.
pub type quire_event_kind = i32;

/// New text and tokens of an answer. Deltas that were not taken in time come joined into one.
pub const QUIRE_EVENT_DELTA: quire_event_kind = 1;
/// Terminal: the answer is complete; `finish_reason` says why it ended.
pub const QUIRE_EVENT_FINISHED: quire_event_kind = 2;
/// Terminal: the request was cancelled, or the engine shut down before it was done.
pub const QUIRE_EVENT_CANCELLED: quire_event_kind = 3;
/// Terminal: the request failed; `status` and `message` say how.
pub const QUIRE_EVENT_FAILED: quire_event_kind = 4;
/// New reasoning of an answer that is taken apart (`quire_parse`), in `text`: what the model thinks before it
/// answers. Comes joined like other deltas.
pub const QUIRE_EVENT_REASONING: quire_event_kind = 5;
/// A complete tool call of an answer that is taken apart: `tool_name` is the tool, `text` its arguments, a
/// JSON object. The call's turn ends with the answer; run the tool, and put call and result into `messages`.
pub const QUIRE_EVENT_TOOL_CALL: quire_event_kind = 6;

/// Why an answer ended.
pub type quire_finish_reason = i32;

/// Not finished: the event is not `QUIRE_EVENT_FINISHED`.
pub const QUIRE_FINISH_NONE: quire_finish_reason = 0;
/// One of the model's end-of-sequence tokens came.
pub const QUIRE_FINISH_END_OF_SEQUENCE: quire_finish_reason = 1;
/// One of the request's stop tokens came.
pub const QUIRE_FINISH_STOP_TOKEN: quire_finish_reason = 2;
/// `max_tokens` tokens were generated.
pub const QUIRE_FINISH_LENGTH: quire_finish_reason = 3;

/// One of the request's stop strings came.
pub const QUIRE_FINISH_STOP_STRING: quire_finish_reason = 4;
/// The request's grammar is complete: nothing could follow.
pub const QUIRE_FINISH_GRAMMAR: quire_finish_reason = 5;

/// A token and the natural logarithm of its probability.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct quire_token_logprob {
    /// The token.
    pub token: u32,
    /// Its log-probability.
    pub logprob: f32,
}

/// One event of one request. Every accepted request has any number of deltas and then exactly one terminal
/// event, when its pages are already free.
///
/// Made by the library and read-only: one from `quire_engine_poll` or `quire_engine_wait` is freed with
/// `quire_event_free`; one passed to a callback is the library's.
#[repr(C)]
pub struct quire_event {
    /// Size of this struct in bytes, as the library was built.
    pub struct_size: usize,
    /// What the event says: one of `QUIRE_EVENT_*`.
    pub kind: quire_event_kind,
    /// Why the answer ended: one of `QUIRE_FINISH_*`.
    pub finish_reason: quire_finish_reason,
    /// The request, as `quire_engine_submit` returned it.
    pub request: u64,
    /// The request's `tag`.
    pub tag: *mut c_void,
    /// A delta's text: whole UTF-8 characters, `text_len` bytes and a NUL after them; never NULL. Empty if
    /// the model has no tokenizer, or while a character is still incomplete.
    pub text: *const c_char,
    /// Length of `text` in bytes.
    pub text_len: usize,
    /// A delta's token ids. The token that ended an answer is not among them, nor is one with a part in
    /// the stop string that did.
    pub tokens: *const u32,
    /// Number of tokens.
    pub token_count: usize,
    /// The token that ended the answer, where `finish_reason` is `QUIRE_FINISH_END_OF_SEQUENCE` or
    /// `QUIRE_FINISH_STOP_TOKEN`; else 0.
    pub stop_token: u32,
    /// Why the request failed; `QUIRE_OK` unless `kind` is `QUIRE_EVENT_FAILED`.
    pub status: quire_status,
    /// The failure in words, NUL-terminated; never NULL.
    pub message: *const c_char,
    /// Tokens in the prompt. This and what follows is filled in terminal events.
    pub prompt_tokens: u32,
    /// Prompt tokens whose pages were reused instead of computed.
    pub cached_tokens: u32,
    /// Tokens generated, the one that ended the answer included.
    pub generated_tokens: u32,
    /// Nanoseconds from submit until the request first ran.
    pub queue_ns: u64,
    /// Nanoseconds from submit until its first token was known; 0 if there was none.
    pub first_token_ns: u64,
    /// Nanoseconds from submit until its end.
    pub total_ns: u64,
    /// The index of the stop string that ended the answer, where `finish_reason` is
    /// `QUIRE_FINISH_STOP_STRING`; else 0.
    pub stop_string: u32,
    /// The tool that is called, `tool_name_len` bytes and a NUL after them; never NULL, empty unless `kind` is
    /// `QUIRE_EVENT_TOOL_CALL`.
    pub tool_name: *const c_char,
    /// Length of `tool_name` in bytes.
    pub tool_name_len: usize,
    /// Which of the answers to its prompt this is, from 0 on; see `n` of `quire_request_options`.
    pub answer_index: u32,
    /// The log-probabilities of a delta's tokens, `token_count` of them, if the request asked for them; else
    /// NULL.
    pub logprobs: *const f32,
    /// For each of a delta's tokens, in order, `top_logprob_count` of the most likely tokens in its place, most
    /// likely first; NULL if that is 0.
    pub top_logprobs: *const quire_token_logprob,
    /// How many of these each token has: as many as the request asked for.
    pub top_logprob_count: usize,
    /// In a request's first delta, if it asked for them: the log-probabilities of its prompt's tokens from the second
    /// on, `prompt_logprob_count` of them; else NULL. Such a delta may have no token of the answer.
    pub prompt_logprobs: *const f32,
    /// For each of these, `prompt_top_logprobs_each` of the most likely tokens in its place; NULL if that is 0.
    pub prompt_top_logprobs: *const quire_token_logprob,
    /// How many of the prompt's tokens have one: one less than the prompt has tokens.
    pub prompt_logprob_count: usize,
    /// How many of the most likely tokens each has: as many as the request asked for.
    pub prompt_top_logprobs_each: usize,
}

/// An event with what its pointers point to. `event` comes first, so the address of one is the other's.
#[repr(C)]
pub(super) struct OwnedEvent {
    event: quire_event,
    text: String,
    tokens: Vec<u32>,
    message: CString,
    tool_name: String,
    logprobs: Logprobs,
    prompt_logprobs: Logprobs,
}

/// Log-probabilities laid out for C.
#[derive(Default)]
struct Logprobs {
    chosen: Vec<f32>,
    top: Vec<quire_token_logprob>,
}

impl Logprobs {
    fn new(tokens: Vec<TokenLogprobs>) -> Self {
        let chosen = tokens.iter().map(|token| token.logprob).collect();
        let top = tokens.iter().flat_map(|token| &token.top);
        let top = top.map(|&(token, logprob)| quire_token_logprob { token, logprob }).collect();
        Logprobs { chosen, top }
    }

    /// Alternatives for each token.
    fn top_count(&self) -> usize {
        self.top.len().checked_div(self.chosen.len()).unwrap_or(0)
    }
}

/// NULL for an array without elements.
fn pointer<T>(values: &[T]) -> *const T {
    if values.is_empty() { std::ptr::null() } else { values.as_ptr() }
}

impl OwnedEvent {
    pub(super) fn new(event: Event) -> Box<Self> {
        let Event { request, index, tag, kind } = event;
        let (mut text, mut tokens, mut message) = (String::new(), Vec::new(), CString::default());
        let mut tool_name = String::new();
        let mut usage = Usage::default();
        let (mut logprobs, mut prompt_logprobs) = (Logprobs::default(), Logprobs::default());
        let (mut stop_token, mut stop_string, mut status) = (0, 0, 0);
        let mut finish_reason = QUIRE_FINISH_NONE;
        let kind = match kind {
            EventKind::Delta(delta) => {
                (text, tokens) = (delta.text, delta.tokens);
                logprobs = Logprobs::new(delta.logprobs);
                prompt_logprobs = Logprobs::new(delta.prompt_logprobs);
                match delta.kind {
                    DeltaKind::Text => QUIRE_EVENT_DELTA,
                    DeltaKind::Reasoning => QUIRE_EVENT_REASONING,
                    DeltaKind::ToolCall(name) => {
                        tool_name = name;
                        QUIRE_EVENT_TOOL_CALL
                    }
                }
            }
            EventKind::Finished(reason, u) => {
                usage = u;
                finish_reason = match reason {
                    FinishReason::EndOfSequence(token) => {
                        stop_token = token;
                        QUIRE_FINISH_END_OF_SEQUENCE
                    }
                    FinishReason::StopToken(token) => {
                        stop_token = token;
                        QUIRE_FINISH_STOP_TOKEN
                    }
                    FinishReason::StopString(index) => {
                        stop_string = index;
                        QUIRE_FINISH_STOP_STRING
                    }
                    FinishReason::Length => QUIRE_FINISH_LENGTH,
                    FinishReason::GrammarComplete => QUIRE_FINISH_GRAMMAR,
                };
                QUIRE_EVENT_FINISHED
            }
            EventKind::Cancelled(u) => {
                usage = u;
                QUIRE_EVENT_CANCELLED
            }
            EventKind::Failed(error, u) => {
                usage = u;
                status = error.status().code();
                let bytes: Vec<u8> = error.message().bytes().filter(|b| *b != 0).collect();
                message = CString::new(bytes).unwrap_or_default();
                QUIRE_EVENT_FAILED
            }
        };
        let text_len = text.len();
        let tool_name_len = tool_name.len();
        text.push('\0');
        tool_name.push('\0');
        let mut owned = Box::new(OwnedEvent {
            event: quire_event {
                struct_size: size_of::<quire_event>(),
                kind,
                finish_reason,
                request,
                tag: tag as *mut c_void,
                text: std::ptr::null(),
                text_len,
                tokens: std::ptr::null(),
                token_count: tokens.len(),
                stop_token,
                status,
                message: std::ptr::null(),
                prompt_tokens: usage.prompt_tokens,
                cached_tokens: usage.cached_tokens,
                generated_tokens: usage.generated_tokens,
                queue_ns: nanos(usage.queued),
                first_token_ns: usage.first_token.map_or(0, nanos),
                total_ns: nanos(usage.total),
                stop_string,
                tool_name: std::ptr::null(),
                tool_name_len,
                answer_index: index,
                logprobs: std::ptr::null(),
                top_logprobs: std::ptr::null(),
                top_logprob_count: logprobs.top_count(),
                prompt_logprobs: std::ptr::null(),
                prompt_top_logprobs: std::ptr::null(),
                prompt_logprob_count: prompt_logprobs.chosen.len(),
                prompt_top_logprobs_each: prompt_logprobs.top_count(),
            },
            text,
            tokens,
            message,
            tool_name,
            logprobs,
            prompt_logprobs,
        });
        owned.event.text = owned.text.as_ptr().cast();
        owned.event.tokens = owned.tokens.as_ptr();
        owned.event.message = owned.message.as_ptr();
        owned.event.tool_name = owned.tool_name.as_ptr().cast();
        owned.event.logprobs = pointer(&owned.logprobs.chosen);
        owned.event.top_logprobs = pointer(&owned.logprobs.top);
        owned.event.prompt_logprobs = pointer(&owned.prompt_logprobs.chosen);
        owned.event.prompt_top_logprobs = pointer(&owned.prompt_logprobs.top);
        owned
    }

    pub(super) fn as_event(&self) -> *const quire_event {
        &raw const self.event
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Takes the next event if there is one. `*event` becomes the event, to be freed with `quire_event_free`,
/// or NULL if none is there now.
///
/// Any thread, several at once too. Fails with `QUIRE_SHUT_DOWN` once the engine has been shut down and
/// every event was taken, or `QUIRE_INVALID_STATE` if the engine delivers to a callback.
///
/// # Safety
/// `engine` is a live engine; `event` is writable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_poll(
    engine: *const quire_engine,
    event: *mut *mut quire_event,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let engine = guard::reference(engine, "engine")?;
            guard::writable(event, "event")?;
            let taken = engine.inner().poll()?;
            event.write(taken.map_or(std::ptr::null_mut(), into_raw));
        }
        Ok(())
    })
}

/// Takes the next event, waiting for it up to `timeout_ms` milliseconds, or for ever if that is negative.
/// `*event` becomes the event, to be freed with `quire_event_free`.
///
/// Any thread but a callback's, several at once too. Fails with `QUIRE_TIMEOUT`; with `QUIRE_SHUT_DOWN`
/// once the engine has been shut down and every event was taken; or with `QUIRE_INVALID_STATE` if the
/// engine delivers to a callback.
///
/// # Safety
/// `engine` is a live engine; `event` is writable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_wait(
    engine: *const quire_engine,
    timeout_ms: i64,
    event: *mut *mut quire_event,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let engine = guard::reference(engine, "engine")?;
            guard::writable(event, "event")?;
            let timeout = u64::try_from(timeout_ms).ok().map(std::time::Duration::from_millis);
            event.write(into_raw(engine.inner().wait(timeout)?));
        }
        Ok(())
    })
}

fn into_raw(event: Event) -> *mut quire_event {
    Box::into_raw(OwnedEvent::new(event)).cast()
}

/// Frees an event taken with `quire_engine_poll` or `quire_engine_wait`. NULL is allowed and does nothing.
///
/// Any thread, also after the engine was released.
///
/// # Safety
/// `event` is NULL, or came from poll or wait and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_event_free(event: *mut quire_event) {
    if !event.is_null() {
        // SAFETY: made by `into_raw` from an `OwnedEvent`, whose first field it is.
        drop(unsafe { Box::from_raw(event.cast::<OwnedEvent>()) });
    }
}
