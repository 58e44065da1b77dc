//! Kernels of ours on a GPU: source text that MLX compiles for Metal or CUDA when it first runs.

use std::ffi::{CStr, CString};

use mlx_sys::{mlx_array, mlx_vector_array, mlx_vector_string};

use super::{Array, Dtype, Gpu};
use crate::error::{Error, Result, Status};

/// A kernel's source. All of it is text that both languages understand, but for `header` and `entry`.
pub struct KernelSource {
    /// Its name, in the names of compiled kernels.
    pub name: &'static CStr,
    /// What its inputs are called: each a pointer to its elements.
    pub inputs: &'static [&'static CStr],
    /// What its only output is called.
    pub output: &'static CStr,
    /// Comes before the kernel: functions and macros that its body uses.
    pub header: String,
    /// The body of the kernel.
    pub body: String,
}

/// What a launch fixes at compile time: the element type is `T`, numbers have names of their own.
pub struct KernelConstants<'a> {
    /// `T`.
    pub dtype: Dtype,
    /// The others.
    pub numbers: &'a [(&'static CStr, i32)],
}

/// A kernel, compiled once for each set of constants.
pub struct GpuKernel {
    raw: Raw,
}

#[derive(Clone, Copy)]
enum Raw {
    Cuda(mlx_sys::mlx_fast_cuda_kernel),
    Metal(mlx_sys::mlx_fast_metal_kernel),
}

#[derive(Clone, Copy)]
enum RawConfig {
    Cuda(mlx_sys::mlx_fast_cuda_kernel_config),
    Metal(mlx_sys::mlx_fast_metal_kernel_config),
}

impl GpuKernel {
    /// From its source. Nothing is compiled yet.
    ///
    /// Errors: `DeviceError` where this build of MLX has no such kernels.
    pub fn new(gpu: Gpu, source: &KernelSource) -> Result<GpuKernel> {
        super::init()?;
        let text = |text: &str| CString::new(text).map_err(|_| Error::internal("a zero byte in a kernel"));
        let (header, body) = (text(&source.header)?, text(&source.body)?);
        let (inputs, outputs) = (Names::new(source.inputs), Names::new(&[source.output]));
        let name = source.name.as_ptr();
        // SAFETY: names and texts live through the call, which copies them.
        let raw = unsafe {
            match gpu {
                Gpu::Cuda => Raw::Cuda(mlx_sys::mlx_fast_cuda_kernel_new(
                    name,
                    inputs.0,
                    outputs.0,
                    body.as_ptr(),
                    header.as_ptr(),
                    true,
                    0,
                )),
                Gpu::Metal => Raw::Metal(mlx_sys::mlx_fast_metal_kernel_new(
                    name,
                    inputs.0,
                    outputs.0,
                    body.as_ptr(),
                    header.as_ptr(),
                    true,
                    false,
                )),
            }
        };
        let made = match raw {
            Raw::Cuda(kernel) => !kernel.ctx.is_null(),
            Raw::Metal(kernel) => !kernel.ctx.is_null(),
        };
        match made {
            true => Ok(GpuKernel { raw }),
            false => Err(Error::new(Status::DeviceError, "this build of MLX takes no kernels of ours")),
        }
    }

    /// Adds a launch to the graph: `grid` threads in groups of `group`; inputs that are not contiguous are
    /// copied. Gives the output, of the constants' type.
    ///
    /// Errors: `DeviceError`; a source that does not compile is an error when the output is evaluated.
    ///
    /// # Safety
    /// With these inputs, constants and sizes, the kernel must stay inside its inputs and its output, write every
    /// element of the output, and write no input.
    pub unsafe fn launch(
        &self,
        inputs: &[&Array],
        shape: &[i32],
        constants: &KernelConstants<'_>,
        grid: [i32; 3],
        group: [i32; 3],
    ) -> Result<Array> {
        let config = Config::new(self.raw);
        config.fill(shape, constants, grid, group)?;
        let handles: Vec<mlx_array> = inputs.iter().map(|input| input.as_ptr()).collect();
        let stream = mlx_rs::Stream::thread_local_or_default();
        // SAFETY: every handle lives through the calls; vectors are freed below; the output is owned here.
        unsafe {
            let inputs = mlx_sys::mlx_vector_array_new_data(handles.as_ptr(), handles.len());
            let mut outputs = mlx_sys::mlx_vector_array_new();
            let stream = stream.as_ptr();
            let code = match (self.raw, config.0) {
                (Raw::Cuda(kernel), RawConfig::Cuda(config)) => {
                    mlx_sys::mlx_fast_cuda_kernel_apply(&mut outputs, kernel, inputs, config, stream)
                }
                (Raw::Metal(kernel), RawConfig::Metal(config)) => {
                    mlx_sys::mlx_fast_metal_kernel_apply(&mut outputs, kernel, inputs, config, stream)
                }
                _ => 1,
            };
            let output = (code == 0).then(|| first(outputs)).flatten();
            mlx_sys::mlx_vector_array_free(inputs);
            mlx_sys::mlx_vector_array_free(outputs);
            output.ok_or_else(|| Error::new(Status::DeviceError, "MLX refused a kernel of ours"))
        }
    }
}

