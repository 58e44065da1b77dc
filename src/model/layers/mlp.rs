//! The gated feed-forward layer.

use mlx_rs::ops;

use super::Linear;
use crate::error::Result;
use crate::mlx::Array;

/// `down(silu(gate(x)) * up(x))` (Shazeer 2020, "GLU variants").
pub struct GatedMlp {
    gate_up: Linear,
    down: Linear,
}

impl GatedMlp {
    /// `gate_up` gives the gate's outputs, then `up`'s.
    pub fn new(gate_up: Linear, down: Linear) -> GatedMlp {
        GatedMlp { gate_up, down }
    }

    /// `residual + mlp(x)`, all `[rows, hidden]`.
    pub fn forward_onto(&self, x: &Array, residual: &Array) -> Result<Array> {
        let both = self.gate_up.forward(x)?;
        let [gate, up]: [Array; 2] = super::split(&both, 2)?;
        let gate = ops::multiply(ops::sigmoid(&gate)?, &gate)?;
        self.down.forward_onto(&ops::multiply(&gate, &up)?, residual)
    }
}
