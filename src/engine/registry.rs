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
    index: u32,
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

    /// Accepts a request of `count` answers, each live by itself, or none of them. Sends each on under the lock, so
    /// that none is sent after [`close`] returned. Returns the id of the first; the others follow.
    ///
    /// [`close`]: Registry::close
    pub fn accept(&self, tag: usize, count: u32, mut send: impl FnMut(RequestId, u32)) -> Result<RequestId> {
        if count as usize > self.limit {
            let limit = self.limit;
            return Err(Error::argument(format!("n is {count}; the engine takes at most {limit} requests")));
        }
        let mut state = self.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        if state.untaken + count as usize > self.limit {
            return Err(Error::new(
                Status::QueueFull,
                format!(
                    "{} requests are live or have untaken events; the limit is {}",
                    state.untaken, self.limit
                ),
            ));
        }
        let first = state.last_id + 1;
        for index in 0..count {
            state.last_id += 1;
            let id = state.last_id;
            state.live.insert(id, Live { index, tag, cancelling: false });
            state.untaken += 1;
            send(id, index);
        }
        Ok(first)
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
    pub fn end_all(&self) -> Vec<(RequestId, u32, usize)> {
        self.lock().live.drain().map(|(id, live)| (id, live.index, live.tag)).collect()
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
        let id = registry.accept(5, 1, |_, _| ()).unwrap();
        assert_ne!(id, 0);
        assert_eq!(registry.accept(5, 1, |_, _| ()).unwrap_err().status(), Status::QueueFull);
        registry.end(id);
        assert_eq!(registry.accept(5, 1, |_, _| ()).unwrap_err().status(), Status::QueueFull);
        registry.taken();
        assert_ne!(registry.accept(5, 1, |_, _| ()).unwrap(), id);
    }

    #[test]
    fn cancel_works_once_and_only_while_live() {
        let registry = Registry::new(2);
        assert_eq!(registry.cancel(1).unwrap_err().status(), Status::NotFound);
        let id = registry.accept(0, 1, |_, _| ()).unwrap();
        registry.cancel(id).unwrap();
        assert_eq!(registry.cancel(id).unwrap_err().status(), Status::NotFound);
        registry.end(id);
        assert_eq!(registry.cancel(id).unwrap_err().status(), Status::NotFound);
    }

    #[test]
    fn several_answers_are_accepted_together_or_not_at_all() {
        let registry = Registry::new(4);
        let mut sent = Vec::new();
        let first = registry.accept(0, 3, |id, index| sent.push((id, index))).unwrap();
        assert_eq!(sent, [(first, 0), (first + 1, 1), (first + 2, 2)]);
        let full = registry.accept(0, 2, |_, _| panic!("there is room for one")).unwrap_err();
        assert_eq!(full.status(), Status::QueueFull);
        let never = registry.accept(0, 5, |_, _| panic!("there is never room")).unwrap_err();
        assert_eq!(never.status(), Status::InvalidArgument);
        registry.cancel(first + 2).unwrap();
    }

    #[test]
    fn closed_stays_closed_for_the_first_reason() {
        let registry = Registry::new(2);
        registry.close(Error::new(Status::ShutDown, "a"));
        registry.close(Error::internal("b"));
        assert_eq!(registry.accept(0, 1, |_, _| ()).unwrap_err().message(), "a");
    }
}
