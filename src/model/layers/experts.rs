//! Feed-forward layers of which each token sees a few: mixture of experts (Shazeer et al. 2017,
//! arXiv:1701.06538).

use mlx_rs::ops;

use super::activation::Relu2;
use super::{Chosen, FeedForward, Kernels, Matrix, Router, Routes};
use crate::error::Result;
use crate::kernels::gpu::{GpuKernels, Groups};
use crate::mlx::{Array, Dtype};

/// From so many pairs of a row and an expert on, rows are sorted by expert: then an expert's rows are multiplied together,
/// and its weights read once.
const SORT_FROM: i32 = 64;

/// What lies between an expert's two projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `silu(gate) * up`; the first projection gives all of the gate, then all of `up`.
    SwiGlu,
    /// `max(x, 0)^2`.
    Relu2,
}

/// One projection of all experts: `x W[e]^T`.
pub struct ExpertLinear {
    /// One stack, or several whose outputs follow each other (where they are stored differently).
    parts: Vec<Matrix>,
}

impl ExpertLinear {
    /// From stacks `[experts, rows, columns]`, fed the same input.
    pub fn new(parts: Vec<Matrix>) -> ExpertLinear {
        ExpertLinear { parts }
    }

    /// The same, multiplied by our own kernels for a GPU where they take it.
    fn with_kernels(self, kernels: &Kernels) -> Result<ExpertLinear> {
        let parts = match kernels.on_gpu() {
            true => self.parts.into_iter().map(|part| part.with_kernels(kernels)).collect::<Result<_>>()?,
            false => self.parts,
        };
        Ok(ExpertLinear { parts })
    }

    /// Rows by the experts chosen for them.
    fn forward(&self, x: &Array, chosen: &Chosen<'_>) -> Result<Array> {
        match self.parts.as_slice() {
            [part] => part.gather(x, chosen),
            parts => {
                let outputs = parts.iter().map(|part| part.gather(x, chosen));
                Ok(ops::concatenate(&outputs.collect::<Result<Vec<_>>>()?, -1)?)
            }
        }
    }

    /// Every array it holds memory with.
    pub fn arrays(&self) -> Vec<&Array> {
        self.parts.iter().flat_map(Matrix::arrays).collect()
    }
}

/// An activation by MLX's operations.
enum Between {
    SwiGlu,
    Relu2(Relu2),
}

/// The experts of a layer: two projections each, an activation between them.
pub struct Experts {
    up: ExpertLinear,
    down: ExpertLinear,
    between: Between,
    /// How many there are.
    count: i32,
    kernels: Kernels,
    #[cfg(quire_host_op)]
    host: Option<(crate::kernels::host::HostKernels, crate::kernels::host::HostExperts)>,
}

impl Experts {
    /// From their projections; `dtype` is what the model computes in. Evaluates them if kernels of ours
    /// take them.
    pub fn new(
        up: ExpertLinear,
        down: ExpertLinear,
        activation: Activation,
        dtype: Dtype,
        kernels: &Kernels,
    ) -> Result<Experts> {
        let (up, down) = (up.with_kernels(kernels)?, down.with_kernels(kernels)?);
        let count = down.arrays().first().map_or(0, |stack| stack.dim(0));
        Ok(Experts {
            count,
            kernels: kernels.clone(),
            #[cfg(quire_host_op)]
            host: host(&up, &down, count as usize, activation, kernels)?,
            up,
            down,
            between: match activation {
                Activation::SwiGlu => Between::SwiGlu,
                Activation::Relu2 => Between::Relu2(Relu2::new(dtype)?),
            },
        })
    }

    /// Rows `[rows, in]` through their experts: the weighted sum of what those give, `[rows, out]`.
    pub fn forward(&self, x: &Array, routes: &Routes) -> Result<Array> {
        #[cfg(quire_host_op)]
        if let Some((kernels, experts)) = &self.host {
            return kernels.experts(x, &routes.experts, &routes.weights, experts);
        }
        let (rows, k) = (x.dim(0), routes.experts.dim(1));
        let each = if rows * k < SORT_FROM {
            self.run(&x.reshape(&[rows, 1, 1, -1])?, &Chosen::Each(&routes.experts))?
        } else if let Some(groups) = self.groups(x.dtype(), &routes.experts)? {
            self.run(x, &Chosen::Grouped(&groups))?
        } else {
            self.sorted(x, &routes.experts)?
        };
        let each = each.reshape(&[rows, k, -1])?;
        let weighted = ops::multiply(&each, routes.weights.expand_dims(-1)?)?;
        Ok(weighted.sum_axis(1, false)?.as_dtype(each.dtype())?)
    }

