//! One request on the engine's thread: turns its sampled tokens into events.

use std::time::Instant;

use super::event::{Delta, Event, EventKind, FinishReason, RequestId, Usage};
use super::options::RequestOptions;
use super::output::Output;
use super::runner::Sampled;
use super::shared::Submission;
use crate::error::{Error, Result, Status};
use crate::grammar::GrammarState;
use crate::sampling::{PromptLogprobs, RowSampling, TokenLogprobs};
use crate::text::Tokenizer;

/// A request that has been accepted and has not ended.
pub(super) struct Active {
    id: RequestId,
    /// Which of its prompt's answers it is.
    index: u32,
    options: RequestOptions,
    output: Output,
    submitted: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    prompt_tokens: u32,
    cached_tokens: u32,
    generated_tokens: u32,
    /// What would end the answer before it has `min_tokens` tokens.
    banned: Vec<u32>,
    grammar: Option<GrammarState>,
    /// Of the prompt's tokens from the second on, as far as they are known; then delivered.
    prompt_logprobs: Vec<TokenLogprobs>,
}

impl Active {
    /// `eos` are the model's end-of-sequence tokens.
    pub fn new(submission: &Submission, tokenizer: Option<&Tokenizer>, eos: &[u32]) -> Self {
        let options = &submission.options;
        let mut banned = Vec::new();
        if options.min_tokens > 0 {
            banned.extend_from_slice(&options.stop_tokens);
            if !options.ignore_eos {
                banned.extend_from_slice(eos);
            }
        }
        Active {
            id: submission.id,
            index: submission.index,
            options: submission.options.clone(),
            output: Output::new(tokenizer, submission.stops.as_ref(), submission.format.as_ref()),
            submitted: submission.submitted,
            started: None,
            first_token: None,
            prompt_tokens: u32::try_from(submission.prompt.len()).unwrap_or(u32::MAX),
            cached_tokens: 0,
            generated_tokens: 0,
            banned,
            grammar: None,
            prompt_logprobs: Vec::new(),
        }
    }

    /// Makes the answer follow a grammar: from its beginning on, or from where the reasoning that the prompt has
    /// begun ends.
    pub fn follow(&mut self, mut grammar: Option<GrammarState>) {
        if let Some(grammar) = grammar.as_mut().filter(|_| self.output.is_reasoning()) {
            grammar.wait();
        }
        self.grammar = grammar;
    }

    /// Whether a row from this position on computes log-probabilities of the prompt, for tokens that have none yet.
    pub fn scores_prompt(&self, start: u32) -> bool {
        self.options.logprobs.prompt && self.generated_tokens == 0 && start + 1 < self.prompt_tokens
    }

    /// Takes log-probabilities of prompt tokens. They come in order; what is computed again after the request was
    /// put aside is known already.
    pub fn score_prompt(&mut self, scored: PromptLogprobs) {
        let known = (self.prompt_logprobs.len() + 1).saturating_sub(scored.start);
        self.prompt_logprobs.extend(scored.tokens.into_iter().skip(known));
    }

    /// How a token is chosen after `sampled_before` others; `tokens` are those of the sequence that are known.
    pub fn how<'a>(&'a self, sampled_before: u32, tokens: &'a [u32]) -> RowSampling<'a> {
        let too_early = sampled_before < self.options.min_tokens;
        RowSampling {
            logprobs: self.options.logprobs,
            tokens,
            prompt_len: self.prompt_tokens as usize,
            banned: if too_early { &self.banned } else { &[] },
            constrained: self.grammar.is_some(),
            ..RowSampling::new(&self.options.sampling)
        }
    }

    /// Works out what the grammar allows after the tokens so far, less what the request does not want as long as
    /// something is left. `sampled_before` tokens were sampled for it.
    pub fn find_allowed(&mut self, sampled_before: u32, eos: &[u32]) -> Result<()> {
        let Some(grammar) = &mut self.grammar else { return Ok(()) };
        let too_early = sampled_before < self.options.min_tokens;
        let banned = self.banned.iter().filter(|_| too_early);
        // An answer that ends inside its reasoning is no text of the grammar.
        let no_end = self.options.ignore_eos || grammar.is_waiting();
        let eos = eos.iter().filter(|_| no_end);
        let bias = self.options.sampling.logit_bias.iter();
        let biased = bias.filter(|(_, bias)| *bias == f32::NEG_INFINITY).map(|(token, _)| token);
        grammar.mask(banned.chain(eos).chain(biased).copied()).map(drop)
    }

    /// What [`Active::find_allowed`] found; empty without a grammar.
    pub fn allowed(&self) -> &[u32] {
        self.grammar.as_ref().map_or(&[], GrammarState::last_mask)
    }

    /// The request takes part in a step; the first time, `cached_tokens` of its prompt were reused.
    pub fn start(&mut self, now: Instant, cached_tokens: u32) {
        if self.started.is_none() {
            self.started = Some(now);
            self.cached_tokens = cached_tokens;
        }
    }

    /// Takes a sampled token: adds the deltas that it gives, and says why the answer ends with it, if it does. An error
    /// if its grammar cannot go on.
    pub fn accept(
        &mut self,
        sampled: Sampled,
        eos: &[u32],
        now: Instant,
        deltas: &mut Vec<Delta>,
    ) -> Result<Option<FinishReason>> {
        let Sampled { token, logprobs, .. } = sampled;
        self.first_token.get_or_insert(now);
        self.generated_tokens += 1;
        let mut end = if self.options.stop_tokens.contains(&token) {
            Some(FinishReason::StopToken(token))
        } else if eos.contains(&token) && !(self.options.ignore_eos && self.grammar.is_none()) {
            Some(FinishReason::EndOfSequence(token))
        } else {
            None
        };
        let is_text = end.is_none();
        if let Some(grammar) = self.grammar.as_mut().filter(|grammar| is_text && !grammar.is_waiting())
            && grammar.accept(token)?
        {
            end = Some(FinishReason::GrammarComplete);
        }
        let mut stop = if is_text { self.output.push(token, logprobs, deltas) } else { None };
        if stop.is_none() {
            self.begin_grammar()?;
        }
        let end = end.or((self.generated_tokens >= self.options.max_tokens).then_some(FinishReason::Length));
        if stop.is_none() && end.is_some() {
            stop = self.output.finish(deltas);
        }
        let end = stop.map(FinishReason::StopString).or(end);
        if end.is_some() {
            self.output.close(deltas);
        }
        if self.generated_tokens == 1 {
            self.give_prompt_logprobs(deltas);
        }
        Ok(end)
    }

    /// Lets a grammar that waits for the end of the reasoning begin there.
    fn begin_grammar(&mut self) -> Result<()> {
        let Some(grammar) = self.grammar.as_mut().filter(|grammar| grammar.is_waiting()) else {
            return Ok(());
        };
        if self.output.is_reasoning() {
            return Ok(());
        }
        if self.output.is_speaking() {
            let message = "the answer's text began within the token that ended its reasoning, or while a stop string \
                           held that back; the grammar cannot begin there";
            return Err(Error::new(Status::GrammarInvalid, message));
        }
        grammar.begin();
        Ok(())
    }

    /// Puts the prompt's log-probabilities, if there are any, into the request's first delta.
    fn give_prompt_logprobs(&mut self, deltas: &mut Vec<Delta>) {
        if self.prompt_logprobs.is_empty() {
            return;
        }
        if deltas.is_empty() {
            deltas.push(Delta::default());
        }
        deltas[0].prompt_logprobs = std::mem::take(&mut self.prompt_logprobs);
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
        Event { request: self.id, index: self.index, tag: self.options.tag, kind }
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
