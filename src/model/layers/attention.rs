//! Attention over pages.

use std::cell::OnceCell;

use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, scaled_dot_product_attention};
use mlx_rs::ops;

use super::{HeadNorms, Kernels, Linear, Rope};
use crate::cache::pages::{Pages, Table};
use crate::error::{Error, Result};
use crate::kernels::gpu::{LayerNumbers, PageKernels};
use crate::mlx::Array;
use crate::model::ModelConfig;
use crate::model::batch::{Batch, Group, Plan};

/// Grouped-query attention: `heads / kv_heads` query heads share a key and a value head.
pub struct Attention {
    qkv: Linear,
    norms: Option<HeadNorms>,
    output: Linear,
    layer: usize,
    heads: i32,
    kv_heads: i32,
    dim: i32,
    kernels: Kernels,
    /// What our own kernels on a GPU want to know of the layer.
    numbers: OnceCell<Array>,
}

impl Attention {
    /// `qkv` gives all query heads, then key heads, then value heads; `norms` are for models that normalize them.
    /// `layer` is the number of its pages.
    pub fn new(
        config: &ModelConfig,
        layer: usize,
        qkv: Linear,
        norms: Option<HeadNorms>,
        output: Linear,
        kernels: &Kernels,
    ) -> Attention {
        let (heads, kv_heads, dim) = (config.heads as i32, config.kv_heads as i32, config.head_dim as i32);
        let (kernels, numbers) = (kernels.clone(), OnceCell::new());
        Attention { qkv, norms, output, layer, heads, kv_heads, dim, kernels, numbers }
    }

    /// `residual + attention(x)`, all `[rows, hidden]`. Writes the rows' keys and values first.
    pub fn forward_onto(
        &self,
        x: &Array,
        residual: &Array,
        batch: &Batch,
        rope: &Rope,
        pages: &mut Pages,
    ) -> Result<Array> {
        let qkv = self.qkv.forward(x)?;
        let mixed = match &batch.plan {
            Plan::Arrays { angles, slots, groups } => {
                let (queries, kv) = rope.rotate(&qkv, self.norms.as_ref(), angles, x.dtype())?;
                pages.write(self.layer, &kv, slots)?;
                let attend = |queries: &Array, group: &Group| {
                    let (keys, values) = pages.read(self.layer, &group.table)?;
                    self.attend(queries, group, &keys, &values)
                };
                self.attend_all(&queries, groups, batch.rows as i32, attend)?
            }
            Plan::InPlace { plan, groups } => {
                let kernels = self.kernels.pages();
                let kernels =
                    kernels.ok_or_else(|| Error::internal("a step was laid out for other kernels"))?;
                let numbers = self.numbers(kernels, rope)?;
                let stored = kernels.store(&qkv, pages.pool(self.layer)?, plan, numbers)?;
                pages.set_after(stored.after);
                let attend = |queries: &Array, group: &Group| match group.table {
                    Table::InPlace => kernels.attend(queries, pages.pool(self.layer)?, plan),
                    _ => {
                        let (keys, values) = pages.read_after(self.layer, &group.table)?;
                        self.attend(queries, group, &keys, &values)
                    }
                };
                self.attend_all(&stored.queries, groups, batch.rows as i32, attend)?
            }
            #[cfg(quire_host_op)]
            Plan::Host(step) => self.host(&qkv, pages, step)?,
        };
        self.output.forward_onto(&mixed, residual)
    }

    /// What our own kernels want to know of the layer; made once.
    fn numbers(&self, kernels: &PageKernels, rope: &Rope) -> Result<&Array> {
        if let Some(numbers) = self.numbers.get() {
            return Ok(numbers);
        }
        let (frequencies, magnitude) = rope.frequencies();
        let norms = self.norms.as_ref().and_then(HeadNorms::floats);
        let numbers = kernels.numbers(&LayerNumbers { frequencies, magnitude, norms })?;
        Ok(self.numbers.get_or_init(|| numbers))
    }

    /// By our own kernel, which writes and reads the pages itself.
    #[cfg(quire_host_op)]
    fn host(
        &self,
        qkv: &Array,
        pages: &Pages,
        step: &std::sync::Arc<crate::kernels::host::HostStep>,
    ) -> Result<Array> {
        let Kernels::Host(kernels) = &self.kernels else {
            return Err(Error::internal("a step was laid out for other kernels"));
        };
        let shape = crate::kernels::cpu::AttentionShape {
            heads: self.heads as usize,
            kv_heads: self.kv_heads as usize,
            head_dim: self.dim as usize,
            rope_dims: self.dim as usize,
            block_size: pages.layout().block_size,
            scale: (self.dim as f32).powf(-0.5),
        };
        let norms = self.norms.as_ref().and_then(HeadNorms::host);
        kernels.attention(qkv, shape, norms, pages.host(self.layer)?, step)
    }

