//! Rotary position embedding: its parameters and the inverse frequencies they come to.

use crate::error::{Error, Result};

/// Parameters of the rotary embedding. Halves are rotated against each other (`x[..d/2]` with
/// `x[d/2..]`), the layout of Hugging Face checkpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// The base of the geometric series of wavelengths.
    pub theta: f64,
    /// How the series is stretched for contexts longer than the model was first trained on.
    pub scaling: RopeScaling,
}

/// How frequencies change for long contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all. Also stands for `dynamic`, which changes nothing below
    /// `max_position_embeddings`, the longest context this library runs.
    None,
    /// Positions are divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// How far the longest wavelengths stretch.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` stretch fully.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` stay.
        high_freq_factor: f64,
        /// The context length before stretching, in tokens.
        original_context: f64,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071).
    Yarn {
        /// How far the longest wavelengths stretch.
        factor: f64,
        /// The context length before stretching, in tokens.
        original_context: f64,
        /// Rotations over the original context above which a wavelength stays.
        beta_fast: f64,
        /// Rotations below which a wavelength stretches fully.
        beta_slow: f64,
        /// Queries and keys are multiplied by this after rotation.
        attention_factor: f64,
    },
    /// Each frequency is divided by its own factor, `head_dim / 2` of them, which the checkpoint
    /// carries as a tensor (`rope_freqs.weight` of a GGUF file).
    Tensor,
}

impl RopeConfig {
    /// Refuses parameters no frequency can be made of, naming the field.
    pub(super) fn validate(&self, _head_dim: usize) -> Result<()> {
        let positive = |field: &str, x: f64| {
            if x.is_finite() && x > 0.0 {
                Ok(())
            } else {
                Err(Error::model(format!("'{field}' is {x}, want a positive number")))
            }
        };
        positive("rope_theta", self.theta)?;
        if self.theta <= 1.0 {
            return Err(Error::model(format!("'rope_theta' is {}, want more than 1", self.theta)));
        }
        match self.scaling {
            RopeScaling::None | RopeScaling::Tensor => Ok(()),
            RopeScaling::Linear { factor } => positive("rope_scaling.factor", factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                positive("rope_scaling.factor", factor)?;
                positive("rope_scaling.low_freq_factor", low_freq_factor)?;
                positive("rope_scaling.high_freq_factor", high_freq_factor)?;
                positive("rope_scaling.original_max_position_embeddings", original_context)?;
                if high_freq_factor <= low_freq_factor {
                    return Err(Error::model(format!(
                        "'rope_scaling.high_freq_factor' ({high_freq_factor}) is not above \
                         'rope_scaling.low_freq_factor' ({low_freq_factor})"
                    )));
                }
                Ok(())
            }
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor } => {
                positive("rope_scaling.factor", factor)?;
                positive("rope_scaling.original_max_position_embeddings", original_context)?;
                positive("rope_scaling.beta_fast", beta_fast)?;
                positive("rope_scaling.beta_slow", beta_slow)?;
                positive("rope_scaling.attention_factor", attention_factor)
            }
        }
    }

    /// The angle each pair of elements turns by from one position to the next, in radians:
    /// `head_dim / 2` values. `factors` are the checkpoint's own divisors, for
    /// [`RopeScaling::Tensor`].
    pub fn inverse_frequencies(&self, head_dim: usize, factors: Option<&[f32]>) -> Vec<f64> {
        let base = |i: usize| self.theta.powf(-2.0 * i as f64 / head_dim as f64);
        let stretch = self.stretch(head_dim);
        (0..head_dim / 2)
            .map(|i| {
                let own = factors.and_then(|f| f.get(i)).map_or(1.0, |&f| f64::from(f));
                stretch(i, base(i)) / own
            })
            .collect()
    }

    /// What queries and keys are multiplied by, beside the rotation.
    pub fn magnitude(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }

    /// The scaled inverse frequency of pair `i` whose unscaled one is given.
    fn stretch(&self, head_dim: usize) -> Box<dyn Fn(usize, f64) -> f64> {
        match self.scaling {
            RopeScaling::None | RopeScaling::Tensor => Box::new(|_, f| f),
            RopeScaling::Linear { factor } => Box::new(move |_, f| f / factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                Box::new(move |_, f| {
                    // Rotations over the original context, between the two factors: the ramp.
                    let rotations = original_context * f / std::f64::consts::TAU;
                    let smooth = (rotations - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let keep = smooth.clamp(0.0, 1.0);
                    f * ((1.0 - keep) / factor + keep)
                })
            }
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, .. } => {
                let ln_theta = self.theta.ln();
                // The (fractional) pair that makes this many rotations over the original context.
                let pair = |rotations: f64| {
                    head_dim as f64 * (original_context / (rotations * std::f64::consts::TAU)).ln()
                        / (2.0 * ln_theta)
                };
                let low = pair(beta_fast).floor().max(0.0);
                let high = pair(beta_slow).ceil().min(head_dim as f64 - 1.0);
                let width = if high > low { high - low } else { 0.001 };
                Box::new(move |i, f| {
                    let ramp = ((i as f64 - low) / width).clamp(0.0, 1.0);
                    f * (ramp / factor + (1.0 - ramp))
                })
            }
        }
    }
}

