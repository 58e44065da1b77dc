//! What an engine and a request are asked for, checked before anything else happens.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::grammar::Grammar;
use crate::model::WeightFormat;
use crate::sampling::{LogprobRequest, SamplingParams};
use crate::text::Chat;

/// How an engine is made. The C ABI documents each field (`quire_engine_options`).
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Directory, GGUF file, or `org/name`.
    pub model: String,
    /// Most sequences running at once.
    pub max_sequences: u32,
    /// Most requests waiting beyond those.
    pub max_waiting: u32,
    /// Longest prompt plus answer in tokens; `None`: the model's own limit.
    pub max_context: Option<u32>,
    /// Most tokens computed in one step.
    pub max_step_tokens: u32,
    /// Tokens in one page.
    pub block_tokens: u32,
    /// How weights are held.
    pub weight_format: WeightFormat,
    /// Bytes for the page pool; `None`: from what the device has left.
    pub cache_bytes: Option<u64>,
    /// Whether equal prefixes share pages.
    pub prefix_sharing: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            model: String::new(),
            max_sequences: 64,
            max_waiting: 1024,
            max_context: None,
            max_step_tokens: 512,
            block_tokens: 16,
            weight_format: WeightFormat::Auto,
            cache_bytes: None,
            prefix_sharing: true,
        }
    }
}

fn in_range(name: &str, value: u32, min: u32, max: u32) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::argument(format!("{name} is {value}, want {min} to {max}")))
}

impl EngineOptions {
    /// Refuses values outside the documented ranges, naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.model.is_empty() {
            return Err(Error::argument("model is empty"));
        }
        if self.model.contains('\0') {
            return Err(Error::argument("model contains a NUL character"));
        }
        in_range("max_sequences", self.max_sequences, 1, 4096)?;
        in_range("max_waiting", self.max_waiting, 0, 1_000_000)?;
        in_range("max_step_tokens", self.max_step_tokens, 16, 32768)?;
        in_range("block_tokens", self.block_tokens, 1, 1024)?;
        if self.max_step_tokens <= self.max_sequences {
            return Err(Error::argument(format!(
                "max_step_tokens is {}, want more than max_sequences ({}): a full batch leaves no room for prompts",
                self.max_step_tokens, self.max_sequences
            )));
        }
        if !self.block_tokens.is_power_of_two() {
            return Err(Error::argument(format!(
                "block_tokens is {}, want a power of two",
                self.block_tokens
            )));
        }
        Ok(())
    }
}

/// `max_tokens` of a request that does not say.
pub const DEFAULT_MAX_TOKENS: u32 = 256;

/// Most answers to one prompt.
pub const MAX_ANSWERS: u32 = 128;

/// A prompt in one of its forms.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Text, to be tokenized.
    Text(String),
    /// Token ids, run as they are.
    Tokens(Vec<u32>),
    /// A conversation, to be put into text by the model's chat template.
    Chat(Box<Chat>),
}

/// What a request asks for. The C ABI documents each field (`quire_request_options`).
#[derive(Debug, Clone)]
pub struct RequestOptions {
    /// What to continue.
    pub prompt: Prompt,
    /// How many answers, each a request of its own; they share the prompt's pages.
    pub n: u32,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// Tokens before any that would end the answer: until then these are not chosen.
    pub min_tokens: u32,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Which log-probabilities come with them.
    pub logprobs: LogprobRequest,
    /// What the answer has to look like; what follows its reasoning, if that has begun in the prompt.
    pub grammar: Option<Grammar>,
    /// Tokens that end the answer besides the model's own.
    pub stop_tokens: Vec<u32>,
    /// Texts that end the answer; never part of it. At most [`MAX_STOP_STRINGS`], of 1 to [`MAX_STOP_BYTES`] bytes.
    ///
    /// [`MAX_STOP_STRINGS`]: crate::text::MAX_STOP_STRINGS
    /// [`MAX_STOP_BYTES`]: crate::text::MAX_STOP_BYTES
    pub stop_strings: Vec<String>,
    /// Whether the answer is taken apart into text, reasoning and tool calls; `None`: if the prompt is a
    /// conversation.
    pub parse: Option<bool>,
    /// Whether to go on past the model's end-of-sequence tokens.
    pub ignore_eos: bool,
    /// Higher first.
    pub priority: i32,
    /// Fail if not done this long after submit.
    pub timeout: Option<Duration>,
    /// Separates prefixes of one tenant from another's.
    pub cache_salt: Vec<u8>,
    /// Comes back in each event.
    pub tag: usize,
}

impl RequestOptions {
    /// A greedy request for this prompt, everything else at its default.
    pub fn new(prompt: Prompt) -> Self {
        RequestOptions {
            prompt,
            n: 1,
            max_tokens: DEFAULT_MAX_TOKENS,
            min_tokens: 0,
            sampling: SamplingParams::default(),
            logprobs: LogprobRequest::default(),
            grammar: None,
            stop_tokens: Vec::new(),
            stop_strings: Vec::new(),
            parse: None,
            ignore_eos: false,
            priority: 0,
            timeout: None,
            cache_salt: Vec::new(),
            tag: 0,
        }
    }
}

/// How an engine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Let requests finish, within this time (`None`: however long it takes), then cancel the rest.
    Drain(Option<Duration>),
    /// Cancel every request.
    Cancel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_enforced_and_named() {
        let ok = EngineOptions { model: "m".into(), ..Default::default() };
        ok.validate().unwrap();
        let bad = [
            (EngineOptions { model: String::new(), ..ok.clone() }, "model"),
            (EngineOptions { model: "a\0b".into(), ..ok.clone() }, "model"),
            (EngineOptions { max_sequences: 0, ..ok.clone() }, "max_sequences"),
            (EngineOptions { max_waiting: 1_000_001, ..ok.clone() }, "max_waiting"),
            (EngineOptions { max_step_tokens: 15, ..ok.clone() }, "max_step_tokens"),
            (EngineOptions { block_tokens: 24, ..ok.clone() }, "block_tokens"),
            (EngineOptions { block_tokens: 0, ..ok.clone() }, "block_tokens"),
        ];
        for (options, field) in bad {
            assert!(options.validate().unwrap_err().message().starts_with(field), "{field}");
        }
    }
}
