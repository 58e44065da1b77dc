//! The log callback: without one the library is silent.

use std::ffi::{c_char, c_void};

use super::error::{quire_error, quire_status};
use super::guard;
use crate::error::Error;
use crate::log::{self, Level};

/// Called once when the library has no more use for a `user_data`, after the last callback that gets it.
pub type quire_release_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// How important a log line is.
pub type quire_log_level = i32;

/// Something failed.
pub const QUIRE_LOG_ERROR: quire_log_level = 1;
/// Something is not as it should be; the library copes.
pub const QUIRE_LOG_WARNING: quire_log_level = 2;
/// What happens: models loaded, kernels chosen.
pub const QUIRE_LOG_INFO: quire_log_level = 3;
/// Detail for whoever debugs this library.
pub const QUIRE_LOG_DEBUG: quire_log_level = 4;

/// Receives a log line: `message_len` bytes of UTF-8 and a NUL after them, valid until the function
/// returns. Called from any thread, several at once; must not call into this library.
pub type quire_log_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: quire_log_level,
        message: *const c_char,
        message_len: usize,
    ),
>;

struct CallbackSink {
    function: unsafe extern "C" fn(*mut c_void, i32, *const c_char, usize),
    user_data: *mut c_void,
    release: quire_release_fn,
}

// SAFETY: the contract of `quire_log_fn` says that it is called from any thread.
unsafe impl Send for CallbackSink {}
// SAFETY: as above, several at once.
unsafe impl Sync for CallbackSink {}

impl log::Sink for CallbackSink {
    fn log(&self, level: Level, message: &str) {
        let line = format!("{message}\0");
        // SAFETY: the pointers outlive the call.
        unsafe { (self.function)(self.user_data, level as i32, line.as_ptr().cast(), message.len()) }
    }
}

impl Drop for CallbackSink {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the last use of `user_data`.
            unsafe { release(self.user_data) }
        }
    }
}

/// Sets the process's log callback, replacing any before it; `function` NULL turns logging off. Lines less
/// important than `max_level` are not made. `release`, if not NULL, is called once with `user_data` when
/// the callback has been replaced and no call of it is running; also if this function fails.
///
/// Any thread. Fails with `QUIRE_INVALID_ARGUMENT` for a level that is none.
///
/// # Safety
/// `function` and `release` are NULL or follow their types' rules; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_set_log_callback(
    function: quire_log_fn,
    user_data: *mut c_void,
    release: quire_release_fn,
    max_level: quire_log_level,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        let Some(function) = function else {
            if let Some(release) = release {
                // SAFETY: the only use of `user_data`.
                unsafe { release(user_data) }
            }
            log::set_sink(None, Level::Error);
            return Ok(());
        };
        let sink = CallbackSink { function, user_data, release };
        let level = Level::from_code(max_level)
            .ok_or_else(|| Error::argument(format!("max_level is {max_level}, want 1 to 4")))?;
        log::set_sink(Some(std::sync::Arc::new(sink)), level);
        Ok(())
    })
}
