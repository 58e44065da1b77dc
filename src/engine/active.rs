//! One request on the engine's thread: turns its sampled tokens into events.

use std::time::Instant;

use super::event::{Delta, Event, EventKind, FinishReason, RequestId, Usage};
use super::options::RequestOptions;
use super::output::Output;
use super::shared::Submission;
use crate::error::Error;
use crate::sampling::SamplingParams;
use crate::text::Tokenizer;

/// A request that has been accepted and has not ended.
pub(super) struct Active {
    id: RequestId,
    options: RequestOptions,
    output: Output,
    submitted: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    prompt_tokens: u32,
    cached_tokens: u32,
    generated_tokens: u32,
}

impl Active {
    pub fn new(submission: &Submission, tokenizer: Option<&Tokenizer>) -> Self {
        Active {
            id: submission.id,
            options: submission.options.clone(),
            output: Output::new(tokenizer, submission.stops.as_ref(), submission.format.as_ref()),
            submitted: submission.submitted,
            started: None,
            first_token: None,
            prompt_tokens: u32::try_from(submission.prompt.len()).unwrap_or(u32::MAX),
            cached_tokens: 0,
            generated_tokens: 0,
        }
    }

    pub fn sampling(&self) -> &SamplingParams {
        &self.options.sampling
    }

    /// The request takes part in a step; the first time, `cached_tokens` of its prompt were reused.
    pub fn start(&mut self, now: Instant, cached_tokens: u32) {
        if self.started.is_none() {
            self.started = Some(now);
            self.cached_tokens = cached_tokens;
        }
    }

    /// Takes a sampled token: adds the deltas that it gives, and says why the answer ends with it, if it does.
    pub fn accept(
        &mut self,
        token: u32,
        eos: &[u32],
        now: Instant,
        deltas: &mut Vec<Delta>,
    ) -> Option<FinishReason> {
        self.first_token.get_or_insert(now);
        self.generated_tokens += 1;
        let end = if self.options.stop_tokens.contains(&token) {
            Some(FinishReason::StopToken(token))
        } else if !self.options.ignore_eos && eos.contains(&token) {
            Some(FinishReason::EndOfSequence(token))
        } else {
            None
        };
        let mut stop = if end.is_none() { self.output.push(token, deltas) } else { None };
        let end = end.or((self.generated_tokens >= self.options.max_tokens).then_some(FinishReason::Length));
        if stop.is_none() && end.is_some() {
            stop = self.output.finish(deltas);
        }
        let end = stop.map(FinishReason::StopString).or(end);
        if end.is_some() {
            self.output.close(deltas);
        }
        end
    }

    pub fn delta(&self, delta: Delta) -> Event {
        self.event(EventKind::Delta(delta))
    }

    pub fn finished(&self, reason: FinishReason, now: Instant) -> Event {
        self.event(EventKind::Finished(reason, self.usage(now)))
    }

    pub fn cancelled(&self, now: Instant) -> Event {
        self.event(EventKind::Cancelled(self.usage(now)))
    }

    pub fn failed(&self, error: Error, now: Instant) -> Event {
        self.event(EventKind::Failed(error, self.usage(now)))
    }

    fn event(&self, kind: EventKind) -> Event {
        Event { request: self.id, tag: self.options.tag, kind }
    }

    fn usage(&self, now: Instant) -> Usage {
        let since = |t: Instant| t.saturating_duration_since(self.submitted);
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            generated_tokens: self.generated_tokens,
            queued: since(self.started.unwrap_or(now)),
            first_token: self.first_token.map(since),
            total: since(now),
        }
    }
}
