//! Tokenize and detokenize.

use std::ffi::c_char;

use super::engine::quire_engine;
use super::error::{quire_error, quire_status};
use super::guard;
use crate::error::{Error, Result};
use crate::text::Tokenizer;

/// Turns text into token ids, as submit would. `*token_count` becomes the number of tokens; the first
/// `capacity` of them are written to `tokens`, so call once with capacity 0 to learn the number.
///
/// `add_special` is 1 to add what the model wants around a text (such as a begin-of-sequence token), else 0.
///
/// Any thread, callbacks too; does not touch the engine's own thread. Fails with `QUIRE_INVALID_ARGUMENT`,
/// `QUIRE_INVALID_UTF8` or `QUIRE_TOKENIZER_MISSING`.
///
/// # Safety
/// `engine` is a live engine; `text` is readable for `text_len` bytes; `tokens` is writable for `capacity`
/// elements, or NULL if that is 0; `token_count` is writable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_tokenize(
    engine: *const quire_engine,
    text: *const c_char,
    text_len: usize,
    add_special: i32,
    tokens: *mut u32,
    capacity: usize,
    token_count: *mut usize,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let engine = guard::reference(engine, "engine")?;
            guard::writable(token_count, "token_count")?;
            if text.is_null() {
                return Err(Error::argument("text is NULL"));
            }
            let text = guard::text(text, text_len, "text")?;
            let add_special = guard::flag(add_special, "add_special")?;
            let ids = engine.inner().tokenizer_for_text()?.encode(text, add_special)?;
            copy_out(&ids, tokens, capacity, "tokens")?;
            token_count.write(ids.len());
        }
        Ok(())
    })
}

/// Turns token ids into text. `*text_len` becomes its length in bytes; the first `capacity` bytes are
/// written to `text`, without a NUL, so call once with capacity 0 to learn the length. Bytes that are not
/// UTF-8 come as U+FFFD. Special tokens are left out if `skip_special` is 1.
///
/// Any thread, callbacks too; does not touch the engine's own thread. Fails with `QUIRE_INVALID_ARGUMENT`
/// (also for a token id outside the vocabulary) or `QUIRE_TOKENIZER_MISSING`.
///
/// # Safety
/// `engine` is a live engine; `tokens` is readable for `token_count` elements; `text` is writable for
/// `capacity` bytes, or NULL if that is 0; `text_len` is writable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_detokenize(
    engine: *const quire_engine,
    tokens: *const u32,
    token_count: usize,
    skip_special: i32,
    text: *mut c_char,
    capacity: usize,
    text_len: *mut usize,
    error: *mut *mut quire_error,
) -> quire_status {
    let decode = |tokenizer: &Tokenizer, ids: &[u32], skip| Ok(tokenizer.decode(ids, skip));
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe { decode_with(decode, engine, tokens, token_count, skip_special, text, capacity, text_len) }
    })
}

/// As `quire_engine_detokenize`, by the decoder of the `tokenizers` library that Quire's own stands in for. The text is
/// the same and comes many times slower; this is there to check and to measure the other one.
///
/// # Safety
/// As for `quire_engine_detokenize`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_detokenize_reference(
    engine: *const quire_engine,
    tokens: *const u32,
    token_count: usize,
    skip_special: i32,
    text: *mut c_char,
    capacity: usize,
    text_len: *mut usize,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        let decode = Tokenizer::reference_decode;
        // SAFETY: the caller's contract above.
        unsafe { decode_with(decode, engine, tokens, token_count, skip_special, text, capacity, text_len) }
    })
}

/// Checks the arguments of a detokenizing function and runs it.
///
/// # Safety
/// As for `quire_engine_detokenize`.
#[expect(clippy::too_many_arguments, reason = "the C function's own")]
unsafe fn decode_with(
    decode: impl FnOnce(&Tokenizer, &[u32], bool) -> Result<String>,
    engine: *const quire_engine,
    tokens: *const u32,
    token_count: usize,
    skip_special: i32,
    text: *mut c_char,
    capacity: usize,
    text_len: *mut usize,
) -> Result<()> {
    // SAFETY: the caller's contract above.
    unsafe {
        let engine = guard::reference(engine, "engine")?;
        guard::writable(text_len, "text_len")?;
        if tokens.is_null() {
            return Err(Error::argument("tokens is NULL"));
        }
        let ids = guard::slice(tokens, token_count, "tokens")?;
        let skip_special = guard::flag(skip_special, "skip_special")?;
        engine.inner().check_tokens(ids, "tokens")?;
        let decoded = decode(engine.inner().tokenizer_for_text()?, ids, skip_special)?;
        copy_out(decoded.as_bytes(), text.cast::<u8>(), capacity, "text")?;
        text_len.write(decoded.len());
    }
    Ok(())
}

/// Copies as much of `from` as `capacity` allows.
///
/// # Safety
/// `to` is NULL or valid for writing `capacity` elements.
pub(super) unsafe fn copy_out<T: Copy>(from: &[T], to: *mut T, capacity: usize, name: &str) -> Result<()> {
    let count = from.len().min(capacity);
    if capacity > 0 {
        guard::writable(to, name)?;
        // SAFETY: `to` holds at least `count` elements and belongs to the caller, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, count) };
    }
    Ok(())
}
