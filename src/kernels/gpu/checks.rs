//! What kernels are compared with before they are used: the same on the host, in float32.

mod pages;
mod products;

pub(super) use pages::pages;
pub(super) use products::{by_expert, grouped, product};

use super::SwiGlu;
use crate::error::{Error, Result, Status};
use crate::mlx::{Array, Dtype};

/// How far a kernel's numbers of size 1 may be from those in float32.
fn tolerance(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::Bfloat16 => 0.01,
        Dtype::Float16 => 0.002,
        _ => 0.0002,
    }
}

/// An error if a kernel's numbers differ from those expected.
pub(super) fn compare(what: &str, got: &[f32], expected: &[f32], dtype: Dtype) -> Result<()> {
    let off = |(a, b): (&f32, &f32)| {
        let difference = (a - b).abs() / b.abs().max(1.0);
        if difference.is_nan() { f32::INFINITY } else { difference }
    };
    let worst = got.iter().zip(expected).map(off).fold(0.0, f32::max);
    if got.len() != expected.len() || worst > tolerance(dtype) {
        return Err(Error::new(Status::DeviceError, format!("its {what} are off by {worst}")));
    }
    Ok(())
}

/// Numbers in (-1, 1) to check with, the same each time.
pub(super) fn numbers(shape: &[i32], dtype: Dtype) -> Result<Array> {
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

/// An array's numbers.
pub(super) fn floats(array: &Array) -> Result<Vec<f32>> {
    let array = array.as_dtype(Dtype::Float32)?;
    array.to_vec_exact().map_err(|e| Error::internal(format!("reading a kernel's output: {e}")))
}

/// Some rows, the last columns not a whole group.
pub(super) fn swiglu(kernel: &SwiGlu) -> Result<()> {
    let width = kernel.width() as usize;
    let both = numbers(&[3, 2 * kernel.width()], kernel.dtype())?;
    let got = floats(&kernel.forward(&both)?)?;
    let mut expected = Vec::with_capacity(got.len());
    for row in floats(&both)?.chunks_exact(2 * width) {
        let (gate, up) = row.split_at(width);
        expected.extend(gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up));
    }
    compare("numbers", &got, &expected, kernel.dtype())
}
