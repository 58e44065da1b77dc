//! Panics stay inside: caught, turned into errors, and not printed on the host's terminal.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::error::{Error, Result};

thread_local! {
    /// How many [`catch`] calls this thread is inside.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What the last panic under one of them said, and where.
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Puts a hook in front of the process's own that keeps quiet about panics which [`catch`] will catch. All
/// others go to the hook that was there before.
fn install_hook() {
    HOOK.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            // A thread that is being torn down has no thread-locals any more.
            if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
                previous(info);
            } else {
                let _ = MESSAGE.try_with(|message| *message.borrow_mut() = Some(describe(info)));
            }
        }));
    });
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let said =
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)");
    match info.location() {
        Some(at) => format!("{said} at {}:{}", at.file(), at.line()),
        None => said.to_owned(),
    }
}

/// Runs `f`; a panic in it becomes an [`Status::Internal`](crate::error::Status::Internal) error that says
/// what and where, and nothing is printed.
pub fn catch<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    install_hook();
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(f));
    DEPTH.set(DEPTH.get() - 1);
    result.unwrap_or_else(|_| {
        let message = MESSAGE.take().unwrap_or_else(|| "(no message)".to_owned());
        Err(Error::internal(format!("panic: {message}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_says_where() {
        let error = catch::<()>(|| panic!("boom {}", 1)).unwrap_err();
        assert!(error.message().starts_with("panic: boom 1 at src/panic.rs:"), "{error}");
        assert_eq!(catch(|| Ok(5)), Ok(5));
    }

    #[test]
    fn nested_catches_each_catch_their_own() {
        let outer = catch::<()>(|| {
            let inner = catch::<()>(|| panic!("inner")).unwrap_err();
            assert!(inner.message().contains("inner"));
            panic!("outer");
        });
        assert!(outer.unwrap_err().message().starts_with("panic: outer"));
        assert_eq!(DEPTH.get(), 0);
    }
}
