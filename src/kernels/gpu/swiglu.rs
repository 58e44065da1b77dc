//! The gated activation in one launch.

use mlx_rs::ops;

use super::{compare, numbers, source};
use crate::error::Result;
use crate::mlx::{Array, Dtype, Gpu, GpuKernel, KernelConstants};

/// Threads of a group.
const THREADS: i32 = 256;

/// `silu(gate) * up`.
pub struct SwiGlu {
    kernel: GpuKernel,
    dtype: Dtype,
}

impl SwiGlu {
    /// Compiled, and compared with MLX's operations.
    ///
    /// Errors: `DeviceError` if it does not compile or differs.
    pub(super) fn checked(gpu: Gpu, dtype: Dtype) -> Result<SwiGlu> {
        let body = include_str!("swiglu.h");
        let kernel = GpuKernel::new(gpu, &source(gpu, c"quire_swiglu", &[c"both"], body))?;
        let swiglu = SwiGlu { kernel, dtype };
        let both = numbers(&[3, 2 * 300], dtype)?;
        compare(&swiglu.run(&both)?, &expected(&both)?, dtype)?;
        Ok(swiglu)
    }

    /// Of gate and up side by side in the last axis: `[.., 2 * width]` to `[.., width]`. `None` for numbers of
    /// another type than it was checked with.
    pub fn forward(&self, both: &Array) -> Result<Option<Array>> {
        if both.dtype() != self.dtype {
            return Ok(None);
        }
        self.run(both).map(Some)
    }

    fn run(&self, both: &Array) -> Result<Array> {
        let mut shape = both.shape().to_vec();
        let width = both.dim(-1) / 2;
        let rows: i32 = shape[..shape.len() - 1].iter().product();
        // Two-dimensional, so that one compiled kernel serves every width: its text reads the shape.
        let both = both.reshape(&[rows, 2 * width])?;
        if let Some(last) = shape.last_mut() {
            *last = width;
        }
        let numbers = [(c"THREADS", THREADS)];
        let constants = KernelConstants { dtype: self.dtype, numbers: &numbers };
        let grid = [(width + THREADS - 1) / THREADS * THREADS, rows, 1];
        // SAFETY: a thread reads and writes one column below the width of one of the rows.
        unsafe { self.kernel.launch(&[&both], &shape, &constants, grid, [THREADS, 1, 1]) }
    }
}

/// By MLX's operations, in float32.
fn expected(both: &Array) -> Result<Array> {
    let parts = both.as_dtype(Dtype::Float32)?.split_equal(2, -1)?;
    let gate = ops::multiply(ops::sigmoid(&parts[0])?, &parts[0])?;
    Ok(ops::multiply(&gate, &parts[1])?)
}