impl Drop for GpuKernel {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe {
            match self.raw {
                Raw::Cuda(kernel) => mlx_sys::mlx_fast_cuda_kernel_free(kernel),
                Raw::Metal(kernel) => mlx_sys::mlx_fast_metal_kernel_free(kernel),
            }
        }
    }
}

/// The first array of a vector.
///
/// # Safety
/// The vector must be live.
unsafe fn first(arrays: mlx_vector_array) -> Option<Array> {
    let mut array = mlx_array { ctx: std::ptr::null_mut() };
    // SAFETY: the vector is live; on success `array` is a handle of its own.
    let code = unsafe { mlx_sys::mlx_vector_array_get(&mut array, arrays, 0) };
    // SAFETY: a handle of an array, or of none.
    let array = unsafe { Array::from_ptr(array) };
    (code == 0).then_some(array)
}

/// A launch's sizes and constants.
struct Config(RawConfig);

impl Config {
    fn new(kernel: Raw) -> Config {
        // SAFETY: no arguments; freed on drop.
        Config(unsafe {
            match kernel {
                Raw::Cuda(_) => RawConfig::Cuda(mlx_sys::mlx_fast_cuda_kernel_config_new()),
                Raw::Metal(_) => RawConfig::Metal(mlx_sys::mlx_fast_metal_kernel_config_new()),
            }
        })
    }

    fn fill(
        &self,
        shape: &[i32],
        constants: &KernelConstants<'_>,
        grid: [i32; 3],
        group: [i32; 3],
    ) -> Result<()> {
        let ([gx, gy, gz], [tx, ty, tz]) = (grid, group);
        let (dims, rank, dtype) = (shape.as_ptr(), shape.len(), constants.dtype.into());
        // SAFETY: the shape and the names live through the calls, which copy them.
        let mut codes = unsafe {
            match self.0 {
                RawConfig::Cuda(c) => vec![
                    mlx_sys::mlx_fast_cuda_kernel_config_add_output_arg(c, dims, rank, dtype),
                    mlx_sys::mlx_fast_cuda_kernel_config_set_grid(c, gx, gy, gz),
                    mlx_sys::mlx_fast_cuda_kernel_config_set_thread_group(c, tx, ty, tz),
                    mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_dtype(c, c"T".as_ptr(), dtype),
                ],
                RawConfig::Metal(c) => vec![
                    mlx_sys::mlx_fast_metal_kernel_config_add_output_arg(c, dims, rank, dtype),
                    mlx_sys::mlx_fast_metal_kernel_config_set_grid(c, gx, gy, gz),
                    mlx_sys::mlx_fast_metal_kernel_config_set_thread_group(c, tx, ty, tz),
                    mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_dtype(c, c"T".as_ptr(), dtype),
                ],
            }
        };
        for &(name, number) in constants.numbers {
            let name = name.as_ptr();
            // SAFETY: as above.
            codes.push(unsafe {
                match self.0 {
                    RawConfig::Cuda(c) => {
                        mlx_sys::mlx_fast_cuda_kernel_config_add_template_arg_int(c, name, number)
                    }
                    RawConfig::Metal(c) => {
                        mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_int(c, name, number)
                    }
                }
            });
        }
        match codes.iter().all(|&code| code == 0) {
            true => Ok(()),
            false => Err(Error::new(Status::DeviceError, "MLX refused the sizes of a kernel of ours")),
        }
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe {
            match self.0 {
                RawConfig::Cuda(c) => mlx_sys::mlx_fast_cuda_kernel_config_free(c),
                RawConfig::Metal(c) => mlx_sys::mlx_fast_metal_kernel_config_free(c),
            }
        }
    }
}

/// A list of names, as MLX takes it.
struct Names(mlx_vector_string);

impl Names {
    fn new(names: &[&CStr]) -> Names {
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
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
