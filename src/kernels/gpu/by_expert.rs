//! Pairs of a row and an expert in the order of experts, so that an expert's rows are multiplied together.

use super::sizes::Sizes;
use super::{QuantizedProduct, checks, source};
use crate::error::{Error, Result, Status};
use crate::mlx::{Array, Bounds, Dtype, Elements, Gpu, GpuKernel, KernelSource, Launch};

/// Threads of the one group that there is, and the most experts.
const THREADS: i32 = 1024;

const INPUTS: [(&str, Elements); 2] = [("which", Elements::Counts), ("sizes", Elements::Counts)];
const OUTPUTS: [(&str, Elements); 1] = [("out", Elements::Counts)];

/// The kernel that puts them in order.
pub struct ByExpert {
    kernel: GpuKernel,
    sizes: Sizes,
}

/// Which pairs each expert has.
pub struct Groups {
    /// `[experts + 1 + pairs]`, unsigned 32-bit: where each expert's begin in the list behind, and where the last one's
    /// end; then the pairs' numbers, in no particular order among an expert's own.
    pub(super) list: Array,
    /// How many experts there are.
    pub(super) experts: i32,
    /// How many pairs.
    pub(super) pairs: i32,
}

impl ByExpert {
    /// Compiled, and compared with a calculation on the host; and these products of its groups are compared with those of
    /// each row.
    ///
    /// Errors: `DeviceError` if it is not for such a GPU, does not compile, or something differs.
    pub(super) fn checked(gpu: Gpu, products: &[QuantizedProduct]) -> Result<ByExpert> {
        if gpu != Gpu::Cuda {
            return Err(Error::new(Status::DeviceError, "sorting by expert is left to MLX"));
        }
        let (body, constants) = (include_str!("by_expert_cuda.h"), [("THREADS", THREADS)]);
        // It has no numbers: any type will do.
        let source = source(gpu, "quire_by_expert", body, &INPUTS, &OUTPUTS, Dtype::Float32, &constants);
        let bounds = Some(Bounds { threads: THREADS, groups: 1 });
        let kernel = GpuKernel::new(gpu, &KernelSource { bounds, ..source })?;
        let by_expert = ByExpert { kernel, sizes: Sizes::default() };
        checks::by_expert(&by_expert)?;
        products.iter().try_for_each(|product| checks::grouped(product, &by_expert))?;
        Ok(by_expert)
    }

    /// Whether it tells so many experts apart.
    pub fn takes(&self, experts: i32) -> bool {
        (1..=THREADS).contains(&experts)
    }

    /// Of the experts that `which` (unsigned 32-bit, of any shape) names, each below `experts`.
    ///
    /// Errors: `Internal` for more experts than it [`takes`](Self::takes).
    pub fn groups(&self, which: &Array, experts: i32) -> Result<Groups> {
        if !self.takes(experts) || which.dtype() != Dtype::Uint32 {
            return Err(Error::internal("experts that the kernel for them does not take"));
        }
        let pairs = which.size() as i32;
        let sizes = self.sizes.array([pairs, experts, 0, 0])?;
        let launch = Launch {
            shapes: &[&[experts + 1 + pairs]],
            grid: [THREADS, 1, 1],
            group: [THREADS, 1, 1],
            shared: 0,
        };
        // SAFETY: it writes where each expert begins, the end, and a place for each pair; experts are places in the
        // router's scores, of which there is one each.
        let list = unsafe { self.kernel.launch(&[which, &sizes], &launch)? }.pop();
        let list = list.ok_or_else(|| Error::internal("a kernel gave no output"))?;
        Ok(Groups { list, experts, pairs })
    }
}
