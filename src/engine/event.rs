//! What a request tells its submitter.

use std::time::Duration;

use crate::error::Error;
use crate::sampling::TokenLogprobs;

/// Names one request of one engine: never 0, never reused.
pub type RequestId = u64;

/// One event of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The request.
    pub request: RequestId,
    /// Which of the answers to its prompt this is, from 0 on.
    pub index: u32,
    /// What its submitter attached to it.
    pub tag: usize,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a request. All but `Delta` are terminal: the last event, and exactly one.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// New text and tokens.
    Delta(Delta),
    /// The answer is complete.
    Finished(FinishReason, Usage),
    /// The request was cancelled.
    Cancelled(Usage),
    /// The request failed.
    Failed(Error, Usage),
}

impl EventKind {
    /// Whether no event of the request can follow.
    pub fn is_terminal(&self) -> bool {
        !matches!(self, EventKind::Delta(_))
    }
}

/// What a piece of an answer is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeltaKind {
    /// What the model says; all of the answer, if it is not taken apart.
    #[default]
    Text,
    /// What it thinks before.
    Reasoning,
    /// A complete call of this tool: the text is its arguments, a JSON object.
    ToolCall(String),
}

/// A piece of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// What it is.
    pub kind: DeltaKind,
    /// Whole characters; may be empty while one is incomplete.
    pub text: String,
    /// The tokens of this piece. In an answer that is taken apart, those of the marks around a piece too.
    pub tokens: Vec<u32>,
    /// Their log-probabilities, one for each, or none if they were not asked for.
    pub logprobs: Vec<TokenLogprobs>,
    /// Those of the prompt's tokens from the second on, if they were asked for: in the first delta.
    pub prompt_logprobs: Vec<TokenLogprobs>,
}

/// Why an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// This end-of-sequence token of the model's came.
    EndOfSequence(u32),
    /// This stop token of the request's came.
    StopToken(u32),
    /// The stop string of the request's with this index came; it is not in the text.
    StopString(u32),
    /// The request got as many tokens as it asked for.
    Length,
    /// The request's grammar is complete: nothing can follow.
    GrammarComplete,
}

/// What a request used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens in the prompt.
    pub prompt_tokens: u32,
    /// Of these, reused instead of computed.
    pub cached_tokens: u32,
    /// Tokens generated, the one that ended the answer included.
    pub generated_tokens: u32,
    /// From submit until the request first ran.
    pub queued: Duration,
    /// From submit until its first token was known.
    pub first_token: Option<Duration>,
    /// From submit until its end.
    pub total: Duration,
}
