//! Fused kernels for GPUs: one text for Metal and CUDA, with a thin prelude for each, but for products of quantized matrices,
//! which are for CUDA's tensor cores.
//!
//! Promises: a kernel is used only after it agreed, on this device, with a calculation on the host (those for pages and
//! activations at the model's own sizes); one that does not compile or differs steps aside with a warning.

mod by_expert;
mod checks;
mod pages;
mod plan;
mod product;
mod sizes;
mod swiglu;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::rc::Rc;

pub use by_expert::{ByExpert, Groups};
pub use pages::{LayerNumbers, PageKernels, PagedShape, Stored};
pub use plan::PagePlan;
pub use product::{Packed, QuantizedProduct};
pub use swiglu::SwiGlu;

use crate::error::Result;
use crate::log::Level;
use crate::mlx::{Array, Dtype, Elements, Gpu, KernelSource};

/// The kernels of one engine; clones share them.
#[derive(Clone)]
pub struct GpuKernels {
    gpu: Gpu,
    checked: Rc<Checked>,
}

/// Empty until they are checked; then those that passed.
#[derive(Default)]
struct Checked {
    pages: OnceCell<Option<PageKernels>>,
    swiglu: OnceCell<Vec<SwiGlu>>,
    products: OnceCell<Vec<QuantizedProduct>>,
    by_expert: OnceCell<Option<ByExpert>>,
}

/// What a model asks of kernels.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The type it computes in.
    pub dtype: Dtype,
    /// Its attention and pages.
    pub pages: PagedShape,
    /// The widths of its gated activations.
    pub gated: Vec<usize>,
    /// How its matrices are packed: bits of an element, elements of a group.
    pub packings: Vec<(usize, usize)>,
    /// Whether it has experts.
    pub experts: bool,
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

    /// Compiles the kernels for a model, and compares them with a calculation on the host.
    pub fn check(&self, wanted: &Wanted) {
        let (gpu, dtype) = (self.gpu, wanted.dtype);
        let pages = passed("paged attention", PageKernels::checked(gpu, wanted.pages, dtype));
        let swiglu = wanted.gated.iter().map(|&width| SwiGlu::checked(gpu, width, dtype));
        let swiglu = swiglu.filter_map(|kernel| passed("gated activation", kernel)).collect();
        // MLX's own are good on Metal.
        let tensor_cores = gpu == Gpu::Cuda && dtype != Dtype::Float32;
        let packings = wanted.packings.iter().filter(|_| tensor_cores);
        let products =
            packings.map(|&packing| QuantizedProduct::checked(gpu, packing, dtype, wanted.experts));
        let products: Vec<QuantizedProduct> =
            products.filter_map(|kernel| passed("quantized product", kernel)).collect();
        let by_expert = wanted.experts && !products.is_empty();
        let by_expert =
            by_expert.then(|| passed("sorting by expert", ByExpert::checked(gpu, &products))).flatten();
        // All are empty unless a model is checked twice; then the first result stays.
        let _ = self.checked.pages.set(pages);
        let _ = self.checked.swiglu.set(swiglu);
        let _ = self.checked.products.set(products);
        let _ = self.checked.by_expert.set(by_expert);
    }

    /// Products with matrices that are packed so, if they passed.
    pub fn product(&self, packing: (usize, usize)) -> Option<&QuantizedProduct> {
        self.checked.products.get()?.iter().find(|product| product.packing() == packing)
    }

    /// Whether there are products of any kind.
    pub fn has_products(&self) -> bool {
        self.checked.products.get().is_some_and(|products| !products.is_empty())
    }

    /// What puts pairs of a row and an expert in order, if it passed.
    pub fn by_expert(&self) -> Option<&ByExpert> {
        self.checked.by_expert.get()?.as_ref()
    }

    /// Those that write and read pages themselves, if they passed.
    pub fn pages(&self) -> Option<&PageKernels> {
        self.checked.pages.get()?.as_ref()
    }

    /// The gated activation of `both` `[.., 2 * width]`, if one of that width and type passed.
    pub fn swiglu(&self, both: &Array) -> Option<&SwiGlu> {
        let takes = |kernel: &&SwiGlu| 2 * kernel.width() == both.dim(-1) && kernel.dtype() == both.dtype();
        self.checked.swiglu.get()?.iter().find(takes)
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
fn source<'a>(
    gpu: Gpu,
    name: &'static str,
    body: &'a str,
    inputs: &'static [(&'static str, Elements)],
    outputs: &'static [(&'static str, Elements)],
    dtype: Dtype,
    constants: &'a [(&'static str, i32)],
) -> KernelSource<'a> {
    let (header, entry) = match gpu {
        Gpu::Cuda => (include_str!("prelude_cuda.h"), include_str!("entry_cuda.h")),
        Gpu::Metal => (include_str!("prelude_metal.h"), include_str!("entry_metal.h")),
    };
    KernelSource { name, header, entry, body, inputs, outputs, dtype, constants, bounds: None }
}
