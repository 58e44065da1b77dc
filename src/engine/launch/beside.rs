//! Work beside the calling thread's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use crate::error::{Error, Result};
use crate::panic;

/// Work on a thread of its own, or, where there is none to be had, done at once.
pub(super) enum Beside<'scope, T> {
    /// It runs on a thread, and says when it failed.
    Running(ScopedJoinHandle<'scope, Result<T>>, Arc<AtomicBool>),
    /// It is done.
    Done(Result<T>),
}

impl<'scope, T: Send + 'scope> Beside<'scope, T> {
    /// Begins it, on a thread of this name.
    pub(super) fn new<'env>(
        scope: &'scope Scope<'scope, 'env>,
        name: &str,
        work: impl Fn() -> Result<T> + Send + Copy + 'scope,
    ) -> Beside<'scope, T> {
        let failed = Arc::new(AtomicBool::new(false));
        let noted = failed.clone();
        let noting = move || {
            let done = panic::catch(work);
            noted.store(done.is_err(), Ordering::Relaxed);
            done
        };
        match std::thread::Builder::new().name(name.into()).spawn_scoped(scope, noting) {
            Ok(thread) => Beside::Running(thread, failed),
            Err(_) => Beside::Done(work()),
        }
    }

    /// Whether it has failed already.
    pub(super) fn failed(&self) -> bool {
        match self {
            Beside::Running(_, failed) => failed.load(Ordering::Relaxed),
            Beside::Done(done) => done.is_err(),
        }
    }

    /// What came of it, once it is done.
    pub(super) fn join(self) -> Result<T> {
        match self {
            Beside::Running(thread, _) => thread
                .join()
                .unwrap_or_else(|_| Err(Error::internal("a thread that loads part of a model died"))),
            Beside::Done(done) => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_errors_and_panics_come_back() {
        std::thread::scope(|scope| {
            assert_eq!(Beside::new(scope, "seven", || Ok(7)).join().unwrap(), 7);
            let failing = Beside::<()>::new(scope, "failing", || Err(Error::argument("no")));
            while !failing.failed() {
                std::thread::yield_now();
            }
            assert_eq!(failing.join().unwrap_err().message(), "no");
            let e = Beside::<()>::new(scope, "dying", || panic!("injected")).join().unwrap_err();
            assert!(e.message().contains("injected"), "{e}");
        });
    }
}
