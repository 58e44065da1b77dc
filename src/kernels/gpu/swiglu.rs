//! The gated activation in one launch.

use super::{checks, source};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, Elements, Gpu, GpuKernel, Launch};

/// Threads of a group.
const THREADS: i32 = 256;

/// `silu(gate) * up`, of one width.
pub struct SwiGlu {
    kernel: GpuKernel,
    dtype: Dtype,
    width: i32,
}

impl SwiGlu {
    /// For this many columns of each, compiled, and compared with a calculation on the host.
    ///
    /// Errors: `DeviceError` if it does not compile or differs.
    pub(super) fn checked(gpu: Gpu, width: usize, dtype: Dtype) -> Result<SwiGlu> {
        let width = width as i32;
        let (inputs, outputs) = (&[("both", Elements::Numbers)], &[("out", Elements::Numbers)]);
        let constants = [("WIDTH", width), ("THREADS", THREADS)];
        let body = include_str!("swiglu.h");
        let kernel =
            GpuKernel::new(gpu, &source(gpu, "quire_swiglu", body, inputs, outputs, dtype, &constants))?;
        let swiglu = SwiGlu { kernel, dtype, width };
        checks::swiglu(&swiglu)?;
        Ok(swiglu)
    }

    /// Columns of the gate, and of what it gates.
    pub fn width(&self) -> i32 {
        self.width
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Of gate and up side by side in the last axis: `[.., 2 * width]` to `[.., width]`.
    ///
    /// Errors: `Internal` for numbers of another width or type.
    pub fn forward(&self, both: &Array) -> Result<Array> {
        let mut shape = both.shape().to_vec();
        let Some(last) = shape.last_mut().filter(|last| **last == 2 * self.width) else {
            return Err(Error::internal("a gated activation of another width than its kernel"));
        };
        if both.dtype() != self.dtype {
            return Err(Error::internal("a gated activation of another type than its kernel"));
        }
        *last = self.width;
        let rows: i32 = shape[..shape.len() - 1].iter().product();
        // There may be more rows, with experts, than CUDA's grids reach in any but the first direction.
        let grid = [rows * THREADS, (self.width + THREADS - 1) / THREADS, 1];
        let launch = Launch { shapes: &[&shape], grid, group: [THREADS, 1, 1], shared: 0 };
        // SAFETY: a thread reads and writes one column below the width of one of the rows.
        let mut outputs = unsafe { self.kernel.launch(&[both], &launch)? };
        outputs.pop().ok_or_else(|| Error::internal("a kernel gave no output"))
    }
}
