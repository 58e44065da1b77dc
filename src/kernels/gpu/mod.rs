//! Fused kernels for GPUs: one text for Metal and CUDA, with a thin prelude for each.
//!
//! Promises: a kernel is used only after it agreed, on this device and with the model's own shapes, with MLX's
//! operations; one that does not compile or differs steps aside with a warning.

mod attention;
mod swiglu;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::rc::Rc;

pub use attention::{PagedAttention, PagedShape};
pub use swiglu::SwiGlu;

use crate::error::{Error, Result, Status};
use crate::log::Level;
use crate::mlx::{Array, Dtype, Gpu, KernelSource};

/// The kernels of one engine; clones share them.
#[derive(Clone)]
pub struct GpuKernels {
    gpu: Gpu,
    checked: Rc<Checked>,
}

/// Empty until they are checked; then those that passed.
#[derive(Default)]
struct Checked {
    attention: OnceCell<Option<PagedAttention>>,
    swiglu: OnceCell<Option<SwiGlu>>,
}

impl GpuKernels {
    /// For a GPU. None is used before [`check`](GpuKernels::check).
    pub fn new(gpu: Gpu) -> GpuKernels {
        GpuKernels { gpu, checked: Rc::default() }
    }

    /// The kind of GPU.
    pub fn gpu(&self) -> Gpu {
        self.gpu
    }

    /// Compiles the kernels for a model that computes in `dtype`, and compares each with MLX's operations. Takes
    /// the time of compiling them, once.
    pub fn check(&self, shape: PagedShape, dtype: Dtype) {
        let attention = passed("paged attention", PagedAttention::checked(self.gpu, shape, dtype));
        let swiglu = passed("SwiGLU", SwiGlu::checked(self.gpu, dtype));
        // Both are empty unless a model is checked twice; then the first result stays.
        let _ = self.checked.attention.set(attention);
        let _ = self.checked.swiglu.set(swiglu);
    }

    /// Attention that reads pages itself, if it passed.
    pub fn attention(&self) -> Option<&PagedAttention> {
        self.checked.attention.get()?.as_ref()
    }

    /// The gated activation, if it passed.
    pub fn swiglu(&self) -> Option<&SwiGlu> {
        self.checked.swiglu.get()?.as_ref()
    }
}

fn passed<K>(name: &str, kernel: Result<K>) -> Option<K> {
    match kernel {
        Ok(kernel) => Some(kernel),
        Err(e) => {
            crate::log::write(Level::Warning, format_args!("the {name} kernel steps aside: {e}"));
            None
        }
    }
}

/// A kernel's source for a GPU: the prelude, and the body behind the names of a thread's place.
fn source(
    gpu: Gpu,
    name: &'static std::ffi::CStr,
    inputs: &'static [&'static std::ffi::CStr],
    body: &str,
) -> KernelSource {
    let (header, entry) = match gpu {
        Gpu::Cuda => (include_str!("prelude_cuda.h"), include_str!("entry_cuda.h")),
        Gpu::Metal => (include_str!("prelude_metal.h"), include_str!("entry_metal.h")),
    };
    KernelSource { name, inputs, output: c"out", header: header.into(), body: format!("{entry}{body}") }
}

/// How far a kernel's numbers of size 1 may be from those of MLX's operations in this type, which round between
/// them.
fn tolerance(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::Bfloat16 => 0.02,
        Dtype::Float16 => 0.003,
        _ => 0.0005,
    }
}

/// An error if a kernel's numbers differ from those expected, both of the same shape.
fn compare(got: &Array, expected: &Array, dtype: Dtype) -> Result<()> {
    let floats = |array: &Array| -> Result<Vec<f32>> {
        let array = array.as_dtype(Dtype::Float32)?;
        array.to_vec_exact().map_err(|e| Error::internal(format!("reading a kernel's output: {e}")))
    };
    let (got, expected) = (floats(got)?, floats(expected)?);
    let off = |(a, b): (&f32, &f32)| {
        let difference = (a - b).abs() / b.abs().max(1.0);
        if difference.is_nan() { f32::INFINITY } else { difference }
    };
    let worst = got.iter().zip(&expected).map(off).fold(0.0, f32::max);
    if got.len() != expected.len() || worst > tolerance(dtype) {
        return Err(Error::new(Status::DeviceError, format!("it is off by {worst} from MLX's operations")));
    }
    Ok(())
}

/// Numbers in (-1, 1) to check with, the same each time.
fn numbers(shape: &[i32], dtype: Dtype) -> Result<Array> {
    let count: i32 = shape.iter().product();
    let mut state = 1u32;
    let values: Vec<f32> = (0..count)
        .map(|_| {
            // Numerical Recipes' linear congruential generator.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Ok(Array::from_slice(&values, shape).as_dtype(dtype)?)
}
