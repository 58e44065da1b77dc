//! A streaming detokenizer, for token ids that come from elsewhere than an answer's events.

use std::ffi::c_char;

use super::engine::quire_engine;
use super::error::{quire_error, quire_status};
use super::guard;
use crate::text::Detokenizer;

/// Turns tokens into text one at a time. Used by one thread at a time.
pub struct quire_detokenizer {
    inner: Detokenizer,
    /// What the last call gave, with a NUL behind it.
    text: String,
}

impl quire_detokenizer {
    /// Runs one call that gives text, and shows it to the caller.
    ///
    /// # Safety
    /// `text` and `text_len` are writable.
    unsafe fn give(
        &mut self,
        text: *mut *const c_char,
        text_len: *mut usize,
        call: impl FnOnce(&mut Detokenizer, &mut String),
    ) {
        self.text.clear();
        call(&mut self.inner, &mut self.text);
        let len = self.text.len();
        self.text.push('\0');
        // SAFETY: the caller's contract.
        unsafe {
            text.write(self.text.as_ptr().cast());
            text_len.write(len);
        }
    }
}

/// Makes a detokenizer for the engine's model, at the cost of a few stores. `*detokenizer` becomes it, to be
/// freed with `quire_detokenizer_free`, before or after the engine. Special tokens leave no text if
/// `skip_special` is 1.
///
/// Any thread, callbacks too. Fails with `QUIRE_INVALID_ARGUMENT` or `QUIRE_TOKENIZER_MISSING`.
///
/// # Safety
/// `engine` is a live engine; `detokenizer` is writable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_detokenizer_create(
    engine: *const quire_engine,
    skip_special: i32,
    detokenizer: *mut *mut quire_detokenizer,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let engine = guard::reference(engine, "engine")?;
            guard::writable(detokenizer, "detokenizer")?;
            let skip_special = guard::flag(skip_special, "skip_special")?;
            let inner = Detokenizer::new(engine.inner().tokenizer_for_text()?, skip_special);
            detokenizer.write(Box::into_raw(Box::new(quire_detokenizer { inner, text: String::new() })));
        }
        Ok(())
    })
}

/// Takes tokens and gives the text that is certain now: whole characters, `*text_len` bytes at `*text` and a
/// NUL after them, which live until the next call for this detokenizer. A token that the vocabulary does not
/// have leaves none.
///
/// All texts, with that of `quire_detokenizer_finish`, are together what `quire_engine_detokenize` gives.
///
/// One thread at a time. Fails with `QUIRE_INVALID_ARGUMENT`.
///
/// # Safety
/// `detokenizer` is live and used by no other thread; `tokens` is readable for `token_count` elements; `text`
/// and `text_len` are writable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_detokenizer_push(
    detokenizer: *mut quire_detokenizer,
    tokens: *const u32,
    token_count: usize,
    text: *mut *const c_char,
    text_len: *mut usize,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        guard::writable(detokenizer, "detokenizer")?;
        guard::writable(text, "text")?;
        guard::writable(text_len, "text_len")?;
        // SAFETY: the caller's contract above; not NULL.
        unsafe {
            let tokens = guard::slice(tokens, token_count, "tokens")?;
            (*detokenizer).give(text, text_len, |inner, out| tokens.iter().for_each(|&t| inner.push(t, out)));
        }
        Ok(())
    })
}

/// Ends the text and gives what was held back: a character that stayed incomplete is U+FFFD. The next token
/// starts a new text. Else as `quire_detokenizer_push`.
///
/// # Safety
/// `detokenizer` is live and used by no other thread; `text` and `text_len` are writable; `error` is NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_detokenizer_finish(
    detokenizer: *mut quire_detokenizer,
    text: *mut *const c_char,
    text_len: *mut usize,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        guard::writable(detokenizer, "detokenizer")?;
        guard::writable(text, "text")?;
        guard::writable(text_len, "text_len")?;
        // SAFETY: the caller's contract above; not NULL.
        unsafe { (*detokenizer).give(text, text_len, |inner, out| inner.finish(out)) };
        Ok(())
    })
}

/// Frees a detokenizer. NULL is allowed and does nothing.
///
/// # Safety
/// `detokenizer` is NULL, or came from `quire_detokenizer_create` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_detokenizer_free(detokenizer: *mut quire_detokenizer) {
    if !detokenizer.is_null() {
        // SAFETY: made by `Box::into_raw` in `quire_detokenizer_create`.
        drop(unsafe { Box::from_raw(detokenizer) });
    }
}