    /// Each expert's rows, for kernels of ours, if those take every projection.
    fn groups(&self, dtype: Dtype, experts: &Array) -> Result<Option<Groups>> {
        let Some(by_expert) = self.kernels.gpu().and_then(GpuKernels::by_expert) else { return Ok(None) };
        let mut parts = self.up.parts.iter().chain(&self.down.parts);
        match by_expert.takes(self.count) && parts.all(|part| part.takes_groups(dtype)) {
            true => Ok(Some(by_expert.groups(experts, self.count)?)),
            false => Ok(None),
        }
    }

    /// Each row's experts' outputs, row by row, `[rows * k, 1, out]`, computed in the order of experts.
    fn sorted(&self, x: &Array, experts: &Array) -> Result<Array> {
        let k = Array::from_slice(&[experts.dim(1) as u32], &[1]);
        let experts = experts.reshape(&[-1])?;
        let order = ops::argsort_axis(&experts, 0)?;
        let place = ops::argsort_axis(&order, 0)?;
        let rows = ops::floor_divide(&order, k)?;
        // (An axis added later would have a stride that MLX's grouped product on CUDA takes for a row's length.)
        let x = x.reshape(&[x.dim(0), 1, -1])?.take_axis(rows, 0)?;
        let each = self.run(&x, &Chosen::Sorted(&experts.take_axis(&order, 0)?))?;
        Ok(each.take_axis(&place, 0)?)
    }

    fn run(&self, x: &Array, chosen: &Chosen<'_>) -> Result<Array> {
        let inner = self.up.forward(x, chosen)?;
        let inner = match &self.between {
            Between::SwiGlu => self.kernels.swiglu(&inner)?,
            Between::Relu2(relu2) => relu2.forward(&inner)?,
        };
        self.down.forward(&inner, chosen)
    }

    /// Every array it holds memory with.
    pub fn arrays(&self) -> Vec<&Array> {
        [self.up.arrays(), self.down.arrays()].concat()
    }
}

/// The experts as our own kernels want them, if those are asked for and take them.
#[cfg(quire_host_op)]
fn host(
    up: &ExpertLinear,
    down: &ExpertLinear,
    experts: usize,
    activation: Activation,
    kernels: &Kernels,
) -> Result<Option<(crate::kernels::host::HostKernels, crate::kernels::host::HostExperts)>> {
    use crate::kernels::cpu::ExpertActivation;
    use crate::kernels::host::HostExperts;

    let (Kernels::Host(own), [up], [down]) = (kernels, up.parts.as_slice(), down.parts.as_slice()) else {
        return Ok(None);
    };
    let (Some(up), Some(down)) = (up.on_host(kernels)?, down.on_host(kernels)?) else { return Ok(None) };
    let activation = match activation {
        Activation::SwiGlu => ExpertActivation::SwiGlu,
        Activation::Relu2 => ExpertActivation::Relu2,
    };
    Ok(Some((own.clone(), HostExperts::new(up, down, experts, activation)?)))
}

/// A router and its experts.
pub struct ExpertLayer {
    router: Router,
    experts: Experts,
}

impl ExpertLayer {
    /// From its parts.
    pub fn new(router: Router, experts: Experts) -> ExpertLayer {
        ExpertLayer { router, experts }
    }

    /// `[rows, hidden]` to the same.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        self.experts.forward(x, &self.router.forward(x)?)
    }
}

impl FeedForward for ExpertLayer {
    fn forward_onto(&self, x: &Array, residual: &Array) -> Result<Array> {
        Ok(ops::add(residual, self.forward(x)?)?)
    }
}

#[cfg(test)]
mod tests;
