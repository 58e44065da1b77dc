//! Feed-forward layers.

use super::activation::swiglu;
use super::{Kernels, Linear};
use crate::error::Result;
use crate::mlx::Array;

/// What follows attention in a block, whatever it is made of.
pub trait FeedForward {
    /// `residual + feed_forward(x)`, all `[rows, hidden]`.
    fn forward_onto(&self, x: &Array, residual: &Array) -> Result<Array>;
}

/// `down(silu(gate(x)) * up(x))` (Shazeer 2020, "GLU variants").
pub struct GatedMlp {
    gate_up: Linear,
    down: Linear,
    #[cfg_attr(not(quire_host_op), expect(dead_code, reason = "only our own kernels are asked for"))]
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
        self.down.forward_onto(&swiglu(&both)?, residual)
    }
}
