//! Normalization of query and key heads.

use mlx_rs::ops;

use super::Kernels;
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype};
use crate::model::ModelConfig;

/// RMS norm of each query and each key head before it is rotated, one weight for all query heads and one for all
/// key heads (Henry et al. 2020, arXiv:2010.04245, as Qwen3 has it).
pub struct HeadNorms {
    /// `[heads + kv_heads, 1, head_dim]`: a row for each head.
    weight: Array,
    eps: f32,
    /// Of queries and of keys, for our own kernels on a GPU.
    floats: Option<(Vec<f32>, Vec<f32>)>,
    /// The same for our own kernels on a CPU.
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
        let weight = weight.expand_dims(1)?;
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
        let floats = match kernels.on_gpu() {
            true => Some((floats(queries)?, floats(keys)?)),
            false => None,
        };
        Ok(HeadNorms {
            weight,
            eps: config.rms_norm_eps,
            floats,
            #[cfg(quire_host_op)]
            host,
        })
    }

    /// Query heads, then key heads: `[rows, heads + kv_heads, 1, head_dim]` to the same.
    pub(super) fn forward(&self, heads: &Array) -> Result<Array> {
        // All heads in one operation; the weights, which differ, in another.
        let normed = mlx_rs::fast::rms_norm(heads, None, self.eps)?;
        Ok(ops::multiply(normed, &self.weight)?)
    }

    /// For our own kernels on a GPU: the weights of queries and of keys, and what is added under the root.
    pub(super) fn floats(&self) -> Option<(Vec<f32>, Vec<f32>, f32)> {
        let (queries, keys) = self.floats.clone()?;
        Some((queries, keys, self.eps))
    }

    /// For our own attention kernel on a CPU.
    #[cfg(quire_host_op)]
    pub(super) fn host(&self) -> Option<&crate::kernels::host::HostHeadNorms> {
        self.host.as_ref()
    }
}

fn floats(weight: &Array) -> Result<Vec<f32>> {
    let weight = weight.as_dtype(Dtype::Float32)?;
    weight.to_vec_exact().map_err(|e| Error::internal(format!("reading a norm's weight: {e}")))
}
