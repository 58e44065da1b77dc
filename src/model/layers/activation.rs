//! What lies between the projections of feed-forward layers.

use mlx_rs::ops;

use crate::error::Result;
use crate::mlx::{Array, Dtype};

/// `silu(gate) * up` of both side by side in the last axis, gate first (Shazeer 2020, arXiv:2002.05202).
pub(super) fn swiglu(both: &Array) -> Result<Array> {
    let (gate, up) = super::pair(ops::split_equal(both, 2, -1)?)?;
    let gate = ops::multiply(ops::sigmoid(&gate)?, &gate)?;
    Ok(ops::multiply(&gate, &up)?)
}

/// `max(x, 0)^2` (So et al. 2021, arXiv:2109.08668).
pub struct Relu2 {
    /// In the type it is compared with, so that no step converts it.
    zero: Array,
}

impl Relu2 {
    /// For numbers of this type.
    pub fn new(dtype: Dtype) -> Result<Relu2> {
        let zero = Array::from_f32(0.0).as_dtype(dtype)?;
        zero.eval()?;
        Ok(Relu2 { zero })
    }

    /// Any shape to the same.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        Ok(ops::maximum(x, &self.zero)?.square()?)
    }
}
