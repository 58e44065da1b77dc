//! The parts models are made of. Activations are two-dimensional, `[rows, features]`: every token of a
//! step is a row, whichever sequence it belongs to.

mod activation;
mod attention;
mod embedding;
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
pub use experts::{Activation, ExpertLayer, ExpertLinear, Experts};
pub use head_norms::HeadNorms;
pub(crate) use linear::packing;
pub use linear::{Linear, Matrix};
pub use mamba::{Mamba, MambaWeights};
pub use mlp::{FeedForward, GatedMlp, SquaredReluMlp};
pub use norm::RmsNorm;
pub use rope::{Angles, Rope};
pub use router::{Router, Routes};

/// What computes a model's parts, where there is a choice.
#[derive(Clone)]
pub enum Kernels {
    /// MLX's fused kernels: on a GPU.
    Fused,
    /// MLX's elementary operations: on a CPU. The reference for the others.
    Elementary,
    /// Our own kernels, inside MLX's graph: on a CPU.
    #[cfg(quire_host_op)]
    Host(crate::kernels::host::HostKernels),
}

impl Kernels {
    /// The best for a device; elementary operations if `reference` asks for them.
    pub fn best(on_gpu: bool, reference: bool) -> Kernels {
        match (on_gpu, reference) {
            (true, _) => Kernels::Fused,
            (false, true) => Kernels::Elementary,
            #[cfg(quire_host_op)]
            (false, false) => Kernels::Host(crate::kernels::host::HostKernels::new()),
            #[cfg(not(quire_host_op))]
            (false, false) => Kernels::Elementary,
        }
    }

    /// Whether they run on a GPU.
    pub fn on_gpu(&self) -> bool {
        matches!(self, Kernels::Fused)
    }

    /// Whether rows should come in multiples of 16, since BLAS multiplies them.
    pub(super) fn likes_full_rows(&self, dense: bool) -> bool {
        match self {
            Kernels::Fused => false,
            Kernels::Elementary => true,
            #[cfg(quire_host_op)]
            Kernels::Host(_) => dense,
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

use crate::error::{Error, Result};
use crate::mlx::Array;

/// The two arrays of a split.
fn pair(parts: Vec<Array>) -> Result<(Array, Array)> {
    let [a, b]: [Array; 2] = parts
        .try_into()
        .map_err(|parts: Vec<Array>| Error::internal(format!("split into {} parts, not 2", parts.len())))?;
    Ok((a, b))
}
