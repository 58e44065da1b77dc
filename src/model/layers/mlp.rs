//! Feed-forward layers.

use super::activation::Relu2;
use super::{Kernels, Linear};
use crate::error::Result;
use crate::mlx::{Array, Dtype};

/// What follows attention in a block, whatever it is made of.
pub trait FeedForward {
    /// `residual + feed_forward(x)`, all `[rows, hidden]`.
    fn forward_onto(&self, x: &Array, residual: &Array) -> Result<Array>;
}

/// `down(silu(gate(x)) * up(x))` (Shazeer 2020, "GLU variants").
pub struct GatedMlp {
    gate_up: Linear,
    down: Linear,
    kernels: Kernels,
}

impl GatedMlp {
    /// `gate_up` gives the gate's outputs, then `up`'s.
    pub fn new(gate_up: Linear, down: Linear, kernels: &Kernels) -> GatedMlp {
        GatedMlp { gate_up, down, kernels: kernels.clone() }
    }
}

impl FeedForward for GatedMlp {
    fn forward_onto(&self, x: &Array, residual: &Array) -> Result<Array> {
        let both = self.gate_up.forward(x)?;
        #[cfg(quire_host_op)]
        if let Kernels::Host(host) = &self.kernels {
            return self.down.forward_onto(&host.swiglu(&both)?, residual);
        }
        self.down.forward_onto(&self.kernels.swiglu(&both)?, residual)
    }
}

/// `down(max(up(x), 0)^2)` (So et al. 2021, arXiv:2109.08668).
pub struct SquaredReluMlp {
    up: Linear,
    down: Linear,
    relu2: Relu2,
}

impl SquaredReluMlp {
    /// From its two layers, and the type they compute in.
    pub fn new(up: Linear, down: Linear, dtype: Dtype) -> Result<SquaredReluMlp> {
        Ok(SquaredReluMlp { up, down, relu2: Relu2::new(dtype)? })
    }
}

impl FeedForward for SquaredReluMlp {
    fn forward_onto(&self, x: &Array, residual: &Array) -> Result<Array> {
        self.down.forward_onto(&self.relu2.forward(&self.up.forward(x)?)?, residual)
    }
}
