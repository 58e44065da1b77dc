//! Which requests are live: answers submit and cancel on the caller's thread, before any message is sent.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use super::event::RequestId;
use crate::error::{Error, Result, Status};

/// The live requests of an engine.
#[derive(Debug)]
pub struct Registry {
    state: Mutex<State>,
    /// Most requests that may be live or have their terminal event untaken.
    limit: usize,
}

#[derive(Debug)]
struct State {
    /// Why no request is accepted, if none is.
    closed: Option<Error>,
    last_id: RequestId,
    live: FxHashMap<RequestId, Live>,
    /// Accepted requests whose terminal event was not taken.
    untaken: usize,
}

#[derive(Debug)]
struct Live {
    tag: usize,
    cancelling: bool,
}

impl Registry {
    /// An empty registry for at most `limit` requests at a time.
    pub fn new(limit: usize) -> Self {
        let state = State { closed: None, last_id: 0, live: FxHashMap::default(), untaken: 0 };
        Registry { state: Mutex::new(state), limit }
    }

    // No code that can panic runs under this lock except `send`, after whose failure the state is sound.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a request and sends it on under the lock, so that no request is sent after [`close`] returned.
    ///
    /// [`close`]: Registry::close
    pub fn accept(&self, tag: usize, send: impl FnOnce(RequestId)) -> Result<RequestId> {
        let mut state = self.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        if state.untaken >= self.limit {
            return Err(Error::new(
                Status::QueueFull,
                format!(
                    "{} requests are live or have untaken events; the limit is {}",
                    state.untaken, self.limit
                ),
            ));
        }
        state.last_id += 1;
        let id = state.last_id;
        state.live.insert(id, Live { tag, cancelling: false });
        state.untaken += 1;
        send(id);
        Ok(id)
    }

    /// Marks a request as being cancelled.
    pub fn cancel(&self, id: RequestId) -> Result<()> {
        match self.lock().live.get_mut(&id) {
            Some(live) if !live.cancelling => {
                live.cancelling = true;
                Ok(())
            }
            Some(_) => Err(Error::new(Status::NotFound, format!("request {id} is being cancelled already"))),
            None => Err(Error::new(Status::NotFound, format!("no live request has the id {id}"))),
        }
    }

    /// Marks every live request as being cancelled.
    pub fn cancel_all(&self) {
        self.lock().live.values_mut().for_each(|live| live.cancelling = true);
    }

    /// A request has ended; its terminal event is about to be pushed.
    pub fn end(&self, id: RequestId) {
        self.lock().live.remove(&id);
    }

    /// Ends every live request and says which they were.
    pub fn end_all(&self) -> Vec<(RequestId, usize)> {
        self.lock().live.drain().map(|(id, live)| (id, live.tag)).collect()
    }

    /// A terminal event was taken.
    pub fn taken(&self) {
        let mut state = self.lock();
        state.untaken = state.untaken.saturating_sub(1);
    }

    /// Accepts nothing from now on; later submits get `error`. The first reason stands.
    pub fn close(&self, error: Error) {
        self.lock().closed.get_or_insert(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_until_the_terminal_event_is() {
        let registry = Registry::new(1);
        let id = registry.accept(5, |_| ()).unwrap();
        assert_ne!(id, 0);
        assert_eq!(registry.accept(5, |_| ()).unwrap_err().status(), Status::QueueFull);
        registry.end(id);
        assert_eq!(registry.accept(5, |_| ()).unwrap_err().status(), Status::QueueFull);
        registry.taken();
        assert_ne!(registry.accept(5, |_| ()).unwrap(), id);
    }

    #[test]
    fn cancel_works_once_and_only_while_live() {
        let registry = Registry::new(2);
        assert_eq!(registry.cancel(1).unwrap_err().status(), Status::NotFound);
        let id = registry.accept(0, |_| ()).unwrap();
        registry.cancel(id).unwrap();
        assert_eq!(registry.cancel(id).unwrap_err().status(), Status::NotFound);
        registry.end(id);
        assert_eq!(registry.cancel(id).unwrap_err().status(), Status::NotFound);
    }

    #[test]
    fn closed_stays_closed_for_the_first_reason() {
        let registry = Registry::new(2);
        registry.close(Error::new(Status::ShutDown, "a"));
        registry.close(Error::internal("b"));
        assert_eq!(registry.accept(0, |_| ()).unwrap_err().message(), "a");
    }
}
