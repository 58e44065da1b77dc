//! Normalization of query and key heads.

use mlx_rs::ops;

use super::Kernels;
use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::model::ModelConfig;

/// RMS norm of each query and each key head before it is rotated, one weight for all query heads and one for all
/// key heads (Henry et al. 2020, arXiv:2010.04245, as Qwen3 has it).
pub struct HeadNorms {
    /// `[heads + kv_heads, head_dim]`: a row for each head.
    weight: Array,
    eps: f32,
    heads: i32,
    kv_heads: i32,
    dim: i32,
    /// The same for our own kernels.
    #[cfg(quire_host_op)]
    host: Option<crate::kernels::host::HostHeadNorms>,
}

impl HeadNorms {
    /// From the weights of query and key heads, each `[head_dim]`.
    pub fn new(config: &ModelConfig, queries: &Array, keys: &Array, kernels: &Kernels) -> Result<HeadNorms> {
        let (heads, kv_heads, dim) = (config.heads as i32, config.kv_heads as i32, config.head_dim as i32);
        let weight = ops::concatenate(
            &[ops::broadcast_to(queries, &[heads, dim])?, ops::broadcast_to(keys, &[kv_heads, dim])?],
            0,
        )?;
        weight.eval()?;
        #[cfg(quire_host_op)]
        let host = match kernels {
            Kernels::Host(_) => Some(crate::kernels::host::HostHeadNorms {
                queries: crate::mlx::Held::new(queries)?,
                keys: crate::mlx::Held::new(keys)?,
                eps: config.rms_norm_eps,
            }),
            _ => None,
        };
        #[cfg(not(quire_host_op))]
        let _ = kernels;
        Ok(HeadNorms {
            weight,
            eps: config.rms_norm_eps,
            heads,
            kv_heads,
            dim,
            #[cfg(quire_host_op)]
            host,
        })
    }

    /// Queries, keys and values `[rows, (heads + 2 kv_heads) * dim]` to `[rows, heads + 2 kv_heads, dim]`; values
    /// stay as they are.
    pub fn forward(&self, qkv: &Array) -> Result<Array> {
        let x = qkv.reshape(&[-1, self.heads + 2 * self.kv_heads, self.dim])?;
        let (normed, values) = super::pair(x.split_at_indices(&[self.heads + self.kv_heads], 1)?)?;
        // All heads in one operation; the weights, which differ, in another.
        let normed = ops::multiply(mlx_rs::fast::rms_norm(normed, None, self.eps)?, &self.weight)?;
        ops::concatenate(&[normed, values], 1).map_err(Error::from)
    }

    /// For our own attention kernel.
    #[cfg(quire_host_op)]
    pub(super) fn host(&self) -> Option<&crate::kernels::host::HostHeadNorms> {
        self.host.as_ref()
    }
}
