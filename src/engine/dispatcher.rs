//! Callback delivery: a thread that takes events and hands them to the application's handler.
//!
//! The handler may call submit and cancel, and may even release its engine; nothing it does or how long it
//! takes holds up the engine's own thread.

use std::cell::Cell;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::event::Event;
use super::queue::Taken;
use super::shared::Shared;
use crate::error::{Error, Result};

/// Receives every event of an engine, one at a time, on the dispatcher thread. Dropped there after the last
/// one; or, if the engine could not be made, on the thread that tried.
pub trait EventHandler: Send {
    /// Takes one event.
    fn handle(&mut self, event: Event);
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is some engine's dispatcher, that is, inside a callback.
pub fn in_callback() -> bool {
    IN_CALLBACK.get()
}

/// Starts the dispatcher of an engine. It ends when the queue is closed and empty.
pub(super) fn spawn(shared: Arc<Shared>, mut handler: Box<dyn EventHandler>) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("quire-events".into())
        .spawn(move || {
            IN_CALLBACK.set(true);
            while let Taken::Event(event) = shared.take(None) {
                handler.handle(event);
            }
            // The handler goes last: its finalizer may tell the application that the engine is gone.
            shared.ended.wait();
            drop(shared);
            drop(handler);
        })
        .map_err(|e| Error::internal(format!("cannot start the dispatcher thread: {e}")))
}