    /// All groups' queries `[rows, heads, dim]`, and those of rows that only fill up, to
    /// `[rows, heads * dim]`.
    fn attend_all(
        &self,
        queries: &Array,
        groups: &[Group],
        rows: i32,
        attend: impl Fn(&Array, &Group) -> Result<Array>,
    ) -> Result<Array> {
        if let [group] = groups
            && group.rows == rows
        {
            return attend(queries, group);
        }
        let mut ends: Vec<i32> = Vec::with_capacity(groups.len());
        for group in groups {
            ends.push(ends.last().unwrap_or(&0) + group.rows);
        }
        // One part more than groups where rows only fill up; they need no attention.
        let filled = rows - ends.last().copied().unwrap_or(0);
        if filled == 0 {
            ends.pop();
        }
        let parts = queries.split_at_indices(&ends, 0)?;
        let mut mixed = Vec::with_capacity(parts.len());
        for (group, queries) in groups.iter().zip(&parts) {
            mixed.push(attend(queries, group)?);
        }
        if filled > 0 {
            mixed.push(ops::zeros_dtype(&[filled, self.heads * self.dim], queries.dtype())?);
        }
        Ok(ops::concatenate(&mixed, 0)?)
    }

    /// A group's queries `[rows, heads, dim]` over keys and values `[kv_heads, context, dim]`, or with the group's
    /// sequences in front: `[rows, heads * dim]`, by MLX's operations.
    fn attend(&self, queries: &Array, group: &Group, keys: &Array, values: &Array) -> Result<Array> {
        match (group.sequences > 1, self.kernels.on_gpu()) {
            (true, true) => {
                let q = queries.reshape(&[group.rows, self.heads, 1, self.dim])?;
                self.kernel(&q, keys, values, group)?.reshape(&[group.rows, -1]).map_err(Error::from)
            }
            (false, true) => {
                let q = queries.transpose_axes(&[1, 0, 2])?.expand_dims(0)?;
                let mixed = self.kernel(&q, &keys.expand_dims(0)?, &values.expand_dims(0)?, group)?;
                Ok(mixed.squeeze_axes(&[0])?.transpose_axes(&[1, 0, 2])?.reshape(&[group.rows, -1])?)
            }
            (true, false) => {
                // The query heads that share a key head are the rows of one matrix.
                let shared = self.heads / self.kv_heads;
                let q = queries.reshape(&[group.rows, self.kv_heads, shared, self.dim])?;
                let mut scores = ops::matmul(&q, keys.swap_axes(-1, -2)?)?;
                if let Some(mask) = &group.mask {
                    scores = ops::add(&scores, mask)?;
                }
                let weights = ops::softmax_axis(&scores, -1, true)?;
                Ok(ops::matmul(&weights, values)?.reshape(&[group.rows, -1])?)
            }
            (false, false) => self.products(queries, keys, values, group),
        }
    }

    /// Of one sequence, by matrix products: keys and values `[kv_heads, context, dim]`.
    fn products(&self, queries: &Array, keys: &Array, values: &Array, group: &Group) -> Result<Array> {
        let (rows, shared) = (group.rows, self.heads / self.kv_heads);
        let by_head = if rows == 1 { queries.clone() } else { queries.transpose_axes(&[1, 0, 2])? };
        let q = by_head.reshape(&[self.kv_heads, shared * rows, self.dim])?;
        let mut scores = ops::matmul(&q, keys.swap_axes(-1, -2)?)?;
        if let Some(mask) = &group.mask {
            let context = scores.dim(-1);
            scores = ops::add(scores.reshape(&[self.heads, rows, context])?, mask)?;
            scores = scores.reshape(&[self.kv_heads, shared * rows, context])?;
        }
        let weights = ops::softmax_axis(&scores, -1, true)?;
        let mixed = ops::matmul(&weights, values)?;
        if rows == 1 {
            return Ok(mixed.reshape(&[1, -1])?);
        }
        let by_row = mixed.reshape(&[self.heads, rows, self.dim])?.transpose_axes(&[1, 0, 2])?;
        Ok(by_row.reshape(&[rows, -1])?)
    }

    fn kernel(&self, q: &Array, keys: &Array, values: &Array, group: &Group) -> Result<Array> {
        let scale = (self.dim as f32).powf(-0.5);
        let mask = match (&group.mask, group.causal) {
            (Some(mask), _) => Some(Mask::Array(mask)),
            (None, true) => Some(Mask::Causal),
            (None, false) => None,
        };
        Ok(scaled_dot_product_attention(q, keys, values, scale, mask, None)?)
    }
}
