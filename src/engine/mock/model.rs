//! What the mock model answers: its options, and the hash that stands for a model.

use serde::Deserialize;

use super::POISON;
use crate::engine::Sampled;
use crate::error::{Error, Result};
use crate::sampling::{RowSampling, SamplingParams, TokenLogprobs};
use crate::scheduler::SequenceId;

/// How the mock behaves: the `mock` object of a test model's `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MockOptions {
    /// Tokens are in `0..vocab_size`; at least 2.
    pub vocab_size: u32,
    /// The end-of-sequence token. It is sampled as often as `eos_every` says and never by chance.
    pub eos_token: u32,
    /// About one token in this many is `eos_token`; zero means none.
    pub eos_every: u32,
    /// How every answer begins, as far as these tokens may be chosen.
    pub opening: Vec<u32>,
    /// How long the device takes for a step, in microseconds, in which launches do not wait.
    pub step_micros: u64,
    /// Panics when launching the step of this number, counted from 1 over the runner's life; 0 never.
    pub panic_at_step: u64,
    /// Fails with a device error when launching the step of this number; 0 never.
    pub fail_at_step: u64,
    /// Fails with a device error when collecting the step of this number; 0 never.
    pub fail_collect_at_step: u64,
    /// It has a recurrent layer, and so many snapshots of its states; `None` if it has not.
    pub snapshots: Option<u32>,
}

impl Default for MockOptions {
    fn default() -> Self {
        MockOptions {
            vocab_size: 1000,
            eos_token: 2,
            eos_every: 0,
            opening: Vec::new(),
            step_micros: 0,
            panic_at_step: 0,
            fail_at_step: 0,
            fail_collect_at_step: 0,
            snapshots: None,
        }
    }
}

impl MockOptions {
    /// Refuses values that make no model, naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.vocab_size < 2 || self.vocab_size == POISON {
            return Err(Error::model(format!("mock.vocab_size is {}, want at least 2", self.vocab_size)));
        }
        if self.eos_token >= self.vocab_size {
            return Err(Error::model(format!(
                "mock.eos_token is {}, outside the vocabulary of {}",
                self.eos_token, self.vocab_size
            )));
        }
        if let Some(token) = self.opening.iter().find(|&&token| token >= self.vocab_size) {
            let vocab_size = self.vocab_size;
            return Err(Error::model(format!(
                "mock.opening has token {token}, outside the vocabulary of {vocab_size}"
            )));
        }
        Ok(())
    }

    /// The token that follows a context of this hash.
    pub(super) fn next_token(&self, at: &Place, how: &RowSampling<'_>, allowed: Option<&[u32]>) -> u32 {
        let mut h = at.context.0;
        if !how.params.is_greedy() {
            h = mix(h ^ mix(how.params.seed ^ mix(u64::from(at.sampled_before) + 1)));
        }
        let h = mix(h);
        let may = |token: u32| match allowed {
            Some(mask) => mask.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1),
            None => {
                let banned = |&(t, bias): &(u32, f32)| t == token && bias == f32::NEG_INFINITY;
                !how.banned.contains(&token) && !how.params.logit_bias.iter().any(banned)
            }
        };
        if let Some(&token) = self.opening.get(at.sampled_before as usize).filter(|&&token| may(token)) {
            return token;
        }
        if self.eos_every > 0 && (h >> 32).is_multiple_of(u64::from(self.eos_every)) && may(self.eos_token) {
            return self.eos_token;
        }
        // One of the other tokens.
        let token = (h % u64::from(self.vocab_size - 1)) as u32;
        let token = token + u32::from(token >= self.eos_token);
        if may(token) {
            return token;
        }
        let others: Vec<u32> = (0..self.vocab_size).filter(|&token| may(token)).collect();
        others.get((h % others.len().max(1) as u64) as usize).copied().unwrap_or(token)
    }

    /// A sampled token, with log-probabilities if they are wanted: the first of the vocabulary are likely.
    pub(super) fn sampled(&self, id: SequenceId, token: u32, how: &RowSampling<'_>) -> Sampled {
        let logprobs = how.logprobs.chosen.then(|| Box::new(self.logprobs(token, how)));
        Sampled { id, token, logprobs }
    }

    pub(super) fn logprobs(&self, token: u32, how: &RowSampling<'_>) -> TokenLogprobs {
        let logprob = |token: u32| -1.0 - token as f32;
        let top = (0..how.logprobs.top.min(self.vocab_size)).map(|token| (token, logprob(token))).collect();
        TokenLogprobs::new(logprob(token), top, how.logprobs.top)
    }
}

/// What a token depends on beside how it is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub context: ContextHash,
    pub sampled_before: u32,
}

/// A hash of a sequence of tokens, fed one at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct ContextHash(pub(super) u64);

impl ContextHash {
    pub(super) fn new() -> Self {
        ContextHash(0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn feed(&mut self, token: u32) {
        self.0 = (self.0 ^ u64::from(token)).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(mut h: u64) -> u64 {
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

/// What the mock answers to `prompt`: `count` tokens, end-of-sequence tokens among them. No pages, no
/// batch, no scheduler.
pub fn expected_tokens(
    options: &MockOptions,
    prompt: &[u32],
    params: &SamplingParams,
    count: usize,
) -> Vec<u32> {
    let mut context = ContextHash::new();
    prompt.iter().for_each(|&t| context.feed(t));
    let mut tokens = Vec::with_capacity(count);
    for sampled_before in 0..count as u32 {
        let token = options.next_token(&Place { context, sampled_before }, &RowSampling::new(params), None);
        context.feed(token);
        tokens.push(token);
    }
    tokens
}
