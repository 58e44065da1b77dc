//! Statuses and error objects.

use std::ffi::{CString, c_char};

use crate::error::{Error, Status};

/// What a call returns: 0 is success. Programs branch on the status; the message of a `quire_error` is
/// for people.
pub type quire_status = i32;

/// Success.
pub const QUIRE_OK: quire_status = 0;
/// An argument is NULL, out of range, empty, or contradicts another; the message names it.
pub const QUIRE_INVALID_ARGUMENT: quire_status = 1;
/// A struct's `struct_size` is not one this library knows: the struct was not initialised with its
/// `_init` function, or the header is newer than the library.
pub const QUIRE_INVALID_STRUCT_SIZE: quire_status = 2;
/// A string is not valid UTF-8; the message says at which byte.
pub const QUIRE_INVALID_UTF8: quire_status = 3;
/// The model path or name leads nowhere; for an "org/name" the message says how to download it.
pub const QUIRE_MODEL_NOT_FOUND: quire_status = 4;
/// A file of the model is malformed, truncated or inconsistent; the message names file and field.
pub const QUIRE_MODEL_INVALID: quire_status = 5;
/// The model is sound but of an architecture, quantization or format this library does not run.
pub const QUIRE_MODEL_UNSUPPORTED: quire_status = 6;
/// The call needs text and the model came without a tokenizer; token ids still work.
pub const QUIRE_TOKENIZER_MISSING: quire_status = 7;
/// The tokenizer's files are malformed.
pub const QUIRE_TOKENIZER_INVALID: quire_status = 8;
/// The prompt and the tokens asked for do not fit into the context, or into the whole cache.
pub const QUIRE_PROMPT_TOO_LONG: quire_status = 9;
/// Too many requests are live (running, waiting, or with events not yet taken); try again later.
pub const QUIRE_QUEUE_FULL: quire_status = 10;
/// Memory ran out, on the host or the device.
pub const QUIRE_OUT_OF_MEMORY: quire_status = 11;
/// No live request has this id: it never existed, has ended, or is already being cancelled.
pub const QUIRE_NOT_FOUND: quire_status = 12;
/// The time given ran out first.
pub const QUIRE_TIMEOUT: quire_status = 13;
/// The engine has been shut down; for `quire_engine_wait`, also: no event is left.
pub const QUIRE_SHUT_DOWN: quire_status = 14;
/// The progress callback asked to stop loading.
pub const QUIRE_ABORTED: quire_status = 15;
/// The device failed; the requests in flight failed with it, the engine goes on.
pub const QUIRE_DEVICE_ERROR: quire_status = 16;
/// The call is not allowed here: from inside a callback, or not with this engine's event delivery.
pub const QUIRE_INVALID_STATE: quire_status = 17;
/// A file could not be read or written.
pub const QUIRE_IO: quire_status = 18;
/// The request's own deadline passed before it was done.
pub const QUIRE_DEADLINE_EXCEEDED: quire_status = 19;
/// A defect of this library; the message says where. The process and, where it can, the engine go on.
pub const QUIRE_INTERNAL: quire_status = 20;
/// A saved cache is damaged, or was saved for another model, page format or version; the message says which.
pub const QUIRE_CACHE_INVALID: quire_status = 21;
/// The call needs a chat template and the model has none.
pub const QUIRE_TEMPLATE_MISSING: quire_status = 22;
/// The model's chat template is malformed, refuses the conversation, or does too much work.
pub const QUIRE_TEMPLATE_ERROR: quire_status = 23;
/// A grammar is malformed, allows no text, or is too complex; the message says what is wrong and where. As the
/// status of a failed request: the grammar became too complex on the way.
pub const QUIRE_GRAMMAR_INVALID: quire_status = 24;

/// An error: a status and a message. Owned by whoever received it, freed with `quire_error_free`.
pub struct quire_error {
    status: quire_status,
    message: CString,
}

