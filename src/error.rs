//! The one error type of the crate: a status that crosses the C ABI and a message for people.
//!
//! A message names what was wrong (the file, the field, the argument) and, where there is one, the
//! way out. A status is stable: programs branch on it, people read the message.

use std::ffi::CStr;
use std::fmt;

/// What went wrong, as a stable number. `0` is success and never appears in an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Status {
    /// Success.
    Ok = 0,
    /// An argument is NULL, out of range, empty or contradicts another.
    InvalidArgument = 1,
    /// A struct's `struct_size` is not one this library knows.
    InvalidStructSize = 2,
    /// A string is not UTF-8.
    InvalidUtf8 = 3,
    /// The model path or name leads nowhere.
    ModelNotFound = 4,
    /// A file of the model is malformed, truncated or inconsistent.
    ModelInvalid = 5,
    /// The model is sound but of a kind this library does not run.
    ModelUnsupported = 6,
    /// The call needs text and the model has no tokenizer.
    TokenizerMissing = 7,
    /// The tokenizer's files are malformed.
    TokenizerInvalid = 8,
    /// The prompt does not fit into the context, or into the cache alone.
    PromptTooLong = 9,
    /// Too many requests are waiting; try again later.
    QueueFull = 10,
    /// Memory ran out, on the host or the device.
    OutOfMemory = 11,
    /// No live request has this id (it never existed, or has ended).
    NotFound = 12,
    /// The time given ran out first.
    Timeout = 13,
    /// The engine has been shut down.
    ShutDown = 14,
    /// The caller's progress callback asked to stop.
    Aborted = 15,
    /// The device failed; the requests in flight have failed with it.
    DeviceError = 16,
    /// The call is not allowed here (from inside a callback, or with this kind of delivery).
    InvalidState = 17,
    /// A file could not be read or written.
    Io = 18,
    /// A deadline passed before the request was done.
    DeadlineExceeded = 19,
    /// A defect of this library; the message says where.
    Internal = 20,
    /// A saved cache is damaged, or was saved for another model or by another version.
    CacheInvalid = 21,
    /// The call needs a chat template and the model has none.
    TemplateMissing = 22,
    /// The model's chat template is malformed, refuses the conversation, or does too much work.
    TemplateError = 23,
    /// A grammar (JSON schema, regular expression, ...) is malformed, impossible or too complex.
    GrammarInvalid = 24,
}

impl Status {
    /// Every status, in numeric order.
    pub const ALL: [Status; 25] = [
        Status::Ok,
        Status::InvalidArgument,
        Status::InvalidStructSize,
        Status::InvalidUtf8,
        Status::ModelNotFound,
        Status::ModelInvalid,
        Status::ModelUnsupported,
        Status::TokenizerMissing,
        Status::TokenizerInvalid,
        Status::PromptTooLong,
        Status::QueueFull,
        Status::OutOfMemory,
        Status::NotFound,
        Status::Timeout,
        Status::ShutDown,
        Status::Aborted,
        Status::DeviceError,
        Status::InvalidState,
        Status::Io,
        Status::DeadlineExceeded,
        Status::Internal,
        Status::CacheInvalid,
        Status::TemplateMissing,
        Status::TemplateError,
        Status::GrammarInvalid,
    ];

    /// The status with this number, if there is one.
    pub fn from_code(code: i32) -> Option<Status> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// The status's number.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// A short lower-case name, for logs; NUL-terminated for C.
    pub fn c_name(self) -> &'static CStr {
        match self {
            Status::Ok => c"ok",
            Status::InvalidArgument => c"invalid argument",
            Status::InvalidStructSize => c"invalid struct size",
            Status::InvalidUtf8 => c"invalid UTF-8",
            Status::ModelNotFound => c"model not found",
            Status::ModelInvalid => c"model invalid",
            Status::ModelUnsupported => c"model unsupported",
            Status::TokenizerMissing => c"tokenizer missing",
            Status::TokenizerInvalid => c"tokenizer invalid",
            Status::PromptTooLong => c"prompt too long",
            Status::QueueFull => c"queue full",
            Status::OutOfMemory => c"out of memory",
            Status::NotFound => c"not found",
            Status::Timeout => c"timeout",
            Status::ShutDown => c"shut down",
            Status::Aborted => c"aborted",
            Status::DeviceError => c"device error",
            Status::InvalidState => c"invalid state",
            Status::Io => c"input/output error",
            Status::DeadlineExceeded => c"deadline exceeded",
            Status::Internal => c"internal error",
            Status::CacheInvalid => c"cache invalid",
            Status::TemplateMissing => c"template missing",
            Status::TemplateError => c"template error",
            Status::GrammarInvalid => c"grammar invalid",
        }
    }

    /// A short lower-case name, for logs.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }
}

/// A status and what a person needs to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    status: Status,
    message: String,
}

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of this kind. `message` names the file, field or argument.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        debug_assert_ne!(status, Status::Ok);
        Error { status, message: message.into() }
    }

    /// An [`Status::InvalidArgument`] error.
    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(Status::InvalidArgument, message)
    }

    /// An [`Status::ModelInvalid`] error.
    pub fn model(message: impl Into<String>) -> Self {
        Self::new(Status::ModelInvalid, message)
    }

    /// An [`Status::ModelUnsupported`] error.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Status::ModelUnsupported, message)
    }

    /// An [`Status::Internal`] error.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Status::Internal, message)
    }

    /// What kind of error this is.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The message, without the status's name.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with `context` in front of its message, as in `"context: message"`.
    #[must_use]
    pub fn within(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.status.name())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_positions_in_all() {
        for (i, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status.code(), i as i32);
            assert_eq!(Status::from_code(i as i32), Some(status));
        }
        assert_eq!(Status::from_code(-1), None);
        assert_eq!(Status::from_code(Status::ALL.len() as i32), None);
    }

    #[test]
    fn context_goes_in_front() {
        let e = Error::model("field 'x' is missing").within("config.json");
        assert_eq!(e.message(), "config.json: field 'x' is missing");
        assert_eq!(e.status(), Status::ModelInvalid);
    }
}
