//! Through MLX's own custom kernels, which it compiles when they first run.

use std::ffi::{CString, c_char};

use mlx_sys::{mlx_stream, mlx_vector_array, mlx_vector_string};

use super::{KernelSource, Launch, c_text, refused};
use crate::error::Result;
use crate::mlx::Dtype;

/// A kernel, and what it is compiled for.
pub(super) struct Kernel {
    raw: mlx_sys::mlx_fast_metal_kernel,
    dtype: Dtype,
    constants: Vec<(CString, i32)>,
}

impl Kernel {
    pub(super) fn new(source: &KernelSource<'_>) -> Result<Kernel> {
        let names =
            |of: &[(&str, super::Elements)]| of.iter().map(|(name, _)| c_text(name)).collect::<Result<_>>();
        let (inputs, outputs): (Vec<CString>, Vec<CString>) = (names(source.inputs)?, names(source.outputs)?);
        let (inputs, outputs) = (Names::new(&inputs), Names::new(&outputs));
        let body = c_text(&format!("{}{}", source.entry, source.body))?;
        let (name, header) = (c_text(source.name)?, c_text(source.header)?);
        // SAFETY: names and texts live through the call, which copies them.
        let raw = unsafe {
            mlx_sys::mlx_fast_metal_kernel_new(
                name.as_ptr(),
                inputs.0,
                outputs.0,
                body.as_ptr(),
                header.as_ptr(),
                true,
                false,
            )
        };
        if raw.ctx.is_null() {
            return Err(refused("this build of MLX takes no kernels of ours"));
        }
        // From here on dropping frees it.
        let mut kernel = Kernel { raw, dtype: source.dtype, constants: Vec::new() };
        for &(name, value) in source.constants {
            kernel.constants.push((c_text(name)?, value));
        }
        Ok(kernel)
    }

    /// Puts a launch's outputs into `results`; whether it could.
    ///
    /// # Safety
    /// Handles must be live; and those of [`launch`](super::GpuKernel::launch).
    pub(super) unsafe fn apply(
        &self,
        results: &mut mlx_vector_array,
        inputs: mlx_vector_array,
        launch: &Launch<'_>,
        dtypes: &[Dtype],
        stream: mlx_stream,
    ) -> bool {
        if launch.shared != 0 {
            return false;
        }
        let config = Config::new();
        // SAFETY: the handles are live, by the caller.
        config.fill(launch, dtypes, self)
            && unsafe {
                mlx_sys::mlx_fast_metal_kernel_apply(results, self.raw, inputs, config.0, stream) == 0
            }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { mlx_sys::mlx_fast_metal_kernel_free(self.raw) };
    }
}

/// A launch's sizes and constants, as MLX takes them.
struct Config(mlx_sys::mlx_fast_metal_kernel_config);

impl Config {
    fn new() -> Config {
        // SAFETY: no arguments; freed on drop.
        Config(unsafe { mlx_sys::mlx_fast_metal_kernel_config_new() })
    }

    /// Whether it could.
    fn fill(&self, launch: &Launch<'_>, dtypes: &[Dtype], kernel: &Kernel) -> bool {
        let ([gx, gy, gz], [tx, ty, tz]) = (launch.grid, launch.group);
        // SAFETY: shapes and names live through the calls, which copy them.
        unsafe {
            let outputs = launch.shapes.iter().zip(dtypes).all(|(shape, &dtype)| {
                let (dims, rank) = (shape.as_ptr(), shape.len());
                mlx_sys::mlx_fast_metal_kernel_config_add_output_arg(self.0, dims, rank, dtype.into()) == 0
            });
            let constants = kernel.constants.iter().all(|(name, value)| {
                mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_int(self.0, name.as_ptr(), *value) == 0
            });
            let numbers = kernel.dtype.into();
            outputs
                && constants
                && mlx_sys::mlx_fast_metal_kernel_config_set_grid(self.0, gx, gy, gz) == 0
                && mlx_sys::mlx_fast_metal_kernel_config_set_thread_group(self.0, tx, ty, tz) == 0
                && mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_dtype(
                    self.0,
                    c"T".as_ptr(),
                    numbers,
                ) == 0
        }
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { mlx_sys::mlx_fast_metal_kernel_config_free(self.0) };
    }
}

/// A list of names, as MLX takes it.
struct Names(mlx_vector_string);

impl Names {
    fn new(names: &[CString]) -> Names {
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the pointers and what they point to live through the call, which copies it.
        Names(unsafe { mlx_sys::mlx_vector_string_new_data(pointers.as_mut_ptr(), pointers.len()) })
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { mlx_sys::mlx_vector_string_free(self.0) };
    }
}
