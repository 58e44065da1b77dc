//! A request's sampling parameters, checked once at submit.

use crate::error::{Error, Result};

/// How to choose a token from a row of logits.
///
/// Order of application: logit bias, penalties, temperature, top-k, top-p, min-p, typical-p, XTC, then a draw.
/// With `temperature == 0` the largest logit after bias and penalties wins and the rest does not matter.
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
    /// Of what is left keep the smallest set of tokens, most typical first, whose probability reaches
    /// `typical_p`, in `(0, 1]`. A token is the more typical the closer its surprise is to the entropy
    /// (Meister, Pimentel, Wiher and Cotterell 2022).
    pub typical_p: f32,
    /// How often XTC takes place, in `[0, 1]`: then, if at least two tokens have a probability of
    /// `xtc_threshold` or more, all of these but the least likely one are dropped ("exclude top choices",
    /// proposed by its author for text-generation-webui).
    pub xtc_probability: f32,
    /// From which probability on a token is a top choice, in `[0, 0.5]`.
    pub xtc_threshold: f32,
    /// What repeated tokens cost.
    pub penalties: Penalties,
    /// Added to the logits of these tokens; minus infinity bans one. No token twice, at most
    /// [`MAX_LOGIT_BIAS`].
    pub logit_bias: Vec<(u32, f32)>,
    /// Seeds the draws of this request.
    pub seed: u64,
}

/// Most tokens that one request can bias.
pub const MAX_LOGIT_BIAS: usize = 4096;

/// What it costs a token to have come before, in the last `window` tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalties {
    /// Divides the positive and multiplies the negative logits of tokens that are in the prompt or the
    /// answer, above 0 and at most 100; `1` does nothing (Keskar et al. 2019).
    pub repetition: f32,
    /// Taken from the logits of tokens that are in the answer, in `[-100, 100]`.
    pub presence: f32,
    /// Taken from them once for each time they are in the answer, in `[-100, 100]`.
    pub frequency: f32,
    /// How many of the latest tokens count, prompt and answer together; `0`: all.
    pub window: u32,
}

impl Default for Penalties {
    fn default() -> Self {
        Penalties { repetition: 1.0, presence: 0.0, frequency: 0.0, window: 0 }
    }
}

impl Penalties {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.repetition != 1.0 || self.of_answer()
    }

    /// Whether there are any that look at the answer alone.
    pub fn of_answer(&self) -> bool {
        self.presence != 0.0 || self.frequency != 0.0
    }

    fn validate(&self) -> Result<()> {
        if !(self.repetition > 0.0 && self.repetition <= 100.0) {
            let is = self.repetition;
            return Err(Error::argument(format!(
                "repetition_penalty is {is}, want more than 0 and at most 100"
            )));
        }
        in_range("presence_penalty", self.presence, -100.0, 100.0)?;
        in_range("frequency_penalty", self.frequency, -100.0, 100.0)
    }
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            penalties: Penalties::default(),
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// NaN is in no range.
fn in_range(name: &str, value: f32, min: f32, max: f32) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::argument(format!("{name} is {value}, want {min} to {max}")))
}

fn fraction(name: &str, value: f32) -> Result<()> {
    if value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    Err(Error::argument(format!("{name} is {value}, want more than 0 and at most 1")))
}

impl SamplingParams {
    /// Whether the largest logit simply wins.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// The seed of one of several answers to a prompt. The first has the request's own.
    pub fn seed_of(&self, index: u32) -> u64 {
        if index == 0 {
            return self.seed;
        }
        // The finalizer of MurmurHash3 (Appleby 2011): neighbouring seeds give unrelated ones.
        let mut h = self.seed.wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^ (h >> 33)
    }

    /// Refuses values outside the documented ranges (NaN included), naming the field, and biases of tokens
    /// outside a vocabulary of this size.
    pub fn validate(&self, vocab_size: u32) -> Result<()> {
        in_range("temperature", self.temperature, 0.0, 100.0)?;
        fraction("top_p", self.top_p)?;
        in_range("min_p", self.min_p, 0.0, 1.0)?;
        fraction("typical_p", self.typical_p)?;
        in_range("xtc_probability", self.xtc_probability, 0.0, 1.0)?;
        in_range("xtc_threshold", self.xtc_threshold, 0.0, 0.5)?;
        self.penalties.validate()?;
        self.validate_bias(vocab_size)
    }