/// YaRN's magnitude correction for a context stretched by `factor`: `0.1 m ln(factor) + 1`.
pub(super) fn yarn_magnitude(factor: f64, m: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freqs(scaling: RopeScaling) -> Vec<f64> {
        RopeConfig { theta: 10000.0, scaling }.inverse_frequencies(64, None)
    }

    #[test]
    fn unscaled_is_the_geometric_series() {
        let f = freqs(RopeScaling::None);
        assert_eq!(f.len(), 32);
        assert!((f[0] - 1.0).abs() < 1e-12);
        assert!((f[16] - 0.01).abs() < 1e-12);
    }

    #[test]
    fn llama3_keeps_short_and_stretches_long_wavelengths() {
        let plain = freqs(RopeScaling::None);
        let f = freqs(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        });
        assert_eq!(f[0], plain[0]);
        assert!((f[31] - plain[31] / 8.0).abs() < 1e-15);
        let ratios: Vec<f64> = f.iter().zip(&plain).map(|(a, b)| a / b).collect();
        assert!(ratios.windows(2).all(|w| w[0] >= w[1]), "{ratios:?}");
        assert!(ratios.iter().any(|&r| r > 0.13 && r < 0.99), "no ramp in {ratios:?}");
    }

    #[test]
    fn yarn_keeps_short_and_stretches_long_wavelengths() {
        let plain = freqs(RopeScaling::None);
        let f = freqs(RopeScaling::Yarn {
            factor: 4.0,
            original_context: 2048.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: 1.1,
        });
        assert_eq!(f[0], plain[0]);
        assert!((f[31] - plain[31] / 4.0).abs() < 1e-15);
    }

    #[test]
    fn tensor_factors_divide() {
        let rope = RopeConfig { theta: 10000.0, scaling: RopeScaling::Tensor };
        let factors: Vec<f32> = (0..32).map(|i| 1.0 + i as f32).collect();
        let f = rope.inverse_frequencies(64, Some(&factors));
        assert!((f[16] - 0.01 / 17.0).abs() < 1e-12);
    }

    #[test]
    fn dividing_by_nothing_is_refused() {
        let rope = RopeConfig { theta: 10000.0, scaling: RopeScaling::Linear { factor: 0.0 } };
        assert!(rope.validate(64).unwrap_err().message().contains("rope_scaling.factor"));
        let rope = RopeConfig { theta: f64::NAN, scaling: RopeScaling::None };
        assert!(rope.validate(64).unwrap_err().message().contains("rope_theta"));
    }
}
