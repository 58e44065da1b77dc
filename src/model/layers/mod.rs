//! The parts models are made of. Activations are two-dimensional, `[rows, features]`: every token of a
//! step is a row, whichever sequence it belongs to.

mod activation;
mod attention;
mod embedding;
mod ends;
mod experts;
mod head_norms;
mod linear;
mod mamba;
mod mlp;
mod norm;
mod rope;
mod router;

pub use activation::Relu2;
pub use attention::Attention;
pub use embedding::Embedding;
pub use ends::Ends;
pub use experts::{Activation, ExpertLayer, ExpertLinear, Experts};
pub use head_norms::HeadNorms;
pub(crate) use linear::packing;
pub use linear::{Chosen, Linear, Matrix};
pub use mamba::{Mamba, MambaWeights};
pub use mlp::{FeedForward, GatedMlp, SquaredReluMlp};
pub use norm::RmsNorm;
pub use rope::{Angles, Rope};
pub use router::{Router, Routes};

#[cfg(quire_host_op)]
use crate::cache::host_pages::HostPool;
use crate::error::{Error, Result};
use crate::kernels::gpu::{GpuKernels, PageKernels};
use crate::mlx::{Array, Dtype, Gpu};

/// What computes a model's parts, where there is a choice.
#[derive(Clone)]
pub enum Kernels {
    /// MLX's fused kernels, and those of ours that passed their check: on a GPU.
    Fused(GpuKernels),
    /// MLX's elementary operations: on a CPU. The reference for the others.
    Elementary,
    /// Our own kernels, inside MLX's graph: on a CPU.
    #[cfg(quire_host_op)]
    Host(crate::kernels::host::HostKernels),
}

impl Kernels {
    /// The best for a device; elementary operations if `reference` asks for them.
    pub fn best(gpu: Option<Gpu>, reference: bool) -> Kernels {
        match (gpu, reference) {
            (Some(gpu), _) => Kernels::Fused(GpuKernels::new(gpu)),
            (None, true) => Kernels::Elementary,
            #[cfg(quire_host_op)]
            (None, false) => Kernels::Host(crate::kernels::host::HostKernels::new()),
            #[cfg(not(quire_host_op))]
            (None, false) => Kernels::Elementary,
        }
    }

    /// Whether they run on a GPU.
    pub fn on_gpu(&self) -> bool {
        matches!(self, Kernels::Fused(_))
    }

    /// Bytes that an element of a key or value takes in pages, in a model that computes in `dtype`.
    pub fn page_element_bytes(&self, dtype: Dtype) -> usize {
        match self {
            #[cfg(quire_host_op)]
            Kernels::Host(_) => HostPool::ELEMENT_BYTES,
            _ if dtype == Dtype::Float32 => 4,
            _ => 2,
        }
    }

    /// The kernels of ours for a GPU.
    pub fn gpu(&self) -> Option<&GpuKernels> {
        match self {
            Kernels::Fused(gpu) => Some(gpu),
            _ => None,
        }
    }

    /// Attention that writes and reads pages itself, on a GPU where it works.
    pub fn pages(&self) -> Option<&PageKernels> {
        self.gpu()?.pages()
    }

    /// Up to how many pairs of a query and a key of a run of tokens attention that reads pages itself is the faster:
    /// it takes each query by itself.
    pub(super) fn most_in_place(&self) -> usize {
        match self.gpu().map(GpuKernels::gpu) {
            // For each length that it has not met MLX has cuDNN plan anew, for some 30 ms.
            Some(Gpu::Cuda) => 1 << 19,
            _ => 0,
        }
    }

    /// `silu(gate) * up` of both side by side in the last axis, gate first, by MLX's operations or, on a GPU,
    /// by a kernel of ours.
    pub(super) fn swiglu(&self, both: &Array) -> Result<Array> {
        match self.gpu().and_then(|gpu| gpu.swiglu(both)) {
            Some(kernel) => kernel.forward(both),
            None => activation::swiglu(both),
        }
    }

    /// How many rows to compute in place of so many, the last of them only to fill up; `dense` if no weight
    /// is quantized.
    pub(super) fn fill_up(&self, rows: usize, dense: bool) -> usize {
        match self {
            Kernels::Fused(gpu) => {
                let alone = gpu.gpu() == Gpu::Cuda && !dense && !gpu.has_products();
                if alone && (2..CUDA_ROWS).contains(&rows) { CUDA_ROWS } else { rows }
            }
            Kernels::Elementary => fill_up_for_blas(rows),
            #[cfg(quire_host_op)]
            Kernels::Host(_) if dense => fill_up_for_blas(rows),
            #[cfg(quire_host_op)]
            Kernels::Host(_) => rows,
        }
    }

    /// Whether quantized weights like these are multiplied as fast as a CPU can.
    pub(super) fn take(&self, params: super::QuantParams) -> bool {
        match self {
            #[cfg(quire_host_op)]
            Kernels::Host(_) => {
                params.mode == super::QuantMode::Affine
                    && crate::kernels::host::HostKernels::take(params.bits, params.group_size)
            }
            _ => {
                let _ = params;
                false
            }
        }
    }

    /// An error if a kernel of ours failed since the last call.
    pub fn check(&self) -> Result<()> {
        match self {
            #[cfg(quire_host_op)]
            Kernels::Host(host) => host.check(),
            _ => Ok(()),
        }
    }
}

/// MLX's quantized products on CUDA take a multiple of one row's time up to here, then that of about one (without our own).
const CUDA_ROWS: usize = 8;

/// OpenBLAS multiplies 16 rows faster than 2 to 15.
fn fill_up_for_blas(rows: usize) -> usize {
    if rows == 1 { 1 } else { rows.next_multiple_of(16) }
}

/// The two arrays of a split.
fn pair(parts: Vec<Array>) -> Result<(Array, Array)> {
    let [a, b]: [Array; 2] = parts
        .try_into()
        .map_err(|parts: Vec<Array>| Error::internal(format!("split into {} parts, not 2", parts.len())))?;
    Ok((a, b))
}