impl quire_error {
    pub(super) fn new(error: &Error) -> Self {
        // A message may quote a caller's bytes; C reads up to the first NUL.
        let bytes: Vec<u8> = error.message().bytes().filter(|b| *b != 0).collect();
        quire_error { status: error.status().code(), message: CString::new(bytes).unwrap_or_default() }
    }
}

/// The name of a status in lower case ("queue full"), NUL-terminated and never freed; "unknown status"
/// for a number that is none.
///
/// Any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn quire_status_name(status: quire_status) -> *const c_char {
    Status::from_code(status).map_or(c"unknown status", Status::c_name).as_ptr()
}

/// The error's status. `QUIRE_INVALID_ARGUMENT` if `error` is NULL.
///
/// Any thread.
///
/// # Safety
/// `error` is NULL or came from this library and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_error_status(error: *const quire_error) -> quire_status {
    // SAFETY: valid or NULL by the contract above.
    unsafe { error.as_ref() }.map_or(QUIRE_INVALID_ARGUMENT, |e| e.status)
}

/// The error's message in English, UTF-8, NUL-terminated; it lives as long as the error. An empty string
/// if `error` is NULL.
///
/// Any thread.
///
/// # Safety
/// `error` is NULL or came from this library and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_error_message(error: *const quire_error) -> *const c_char {
    // SAFETY: valid or NULL by the contract above.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |e| e.message.as_ptr())
}

/// Frees an error. NULL is allowed and does nothing.
///
/// Any thread.
///
/// # Safety
/// `error` is NULL or came from this library and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_error_free(error: *mut quire_error) {
    if !error.is_null() {
        // SAFETY: made by `Box::into_raw` in `guard`, owned by the caller until now.
        drop(unsafe { Box::from_raw(error) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_the_statuses() {
        let constants = [
            (QUIRE_OK, Status::Ok),
            (QUIRE_INVALID_ARGUMENT, Status::InvalidArgument),
            (QUIRE_INVALID_STRUCT_SIZE, Status::InvalidStructSize),
            (QUIRE_INVALID_UTF8, Status::InvalidUtf8),
            (QUIRE_MODEL_NOT_FOUND, Status::ModelNotFound),
            (QUIRE_MODEL_INVALID, Status::ModelInvalid),
            (QUIRE_MODEL_UNSUPPORTED, Status::ModelUnsupported),
            (QUIRE_TOKENIZER_MISSING, Status::TokenizerMissing),
            (QUIRE_TOKENIZER_INVALID, Status::TokenizerInvalid),
            (QUIRE_PROMPT_TOO_LONG, Status::PromptTooLong),
            (QUIRE_QUEUE_FULL, Status::QueueFull),
            (QUIRE_OUT_OF_MEMORY, Status::OutOfMemory),
            (QUIRE_NOT_FOUND, Status::NotFound),
            (QUIRE_TIMEOUT, Status::Timeout),
            (QUIRE_SHUT_DOWN, Status::ShutDown),
            (QUIRE_ABORTED, Status::Aborted),
            (QUIRE_DEVICE_ERROR, Status::DeviceError),
            (QUIRE_INVALID_STATE, Status::InvalidState),
            (QUIRE_IO, Status::Io),
            (QUIRE_DEADLINE_EXCEEDED, Status::DeadlineExceeded),
            (QUIRE_INTERNAL, Status::Internal),
            (QUIRE_CACHE_INVALID, Status::CacheInvalid),
            (QUIRE_TEMPLATE_MISSING, Status::TemplateMissing),
            (QUIRE_TEMPLATE_ERROR, Status::TemplateError),
            (QUIRE_GRAMMAR_INVALID, Status::GrammarInvalid),
        ];
        assert_eq!(constants.map(|(_, status)| status), Status::ALL);
        assert!(constants.iter().all(|(constant, status)| *constant == status.code()));
    }
}
