//! Through native/cuda: kernels compiled without MLX's headers.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

use mlx_sys::{mlx_dtype, mlx_stream, mlx_vector_array};

use super::{Bounds, Elements, KernelSource, Launch, c_text};
use crate::error::{Error, Result, Status};
use crate::mlx::Dtype;

/// A compiled kernel.
pub(super) struct Kernel(NonNull<c_void>);

unsafe extern "C" {
    fn quire_cuda_kernel_new(
        source: *const c_char,
        name: *const c_char,
        why: *mut c_char,
        size: usize,
    ) -> *mut c_void;
    fn quire_cuda_kernel_free(kernel: *mut c_void);
    fn quire_cuda_kernel_apply(
        results: mlx_vector_array,
        kernel: *mut c_void,
        inputs: mlx_vector_array,
        outputs: usize,
        shapes: *const i32,
        ranks: *const usize,
        dtypes: *const mlx_dtype,
        grid: *const i32,
        group: *const i32,
        shared: i32,
        stream: mlx_stream,
    ) -> i32;
}

impl Kernel {
    pub(super) fn new(source: &KernelSource<'_>) -> Result<Kernel> {
        // Constants in the name: MLX tells kernels apart by it.
        let numbers: Vec<String> = source.constants.iter().map(|(_, value)| value.to_string()).collect();
        let name = format!("{}_{:?}_{}", source.name, source.dtype, numbers.join("_")).replace('-', "m");
        let (text, c_name) = (c_text(&text(source, &name)?)?, c_text(&name)?);
        let mut why = vec![0u8; 4096];
        let buffer = why.as_mut_ptr().cast::<c_char>();
        // SAFETY: both texts live through the call, which copies them; the buffer is of the size it is told.
        let kernel =
            NonNull::new(unsafe { quire_cuda_kernel_new(text.as_ptr(), c_name.as_ptr(), buffer, why.len()) });
        kernel.map(Kernel).ok_or_else(|| {
            let why = CStr::from_bytes_until_nul(&why).unwrap_or_default();
            Error::new(Status::DeviceError, why.to_string_lossy())
        })
    }

    /// Appends a launch's outputs to `results`; whether it could.
    ///
    /// # Safety
    /// Handles must be live; and those of [`launch`](super::GpuKernel::launch).
    pub(super) unsafe fn apply(
        &self,
        results: mlx_vector_array,
        inputs: mlx_vector_array,
        launch: &Launch<'_>,
        dtypes: &[Dtype],
        stream: mlx_stream,
    ) -> bool {
        let shapes: Vec<i32> = launch.shapes.concat();
        let ranks: Vec<usize> = launch.shapes.iter().map(|shape| shape.len()).collect();
        let dtypes: Vec<mlx_dtype> = dtypes.iter().map(|&dtype| dtype.into()).collect();
        debug_assert_eq!(ranks.len(), dtypes.len());
        let (grid, group) = (launch.grid.as_ptr(), launch.group.as_ptr());
        // SAFETY: shapes, ranks and types live through the call and are as many as it is told.
        unsafe {
            quire_cuda_kernel_apply(
                results,
                self.0.as_ptr(),
                inputs,
                ranks.len().min(dtypes.len()),
                shapes.as_ptr(),
                ranks.as_ptr(),
                dtypes.as_ptr(),
                grid,
                group,
                launch.shared,
                stream,
            ) == 0
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { quire_cuda_kernel_free(self.0.as_ptr()) };
    }
}

/// The whole source: header, types and constants, and a function around the body.
fn text(source: &KernelSource<'_>, name: &str) -> Result<String> {
    let numbers = match source.dtype {
        Dtype::Float32 => "float",
        Dtype::Float16 => "float16",
        Dtype::Bfloat16 => "bfloat16",
        other => return Err(Error::internal(format!("there are no kernels for {other:?}"))),
    };
    let pointer = |elements: Elements| match elements {
        Elements::Numbers => "T*",
        Elements::Floats => "float*",
        Elements::Counts => "unsigned int*",
    };
    let inputs = source.inputs.iter().map(|(name, elements)| format!("const {} {name}", pointer(*elements)));
    let outputs = source.outputs.iter().map(|(name, elements)| format!("{} {name}", pointer(*elements)));
    let arguments: Vec<String> = inputs.chain(outputs).collect();
    let constants = source.constants.iter().map(|(name, value)| format!("constexpr int {name} = {value};\n"));
    let constants: String = constants.collect();
    let bounds = source.bounds.map_or_else(String::new, |Bounds { threads, groups }| {
        format!("__launch_bounds__({threads}, {groups}) ")
    });
    let (header, entry, body, arguments) = (source.header, source.entry, source.body, arguments.join(", "));
    Ok(format!(
        "{header}\nusing T = {numbers};\n{constants}extern \"C\" __global__ void {bounds}{name}({arguments}) {{\n{entry}{body}}}\n",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_becomes_a_function() {
        let source = KernelSource {
            name: "add",
            header: "// head",
            entry: "  const int thread = threadIdx.x;\n",
            body: "  out[thread] = T(float(a[thread]) + BY);\n",
            inputs: &[("a", Elements::Numbers), ("plan", Elements::Counts), ("by", Elements::Floats)],
            outputs: &[("out", Elements::Numbers)],
            dtype: Dtype::Bfloat16,
            constants: &[("BY", 3)],
            bounds: None,
        };
        let text = text(&source, "add_3").unwrap();
        assert!(text.contains("using T = bfloat16;\nconstexpr int BY = 3;\n"), "{text}");
        let arguments =
            "add_3(const T* a, const unsigned int* plan, const float* by, T* out) {\n  const int thread";
        assert!(text.contains(arguments), "{text}");
        let bounded = KernelSource { bounds: Some(Bounds { threads: 256, groups: 2 }), ..source };
        let text = self::text(&bounded, "add_3").unwrap();
        assert!(text.contains("__global__ void __launch_bounds__(256, 2) add_3(const T* a"), "{text}");
        assert!(self::text(&KernelSource { dtype: Dtype::Int32, ..bounded }, "x").is_err());
    }
}