    fn validate_bias(&self, vocab_size: u32) -> Result<()> {
        let count = self.logit_bias.len();
        if count > MAX_LOGIT_BIAS {
            return Err(Error::argument(format!(
                "logit_bias has {count} tokens, want at most {MAX_LOGIT_BIAS}"
            )));
        }
        for (i, &(token, bias)) in self.logit_bias.iter().enumerate() {
            if token >= vocab_size {
                return Err(Error::argument(format!(
                    "logit_bias[{i}] is for token {token}; the vocabulary has {vocab_size} tokens"
                )));
            }
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(Error::argument(format!(
                    "logit_bias[{i}] is {bias}, want a number, or minus infinity to ban the token"
                )));
            }
        }
        let mut tokens: Vec<u32> = self.logit_bias.iter().map(|(token, _)| *token).collect();
        tokens.sort_unstable();
        if let Some(twice) = tokens.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::argument(format!("logit_bias has token {} twice", twice[0])));
        }
        let banned = self.logit_bias.iter().filter(|(_, bias)| *bias == f32::NEG_INFINITY).count();
        if banned == vocab_size as usize {
            return Err(Error::argument("logit_bias bans every token of the vocabulary"));
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
        assert!(ok.validate(100).is_ok() && ok.is_greedy() && !ok.penalties.any());
        let penalties = |repetition, presence, frequency| SamplingParams {
            penalties: Penalties { repetition, presence, frequency, window: 0 },
            ..ok.clone()
        };
        let bias =
            |logit_bias: &[(u32, f32)]| SamplingParams { logit_bias: logit_bias.to_vec(), ..ok.clone() };
        let bad = [
            (SamplingParams { temperature: -0.1, ..ok.clone() }, "temperature"),
            (SamplingParams { temperature: f32::NAN, ..ok.clone() }, "temperature"),
            (SamplingParams { temperature: f32::INFINITY, ..ok.clone() }, "temperature"),
            (SamplingParams { top_p: 0.0, ..ok.clone() }, "top_p"),
            (SamplingParams { top_p: 1.01, ..ok.clone() }, "top_p"),
            (SamplingParams { min_p: f32::NAN, ..ok.clone() }, "min_p"),
            (SamplingParams { typical_p: 0.0, ..ok.clone() }, "typical_p"),
            (SamplingParams { typical_p: f32::NAN, ..ok.clone() }, "typical_p"),
            (SamplingParams { xtc_probability: 1.1, ..ok.clone() }, "xtc_probability"),
            (SamplingParams { xtc_threshold: 0.6, ..ok.clone() }, "xtc_threshold"),
            (penalties(0.0, 0.0, 0.0), "repetition_penalty"),
            (penalties(f32::NAN, 0.0, 0.0), "repetition_penalty"),
            (penalties(1.0, f32::NEG_INFINITY, 0.0), "presence_penalty"),
            (penalties(1.0, 0.0, f32::NAN), "frequency_penalty"),
            (bias(&[(99, 1.0), (100, 1.0)]), "logit_bias[1] is for token 100"),
            (bias(&[(1, f32::NAN)]), "logit_bias[0]"),
            (bias(&[(1, f32::INFINITY)]), "logit_bias[0]"),
            (bias(&[(1, 1.0), (2, 0.0), (1, 2.0)]), "logit_bias has token 1 twice"),
            (bias(&[(0, 0.0); MAX_LOGIT_BIAS + 1]), "logit_bias has 4097"),
        ];
        for (params, field) in bad {
            let error = params.validate(100).unwrap_err();
            assert!(error.message().starts_with(field), "{error} should name {field}");
        }
        let all: Vec<_> = (0..100).map(|token| (token, f32::NEG_INFINITY)).collect();
        assert!(bias(&all).validate(100).unwrap_err().message().contains("bans every token"));
        bias(&all[1..]).validate(100).unwrap();
    }
}
