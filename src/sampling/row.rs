//! What choosing one row's token depends on beside its logits.

use super::{LogprobRequest, SamplingParams};

/// How one row of a step gets its token.
#[derive(Debug, Clone, Copy)]
pub struct RowSampling<'a> {
    /// What its request asks for.
    pub params: &'a SamplingParams,
    /// Which log-probabilities it wants.
    pub logprobs: LogprobRequest,
    /// The sequence's tokens that the host knows, prompt first. Where the row's input is a token still on the
    /// device, that one follows them.
    pub tokens: &'a [u32],
    /// How many of them are the prompt.
    pub prompt_len: usize,
    /// Tokens that must not be chosen now.
    pub banned: &'a [u32],
    /// The token is chosen later, from those that a grammar allows.
    pub constrained: bool,
    /// The prompt tokens that follow the row's input tokens, as far as their log-probabilities are wanted.
    pub scored: &'a [u32],
}

impl<'a> RowSampling<'a> {
    /// A row that depends on its parameters alone.
    pub fn new(params: &'a SamplingParams) -> Self {
        RowSampling {
            params,
            logprobs: LogprobRequest::default(),
            tokens: &[],
            prompt_len: 0,
            banned: &[],
            constrained: false,
            scored: &[],
        }
    }

    /// The tokens within the penalties' window, and how many of these are the prompt's, if `on_device` more
    /// tokens follow that the host does not know.
    pub fn window(&self, on_device: usize) -> (&'a [u32], usize) {
        let len = self.tokens.len();
        let first = match self.params.penalties.window as usize {
            0 => 0,
            window => len.saturating_sub(window.saturating_sub(on_device)),
        };
        (&self.tokens[first..], self.prompt_len.saturating_sub(first).min(len - first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::Penalties;

    #[test]
    fn windows_end_at_the_latest_token() {
        let window = |window, on_device| {
            let penalties = Penalties { window, ..Penalties::default() };
            let params = SamplingParams { penalties, ..SamplingParams::default() };
            let row = RowSampling { tokens: &[1, 2, 3, 4, 5], prompt_len: 3, ..RowSampling::new(&params) };
            let (tokens, prompt) = row.window(on_device);
            (tokens.to_vec(), prompt)
        };
        assert_eq!(window(0, 1), (vec![1, 2, 3, 4, 5], 3));
        assert_eq!(window(4, 0), (vec![2, 3, 4, 5], 2));
        assert_eq!(window(4, 1), (vec![3, 4, 5], 1));
        assert_eq!(window(2, 0), (vec![4, 5], 0));
        assert_eq!(window(1, 1), (vec![], 0));
        assert_eq!(window(9, 1), (vec![1, 2, 3, 4, 5], 3));
    }
}
