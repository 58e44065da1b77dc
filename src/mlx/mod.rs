//! The only place that touches mlx-sys, and what the rest of the crate builds on mlx-rs with.
//!
//! Promises: MLX's own error handler, which exits the process, is replaced before anything that can
//! fail; an MLX error becomes an [`Error`] with a status; arrays are created, used and dropped on the
//! thread that made the [`Device`].

mod array;
mod device;
#[cfg(quire_host_op)]
mod host_op;
mod kernel;
mod load;
mod memory;
mod quantized;
mod upload;

use mlx_rs::error::Exception;

pub use array::{
    bits, column, columns, from_bytes, from_f16_bits, from_u32, from_words, last_columns, rows, to_bytes,
};
pub use device::{Device, Gpu};
#[cfg(quire_host_op)]
pub use host_op::{Faults, Held, Inputs, host_op};
pub use kernel::{Bounds, Elements, GpuKernel, KernelSource, Launch};
pub use load::LazyReads;
pub use memory::{available_host_memory, host_memory, return_zero_pages, trim_host_allocator};
pub use quantized::{Packing, dequantize, gather_qmm, quantized_matmul};
pub use upload::{Word, together, upload};

use crate::error::{Error, Result, Status};

/// An MLX array.
pub type Array = mlx_rs::Array;
/// An element type.
pub type Dtype = mlx_rs::Dtype;

/// Installs mlx-rs's error handler, which hands errors to the calling thread. Without one, MLX prints
/// and exits; mlx-rs installs it at the first operation that returns a result, so this is one.
pub fn init() -> Result<()> {
    mlx_rs::memory::active_memory()?;
    Ok(())
}

impl From<Exception> for Error {
    fn from(e: Exception) -> Error {
        let what = e.what();
        let lower = what.to_lowercase();
        let memory = ["out of memory", "unable to allocate", "malloc", "exceeds the maximum allowed buffer"];
        let status = match memory.iter().any(|word| lower.contains(word)) {
            true => Status::OutOfMemory,
            false => Status::DeviceError,
        };
        Error::new(status, format!("MLX: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_back_instead_of_exiting() {
        init().unwrap();
        let a = Array::from_slice(&[1f32, 2.0], &[2]);
        let b = Array::from_slice(&[1f32, 2.0, 3.0], &[3]);
        let e = Error::from(mlx_rs::ops::add(&a, &b).unwrap_err());
        assert_eq!(e.status(), Status::DeviceError);
        assert!(e.message().starts_with("MLX: "), "{e}");
        let e = Error::from(Exception::custom("[malloc_or_wait] Unable to allocate 99 bytes."));
        assert_eq!(e.status(), Status::OutOfMemory);
    }
}
