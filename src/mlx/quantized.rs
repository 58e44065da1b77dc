//! Packed weights in every mode MLX has; mlx-rs's own functions know the affine one only.

use std::ffi::CStr;

use mlx_sys::{mlx_array, mlx_optional_dtype, mlx_optional_int, mlx_stream};

use super::{Array, Dtype};
use crate::error::{Error, Result, Status};

/// How a matrix is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// Elements of a row that share a scale.
    pub group_size: i32,
    /// Bits an element takes.
    pub bits: i32,
    /// MLX's name of the mode: `affine` (with biases), `mxfp4`, `mxfp8` or `nvfp4` (without).
    pub mode: &'static CStr,
}

/// `x` `[n, columns]` times the transpose of packed weights `[rows, columns]`: `[n, rows]`, of `x`'s type.
///
/// Errors: `DeviceError` if MLX refuses the shapes, types or mode.
pub fn quantized_matmul(
    x: &Array,
    weight: &Array,
    scales: &Array,
    biases: Option<&Array>,
    packing: Packing,
) -> Result<Array> {
    call("a product with quantized weights", |result, stream| {
        let (group_size, bits) = (some(packing.group_size), some(packing.bits));
        // SAFETY: the arrays and the stream live through the call, which writes a new array to `result`.
        unsafe {
            let (x, w, scales) = (x.as_ptr(), weight.as_ptr(), scales.as_ptr());
            let (biases, mode) = (handle(biases), packing.mode.as_ptr());
            mlx_sys::mlx_quantized_matmul(result, x, w, scales, biases, true, group_size, bits, mode, stream)
        }
    })
}

/// Rows `x` `[.., 1, columns]` times the transposes of those matrices of a packed stack `[n, rows, columns]` that
/// `which` (unsigned 32-bit, each below `n`) names for each: `[.., 1, rows]`, of `x`'s type. The shape of `which`
/// and that of `x` but for its last two dimensions are broadcast to each other. `sorted` promises that `which` never
/// falls.
///
/// Errors: `DeviceError` if MLX refuses the shapes, types or mode.
pub fn gather_qmm(
    x: &Array,
    weight: &Array,
    scales: &Array,
    biases: Option<&Array>,
    packing: Packing,
    which: &Array,
    sorted: bool,
) -> Result<Array> {
    call("a product with a stack of quantized weights", |result, stream| {
        let (group_size, bits) = (some(packing.group_size), some(packing.bits));
        // SAFETY: as above.
        unsafe {
            let (x, w, scales) = (x.as_ptr(), weight.as_ptr(), scales.as_ptr());
            let (biases, mode) = (handle(biases), packing.mode.as_ptr());
            let (rows, which) = (handle(None), which.as_ptr());
            mlx_sys::mlx_gather_qmm(
                result, x, w, scales, biases, rows, which, true, group_size, bits, mode, sorted, stream,
            )
        }
    })
}

/// Packed weights `[rows, columns]` as floats of this type.
///
/// Errors: `DeviceError` if MLX refuses the shapes, types or mode.
pub fn dequantize(
    weight: &Array,
    scales: &Array,
    biases: Option<&Array>,
    packing: Packing,
    dtype: Dtype,
) -> Result<Array> {
    let unpacked = call("unpacking quantized weights", |result, stream| {
        let (group_size, bits) = (some(packing.group_size), some(packing.bits));
        // With scales in float32 affine weights come out as such; what the other modes hold, bfloat16 does too.
        let own = mlx_optional_dtype { value: mlx_sys::mlx_dtype__MLX_FLOAT32, has_value: false };
        // SAFETY: as above.
        unsafe {
            let (w, scales, biases) = (weight.as_ptr(), scales.as_ptr(), handle(biases));
            let (mode, global_scale) = (packing.mode.as_ptr(), handle(None));
            mlx_sys::mlx_dequantize(
                result,
                w,
                scales,
                biases,
                group_size,
                bits,
                mode,
                global_scale,
                own,
                stream,
            )
        }
    })?;
    Ok(unpacked.as_dtype(dtype)?)
}

fn some(value: i32) -> mlx_optional_int {
    mlx_optional_int { value, has_value: true }
}

/// An array's handle, or that of none: it owns nothing, so nothing frees it.
fn handle(array: Option<&Array>) -> mlx_array {
    array.map_or(mlx_array { ctx: std::ptr::null_mut() }, Array::as_ptr)
}

fn call(what: &str, op: impl FnOnce(*mut mlx_array, mlx_stream) -> i32) -> Result<Array> {
    let stream = mlx_rs::Stream::thread_local_or_default();
    let mut result = handle(None);
    let code = op(&mut result, stream.as_ptr());
    // SAFETY: `result` is the handle of a new array, or of none, and is owned here.
    let result = unsafe { Array::from_ptr(result) };
    if code != 0 {
        return Err(Error::new(Status::DeviceError, format!("MLX refused {what}")));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_an_error() {
        crate::mlx::init().unwrap();
        let weight = Array::from_slice(&[0u32; 8], &[2, 4]);
        let scales = Array::from_slice(&[127u8, 127], &[2, 1]);
        let packing = Packing { group_size: 32, bits: 4, mode: c"mxfp4" };
        let dense = dequantize(&weight, &scales, None, packing, Dtype::Float32).unwrap();
        assert_eq!(dense.shape(), [2, 32]);
        for wrong in [Packing { mode: c"mxfp5", ..packing }, Packing { bits: 8, ..packing }] {
            let e = dequantize(&weight, &scales, None, wrong, Dtype::Float32).unwrap_err();
            assert_eq!(e.status(), Status::DeviceError);
            let x = Array::from_slice(&[0f32; 32], &[1, 32]);
            assert!(quantized_matmul(&x, &weight, &scales, None, wrong).is_err());
        }
    }
}
