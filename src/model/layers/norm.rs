//! Root-mean-square normalization.

use super::Kernels;
use crate::error::Result;
use crate::mlx::Array;

/// `x / sqrt(mean(x^2) + eps) * weight`, over the last axis (Zhang and Sennrich 2019).
pub struct RmsNorm {
    weight: Array,
    eps: f32,
    #[cfg(quire_host_op)]
    host: Option<(crate::kernels::host::HostKernels, crate::mlx::Held)>,
}

impl RmsNorm {
    /// From its weight `[features]`.
    pub fn new(weight: Array, eps: f32, kernels: &Kernels) -> Result<RmsNorm> {
        #[cfg(quire_host_op)]
        let host = match kernels {
            Kernels::Host(host) => Some((host.clone(), crate::mlx::Held::new(&weight)?)),
            _ => None,
        };
        #[cfg(not(quire_host_op))]
        let _ = kernels;
        Ok(RmsNorm {
            weight,
            eps,
            #[cfg(quire_host_op)]
            host,
        })
    }

    /// `[rows, features]` to the same.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        #[cfg(quire_host_op)]
        if let Some((host, weight)) = &self.host {
            return host.rms_norm(x, weight, self.eps);
        }
        Ok(mlx_rs::fast::rms_norm(x, Some(&self.weight), self.eps)?)
    }
}
