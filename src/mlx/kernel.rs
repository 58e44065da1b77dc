//! Kernels of ours on a GPU: source text that is compiled for Metal by MLX, and for CUDA by CUDA's own run-time compiler.

#[cfg(quire_host_op)]
mod cuda;
mod metal;

use std::ffi::CString;

use mlx_sys::{mlx_array, mlx_vector_array};

use super::{Array, Dtype, Gpu};
use crate::error::{Error, Result, Status};

/// What the elements of an input or output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    /// `T`, the type that the model computes in.
    Numbers,
    /// 32-bit floats.
    Floats,
    /// Unsigned 32-bit integers.
    Counts,
}

/// A kernel's source. The body is text that both languages understand, or of a kernel for one of them.
pub struct KernelSource<'a> {
    /// Its name, unlike that of any other kernel.
    pub name: &'static str,
    /// Comes before the kernel: what the body's words mean in this language.
    pub header: &'static str,
    /// Opens the body: the names of a thread's place.
    pub entry: &'static str,
    /// The body.
    pub body: &'a str,
    /// What its inputs are called.
    pub inputs: &'static [(&'static str, Elements)],
    /// What its outputs are called.
    pub outputs: &'static [(&'static str, Elements)],
    /// `T`.
    pub dtype: Dtype,
    /// Numbers that it is compiled for.
    pub constants: &'a [(&'static str, i32)],
    /// Limits its registers so that there is room for these (CUDA's compiler is told, Metal's is not).
    pub bounds: Option<Bounds>,
}

/// How many groups of how many threads should run at a time on one of the GPU's processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Threads of a group.
    pub threads: i32,
    /// Groups.
    pub groups: i32,
}

/// A compiled kernel (for Metal: one that MLX compiles when it first runs).
pub struct GpuKernel {
    raw: Raw,
    outputs: Vec<Dtype>,
}

enum Raw {
    #[cfg(quire_host_op)]
    Cuda(cuda::Kernel),
    Metal(metal::Kernel),
}

/// A launch's sizes.
pub struct Launch<'a> {
    /// The outputs' shapes.
    pub shapes: &'a [&'a [i32]],
    /// Threads.
    pub grid: [i32; 3],
    /// Threads of a group.
    pub group: [i32; 3],
    /// Bytes of memory that a group shares beyond what the kernel declares (CUDA only).
    pub shared: i32,
}

impl GpuKernel {
    /// From its source.
    ///
    /// Errors: `DeviceError` if it does not compile, or where this build of MLX takes no such kernels.
    pub fn new(gpu: Gpu, source: &KernelSource<'_>) -> Result<GpuKernel> {
        super::init()?;
        let raw = match gpu {
            #[cfg(quire_host_op)]
            Gpu::Cuda => Raw::Cuda(cuda::Kernel::new(source)?),
            #[cfg(not(quire_host_op))]
            Gpu::Cuda => return Err(refused("this build has no CUDA kernels")),
            Gpu::Metal => Raw::Metal(metal::Kernel::new(source)?),
        };
        let outputs = source.outputs.iter().map(|(_, elements)| elements.dtype(source.dtype)).collect();
        Ok(GpuKernel { raw, outputs })
    }

    /// Adds a launch to the graph and gives its outputs. Inputs that are not contiguous are copied.
    ///
    /// Errors: `DeviceError`. A source that MLX cannot compile is an error when an output is evaluated.
    ///
    /// # Safety
    /// The inputs must be those the source names, of its types; with them and these sizes, the kernel must stay inside
    /// its inputs and its outputs, write every element of the outputs, and write an input only where whoever
    /// made that array expects it and nothing else touches it at the time.
    pub unsafe fn launch(&self, inputs: &[&Array], launch: &Launch<'_>) -> Result<Vec<Array>> {
        let handles: Vec<mlx_array> = inputs.iter().map(|input| input.as_ptr()).collect();
        let stream = mlx_rs::Stream::thread_local_or_default();
        // SAFETY: every handle lives through the calls; vectors are freed below; outputs are owned here.
        unsafe {
            let inputs = mlx_sys::mlx_vector_array_new_data(handles.as_ptr(), handles.len());
            let mut outputs = mlx_sys::mlx_vector_array_new();
            let done = match &self.raw {
                #[cfg(quire_host_op)]
                Raw::Cuda(kernel) => kernel.apply(outputs, inputs, launch, &self.outputs, stream.as_ptr()),
                Raw::Metal(kernel) => {
                    kernel.apply(&mut outputs, inputs, launch, &self.outputs, stream.as_ptr())
                }
            };
            let arrays = if done { all(outputs, self.outputs.len()) } else { None };
            mlx_sys::mlx_vector_array_free(inputs);
            mlx_sys::mlx_vector_array_free(outputs);
            arrays.ok_or_else(|| refused("MLX refused a kernel of ours"))
        }
    }
}

impl Elements {
    fn dtype(self, numbers: Dtype) -> Dtype {
        match self {
            Elements::Numbers => numbers,
            Elements::Floats => Dtype::Float32,
            Elements::Counts => Dtype::Uint32,
        }
    }
}

fn refused(message: &str) -> Error {
    Error::new(Status::DeviceError, message)
}

fn c_text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::internal("a zero byte in a kernel"))
}

/// The arrays of a vector, if it has so many.
///
/// # Safety
/// The vector must be live.
unsafe fn all(arrays: mlx_vector_array, count: usize) -> Option<Vec<Array>> {
    let one = |i: usize| {
        let mut array = mlx_array { ctx: std::ptr::null_mut() };
        // SAFETY: the vector is live; on success `array` is a handle of its own.
        let code = unsafe { mlx_sys::mlx_vector_array_get(&mut array, arrays, i) };
        // SAFETY: a handle of an array, or of none.
        let array = unsafe { Array::from_ptr(array) };
        (code == 0).then_some(array)
    };
    (0..count).map(one).collect()
}
