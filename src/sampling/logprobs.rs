//! Log-probabilities: what a request can ask for, and what it gets.

use crate::error::{Error, Result};

/// Most alternatives that come with a token.
pub const MAX_TOP_LOGPROBS: u32 = 20;

/// Which log-probabilities a request wants. They are the model's own, before bias, penalties, temperature,
/// filters and grammar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogprobRequest {
    /// Those of the chosen tokens.
    pub chosen: bool,
    /// Beside each token also this many of the most likely ones, up to [`MAX_TOP_LOGPROBS`].
    pub top: u32,
    /// The prompt's tokens too. Its prefix is then computed, not reused.
    pub prompt: bool,
}

impl LogprobRequest {
    /// Refuses what contradicts itself or a vocabulary of this size, naming the field.
    pub fn validate(&self, vocab_size: u32) -> Result<()> {
        let most = MAX_TOP_LOGPROBS.min(vocab_size);
        if self.top > most {
            return Err(Error::argument(format!("top_logprobs is {}, want at most {most}", self.top)));
        }
        if self.top > 0 && !self.chosen && !self.prompt {
            return Err(Error::argument(format!(
                "top_logprobs is {} but neither logprobs nor prompt_logprobs is set",
                self.top
            )));
        }
        Ok(())
    }
}

/// A token's natural logarithm of its probability, and the most likely tokens in its place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenLogprobs {
    /// The token's own.
    pub logprob: f32,
    /// The most likely tokens with theirs, most likely first; as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// Log-probabilities of consecutive prompt tokens of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptLogprobs {
    /// The position of the first of them in the prompt, at least 1: nothing comes before the token at 0.
    pub start: usize,
    /// One for each token.
    pub tokens: Vec<TokenLogprobs>,
}

impl TokenLogprobs {
    /// Of candidates in any order, puts the `top` most likely first; equals by id.
    pub fn new(logprob: f32, mut candidates: Vec<(u32, f32)>, top: u32) -> Self {
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        candidates.truncate(top as usize);
        TokenLogprobs { logprob, top: candidates }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused() {
        let ok = LogprobRequest { chosen: true, top: 5, prompt: false };
        ok.validate(100).unwrap();
        LogprobRequest::default().validate(1).unwrap();
        for (bad, names) in [
            (LogprobRequest { top: 21, ..ok }, "top_logprobs is 21"),
            (LogprobRequest { chosen: false, ..ok }, "neither logprobs nor prompt_logprobs"),
        ] {
            assert!(bad.validate(100).unwrap_err().message().contains(names));
        }
        assert!(ok.validate(4).unwrap_err().message().contains("at most 4"));
    }

    #[test]
    fn candidates_come_most_likely_first() {
        let found = TokenLogprobs::new(-1.0, vec![(4, -2.0), (9, -0.5), (3, -2.0)], 2);
        assert_eq!(found.top, [(9, -0.5), (3, -2.0)]);
    }
}
