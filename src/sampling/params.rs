//! A request's sampling parameters, checked once at submit.

use crate::error::{Error, Result};

/// How to choose a token from a row of logits.
///
/// Order of application: temperature, top-k, top-p, min-p, then a draw. With `temperature == 0` the
/// largest logit wins and nothing else matters.
///
/// A draw depends only on `seed` and on how many tokens the request has produced before, so a seeded
/// request gives the same tokens alone, in any batch, and after preemption.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; `0` means greedy. In `[0, 100]`.
    pub temperature: f32,
    /// Keep the `top_k` most likely tokens; `0` keeps all.
    pub top_k: u32,
    /// Keep the smallest set of most likely tokens whose probability reaches `top_p`, in `(0, 1]`.
    pub top_p: f32,
    /// Drop tokens less likely than `min_p` times the most likely one, in `[0, 1]`.
    pub min_p: f32,
    /// Seeds the draws of this request.
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

impl SamplingParams {
    /// Whether the largest logit simply wins.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Refuses values outside the documented ranges (NaN included), naming the field.
    pub fn validate(&self) -> Result<()> {
        if !(0.0..=100.0).contains(&self.temperature) {
            return Err(Error::argument(format!("temperature is {}, want 0 to 100", self.temperature)));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::argument(format!("top_p is {}, want more than 0 and at most 1", self.top_p)));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(Error::argument(format!("min_p is {}, want 0 to 1", self.min_p)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_enforced_and_named() {
        let ok = SamplingParams::default();
        assert!(ok.validate().is_ok() && ok.is_greedy());
        let bad = [
            (SamplingParams { temperature: -0.1, ..ok.clone() }, "temperature"),
            (SamplingParams { temperature: f32::NAN, ..ok.clone() }, "temperature"),
            (SamplingParams { temperature: f32::INFINITY, ..ok.clone() }, "temperature"),
            (SamplingParams { top_p: 0.0, ..ok.clone() }, "top_p"),
            (SamplingParams { top_p: 1.01, ..ok.clone() }, "top_p"),
            (SamplingParams { min_p: f32::NAN, ..ok.clone() }, "min_p"),
        ];
        for (params, field) in bad {
            assert!(params.validate().unwrap_err().message().starts_with(field));
        }
    }
}
