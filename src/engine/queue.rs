//! The event queue between the engine's thread and whoever takes events.
//!
//! - Pushing never waits: a slow reader's deltas are joined, one pending delta a request (or one for each
//!   change between text, reasoning and tool calls).
//! - Events of one request come in order; requests with something to say take turns.
//! - It is bounded by the requests whose terminal event was not taken, and these count against the
//!   engine's limit.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::event::{Delta, DeltaKind, Event, EventKind, RequestId};

/// What [`EventQueue::wait`] found.
#[derive(Debug, PartialEq)]
pub enum Taken {
    /// An event.
    Event(Event),
    /// None came in time.
    TimedOut,
    /// None is left and none will come.
    Closed,
}

/// A queue of events, safe from any thread.
#[derive(Debug, Default)]
pub struct EventQueue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Requests with something pending, each once.
    order: VecDeque<RequestId>,
    pending: FxHashMap<RequestId, Pending>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Pending {
    index: u32,
    tag: usize,
    /// Oldest first; no two neighbours could be one.
    deltas: VecDeque<Delta>,
    terminal: Option<EventKind>,
}

impl State {
    fn push(&mut self, event: Event) {
        let Event { request, index, tag, kind } = event;
        let pending = self.pending.entry(request).or_insert_with(|| {
            self.order.push_back(request);
            Pending { index, tag, ..Pending::default() }
        });
        debug_assert!(pending.terminal.is_none(), "an event after the terminal one");
        match kind {
            EventKind::Delta(new) => match pending.deltas.back_mut() {
                Some(last) if last.kind == new.kind && !matches!(new.kind, DeltaKind::ToolCall(_)) => {
                    last.text.push_str(&new.text);
                    last.tokens.extend(new.tokens);
                    last.logprobs.extend(new.logprobs);
                    last.prompt_logprobs.extend(new.prompt_logprobs);
                }
                _ => pending.deltas.push_back(new),
            },
            terminal => pending.terminal = Some(terminal),
        }
    }

    fn pop(&mut self) -> Option<Event> {
        let request = self.order.pop_front()?;
        let pending = self.pending.get_mut(&request)?;
        let (index, tag) = (pending.index, pending.tag);
        let kind = match pending.deltas.pop_front() {
            Some(delta) => EventKind::Delta(delta),
            None => pending.terminal.take()?,
        };
        if pending.terminal.is_some() || !pending.deltas.is_empty() {
            self.order.push_front(request);
        } else {
            self.pending.remove(&request);
        }
        Some(Event { request, index, tag, kind })
    }
}

impl EventQueue {
    // A panic while the lock is held cannot leave the state half changed in a way that matters more than
    // losing the events would.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events and wakes whoever waits.
    pub fn push(&self, events: impl IntoIterator<Item = Event>) {
        let mut state = self.lock();
        let before = state.order.len();
        for event in events {
            state.push(event);
        }
        if state.order.len() > before {
            self.ready.notify_all();
        }
    }

    /// No event will be added: waiters that find nothing return.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// The next event, waiting for it up to `timeout` (`None`: for ever).
    pub fn wait(&self, timeout: Option<Duration>) -> Taken {
        // A timeout too long for the clock is as good as none.
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut state = self.lock();
        loop {
            if let Some(event) = state.pop() {
                return Taken::Event(event);
            }
            if state.closed {
                return Taken::Closed;
            }
            state = match deadline {
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Taken::TimedOut;
                    }
                    self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{FinishReason, Usage};
    use crate::sampling::TokenLogprobs;

    /// With a log-probability for each token.
    fn piece(text: &str, tokens: &[u32]) -> Delta {
        let logprob = |&token| TokenLogprobs { logprob: token as f32, top: Vec::new() };
        let logprobs = tokens.iter().map(logprob).collect();
        Delta { text: text.into(), tokens: tokens.to_vec(), logprobs, ..Delta::default() }
    }

    fn delta(request: u64, text: &str, token: u32) -> Event {
        Event { request, index: 2, tag: 7, kind: EventKind::Delta(piece(text, &[token])) }
    }

    fn finished(request: u64) -> Event {
        Event { request, index: 2, tag: 7, kind: EventKind::Finished(FinishReason::Length, Usage::default()) }
    }

    fn take(queue: &EventQueue) -> Event {
        match queue.wait(Some(Duration::ZERO)) {
            Taken::Event(event) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unread_deltas_are_joined_and_the_terminal_event_comes_last() {
        let queue = EventQueue::default();
        queue.push([delta(1, "a", 1), delta(2, "x", 9)]);
        queue.push([delta(1, "b", 2), finished(1)]);
        assert_eq!(take(&queue).kind, EventKind::Delta(piece("ab", &[1, 2])));
        assert_eq!(take(&queue), finished(1));
        assert_eq!(take(&queue), delta(2, "x", 9));
        assert_eq!(queue.wait(Some(Duration::ZERO)), Taken::TimedOut);
        assert!(queue.lock().pending.is_empty());
    }

    #[test]
    fn deltas_of_different_kinds_keep_their_order_and_calls_stay_apart() {
        let of = |kind: DeltaKind, token: u32| {
            let delta = Delta { kind, ..piece("x", &[token]) };
            Event { request: 1, index: 2, tag: 7, kind: EventKind::Delta(delta) }
        };
        let call = || DeltaKind::ToolCall("f".into());
        let queue = EventQueue::default();
        queue.push([of(DeltaKind::Reasoning, 1), of(DeltaKind::Reasoning, 2), of(DeltaKind::Text, 3)]);
        queue.push([of(call(), 4), of(call(), 5), finished(1)]);
        let mut seen = Vec::new();
        while let EventKind::Delta(delta) = take(&queue).kind {
            seen.push((delta.kind, delta.tokens));
        }
        let expected = [
            (DeltaKind::Reasoning, vec![1, 2]),
            (DeltaKind::Text, vec![3]),
            (call(), vec![4]),
            (call(), vec![5]),
        ];
        assert_eq!(seen, expected);
        assert!(queue.lock().pending.is_empty());
    }

    #[test]
    fn a_request_that_talks_on_takes_turns() {
        let queue = EventQueue::default();
        queue.push([delta(1, "a", 1), delta(2, "b", 2)]);
        assert_eq!(take(&queue).request, 1);
        queue.push([delta(1, "c", 3)]);
        assert_eq!(take(&queue).request, 2);
        assert_eq!(take(&queue).request, 1);
    }

    #[test]
    fn closing_wakes_waiters_after_the_last_event() {
        let queue = std::sync::Arc::new(EventQueue::default());
        let waiter = std::thread::spawn({
            let queue = queue.clone();
            move || (queue.wait(None), queue.wait(None))
        });
        queue.push([finished(3)]);
        queue.close();
        assert_eq!(waiter.join().unwrap(), (Taken::Event(finished(3)), Taken::Closed));
    }
}
