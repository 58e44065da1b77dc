//! Arrays from what files hold.

use std::ffi::c_void;

use mlx_rs::ops::indexing::TryIndexOp;

use super::{Array, Dtype};
use crate::error::{Error, Result, Status};

/// An array of this shape and type from its bytes (the host's byte order, rows first).
///
/// Errors: `Internal` if there are too few or too many.
pub fn from_bytes(bytes: &[u8], shape: &[i32], dtype: Dtype) -> Result<Array> {
    let size = match dtype {
        Dtype::Float32 | Dtype::Uint32 => 4,
        Dtype::Float16 | Dtype::Bfloat16 => 2,
        Dtype::Uint8 => 1,
        other => return Err(Error::internal(format!("arrays of {other:?} are not made from bytes"))),
    };
    check(bytes.len(), size, shape)?;
    if bytes.as_ptr().align_offset(size) != 0 {
        return Err(Error::internal("bytes of an array are not aligned"));
    }
    // SAFETY: the buffer holds exactly the elements of this shape, aligned; MLX copies it.
    Ok(unsafe { Array::from_raw_data(bytes.as_ptr().cast::<c_void>(), shape, dtype) })
}

/// An array of unsigned 32-bit words.
pub fn from_u32(words: &[u32], shape: &[i32]) -> Result<Array> {
    check(words.len(), 1, shape)?;
    Ok(Array::from_slice(words, shape))
}

/// An array of 16-bit IEEE floats from their bits.
pub fn from_f16_bits(bits: &[u16], shape: &[i32]) -> Result<Array> {
    check(bits.len(), 1, shape)?;
    // SAFETY: the buffer holds exactly the elements of this shape, aligned; MLX copies it.
    Ok(unsafe { Array::from_raw_data(bits.as_ptr().cast::<c_void>(), shape, Dtype::Float16) })
}

/// An array of this shape and type from its bytes in words of 32 bits.
///
/// Errors: `Internal` if there are too few or too many, or for an element type of more than 32 bits.
pub fn from_words(words: &[u32], shape: &[i32], dtype: Dtype) -> Result<Array> {
    // SAFETY: any bytes are valid bytes, and words are aligned for them.
    let bytes = unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), size_of_val(words)) };
    from_bytes(bytes, shape, dtype)
}

/// The bytes of an array, computed and row-major.
pub fn to_bytes(x: &Array) -> Result<Vec<u8>> {
    let x = x.contiguous()?;
    x.eval()?;
    // SAFETY: the array is computed, so that its data pointer is valid (or NULL, if it is empty).
    let data = unsafe { mlx_sys::mlx_array_data_uint8(x.as_ptr()) };
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: it is contiguous, of as many bytes, and lives until the end of this function.
    Ok(unsafe { std::slice::from_raw_parts(data, x.nbytes()) }.to_vec())
}

/// The first `n` rows of a matrix.
pub fn rows(x: &Array, n: i32) -> Result<Array> {
    if x.dim(0) == n { Ok(x.clone()) } else { Ok(x.try_index(..n)?) }
}

/// The first `n` columns of a matrix.
pub fn columns(x: &Array, n: i32) -> Result<Array> {
    Ok(x.try_index((.., ..n))?)
}

/// The columns of a matrix from column `from` on.
pub fn last_columns(x: &Array, from: i32) -> Result<Array> {
    Ok(x.try_index((.., from..))?)
}

/// One column of a matrix, as a matrix `[rows, 1]`.
pub fn column(x: &Array, i: i32) -> Result<Array> {
    Ok(x.try_index((.., i..i + 1))?)
}

/// The bits of a matrix of unsigned 32-bit words `[rows, n]`, lowest first, as booleans `[rows, 32 n]`.
pub fn bits(words: &Array) -> Result<Array> {
    let (rows, n) = (words.dim(0), words.dim(1));
    let places: Vec<u32> = (0..32).map(|i| 1 << i).collect();
    let places = Array::from_slice(&places, &[1, 1, 32]);
    let words = words.reshape(&[rows, n, 1])?;
    let stream = mlx_rs::Stream::thread_local_or_default();
    // mlx-rs has no operation for this.
    // SAFETY: the inputs and the stream are live; the output's handle is written on success only, and is then
    // owned by the array made of it.
    let bits = unsafe {
        let mut bits = mlx_sys::mlx_array_new();
        let code = mlx_sys::mlx_bitwise_and(&mut bits, words.as_ptr(), places.as_ptr(), stream.as_ptr());
        let bits = Array::from_ptr(bits);
        if code != 0 {
            return Err(Error::new(Status::DeviceError, "MLX refused to take words apart into bits"));
        }
        bits
    };
    Ok(mlx_rs::ops::ne(bits, Array::from_slice(&[0u32], &[1]))?.reshape(&[rows, 32 * n])?)
}

fn check(len: usize, size: usize, shape: &[i32]) -> Result<()> {
    let elements: usize = shape.iter().map(|&n| n as usize).product();
    if elements * size != len {
        return Err(Error::internal(format!("{len} bytes or elements for an array of shape {shape:?}")));
    }
    Ok(())
}
