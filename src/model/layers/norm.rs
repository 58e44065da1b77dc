//! Root-mean-square normalization.

use crate::error::Result;
use crate::mlx::Array;

/// `x / sqrt(mean(x^2) + eps) * weight`, over the last axis (Zhang and Sennrich 2019).
pub struct RmsNorm {
    weight: Array,
    eps: f32,
}

impl RmsNorm {
    /// From its weight `[features]`.
    pub fn new(weight: Array, eps: f32) -> RmsNorm {
        RmsNorm { weight, eps }
    }

    /// `[rows, features]` to the same.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        Ok(mlx_rs::fast::rms_norm(x, Some(&self.weight), self.eps)?)
    }
}
