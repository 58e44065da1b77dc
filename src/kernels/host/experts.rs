//! Expert layers by the CPU kernels.

use super::{HostKernels, HostMatrix};
use crate::error::{Error, Result};
use crate::kernels::cpu::{ExpertActivation, ExpertRoutes, ExpertWeights, expert_mlp};
use crate::mlx::{Array, host_op};

/// A layer's experts in host memory.
#[derive(Clone)]
pub struct HostExperts {
    up: HostMatrix,
    down: HostMatrix,
    experts: usize,
    activation: ExpertActivation,
}

impl HostExperts {
    /// From both projections, all experts' matrices of one below each other.
    ///
    /// Errors: `Internal` if they do not fit together.
    pub fn new(
        up: HostMatrix,
        down: HostMatrix,
        experts: usize,
        activation: ExpertActivation,
    ) -> Result<HostExperts> {
        let fits = experts > 0
            && down.rows.is_multiple_of(experts)
            && up.rows == experts * down.columns * activation.inputs();
        if !fits {
            return Err(Error::internal("the projections of experts do not fit together"));
        }
        Ok(HostExperts { up, down, experts, activation })
    }
}

impl HostKernels {
    /// The weighted sum of what each row's experts give: `x` `[rows, in]`, `chosen` (unsigned 32-bit, each
    /// below the number of experts) and `weights` `[rows, k]`, to `[rows, out]`.
    pub fn experts(
        &self,
        x: &Array,
        chosen: &Array,
        weights: &Array,
        experts: &HostExperts,
    ) -> Result<Array> {
        let (threads, experts) = (self.threads.clone(), experts.clone());
        let k = chosen.dim(1) as usize;
        let shape = [x.dim(0), (experts.down.rows / experts.experts) as i32];
        host_op(&self.faults, &[x, chosen, weights], &shape, move |inputs, out| {
            let routes = ExpertRoutes { experts: inputs.u32(1), weights: inputs.f32(2), k };
            let layer = ExpertWeights {
                up: experts.up.view(),
                down: experts.down.view(),
                experts: experts.experts,
                activation: experts.activation,
            };
            expert_mlp(&threads, inputs.f32(0), &routes, &layer, out);
        })
    }
}
