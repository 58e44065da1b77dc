//! Attention over pages, for one token each of several sequences.

use mlx_rs::ops;

use super::{compare, numbers, source};
use crate::cache::{BlockId, PageLayout};
use crate::error::{Error, Result, Status};
use crate::mlx::{Array, Dtype, Gpu, GpuKernel, KernelConstants};

/// Threads of a group: what the kernel's text is written for.
const THREADS: i32 = 256;

/// What an attention layer's kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PagedShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key heads; there are as many value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Token slots of a block.
    pub block_size: usize,
}

/// Grouped-query attention that reads pages where they lie.
pub struct PagedAttention {
    kernel: GpuKernel,
    shape: PagedShape,
    dtype: Dtype,
}

impl PagedAttention {
    /// Compiled, and compared with MLX's operations.
    ///
    /// Errors: `DeviceError` if it does not take the shape, does not compile, or differs.
    pub(super) fn checked(gpu: Gpu, shape: PagedShape, dtype: Dtype) -> Result<PagedAttention> {
        if !shape.head_dim.is_multiple_of(32) || shape.head_dim > THREADS as usize {
            let message =
                format!("heads of {} elements, not a multiple of 32 up to {THREADS}", shape.head_dim);
            return Err(Error::new(Status::DeviceError, message));
        }
        let inputs = &[c"queries", c"pool", c"plan"];
        let body = include_str!("paged_attention.h");
        let kernel = GpuKernel::new(gpu, &source(gpu, c"quire_paged_attention", inputs, body))?;
        let attention = PagedAttention { kernel, shape, dtype };
        attention.check()?;
        Ok(attention)
    }

    /// The rows' contexts and block tables, for every layer of a step: what `forward` takes. A row that only fills
    /// up has no blocks: it reads the spare one.
    pub fn plan(layout: &PageLayout, rows: &[(usize, &[BlockId])]) -> Array {
        let used = |context: usize| context.div_ceil(layout.block_size);
        let width = rows.iter().map(|&(context, _)| used(context)).max().unwrap_or(0);
        let mut plan = vec![layout.total_blocks() as i32, rows.len() as i32, width as i32];
        plan.extend(rows.iter().map(|&(context, _)| context as i32));
        for (_, blocks) in rows {
            let spare = layout.spare_block();
            plan.extend((0..width).map(|i| blocks.get(i).copied().unwrap_or(spare) as i32));
        }
        Array::from_slice(&plan, &[plan.len() as i32])
    }

    /// Queries `[rows, heads, head_dim]` over a layer's pool: `[rows, heads * head_dim]`. `plan` is of as many rows,
    /// none with an empty context.
    pub fn forward(&self, queries: &Array, pool: &Array, plan: &Array) -> Result<Array> {
        let n = |size: usize| size as i32;
        let PagedShape { heads, kv_heads, head_dim, block_size } = self.shape;
        if queries.dtype() != self.dtype || pool.dtype() != self.dtype {
            return Err(Error::internal("paged attention of another type than it was made for"));
        }
        let rows = queries.dim(0);
        let numbers = [
            (c"HEADS", n(heads)),
            (c"KV_HEADS", n(kv_heads)),
            (c"DIM", n(head_dim)),
            (c"BLOCK", n(block_size)),
        ];
        let constants = KernelConstants { dtype: self.dtype, numbers: &numbers };
        let shape = [rows, n(heads * head_dim)];
        let grid = [n(heads) * THREADS, rows, 1];
        // SAFETY: a group writes its head of its row, whole; a plan's blocks are inside the pool, since a step's ids
        // are checked before they get here, and the spare block is.
        unsafe { self.kernel.launch(&[queries, pool, plan], &shape, &constants, grid, [THREADS, 1, 1]) }
    }

    /// Rows of one token, of some blocks, of many keys, and one that only fills up.
    fn check(&self) -> Result<()> {
        let PagedShape { heads, kv_heads, head_dim, block_size } = self.shape;
        let layout = PageLayout { kv_heads, num_blocks: 9, block_size, head_dim };
        let pool = numbers(&[layout.slots() as i32, head_dim as i32], self.dtype)?;
        let (full, some) = (6 * block_size, 2 * block_size - block_size / 2);
        let rows: [(usize, &[BlockId]); 4] =
            [(1, &[3]), (full, &[8, 0, 5, 2, 7, 1]), (some, &[6, 4]), (full, &[])];
        let queries = numbers(&[rows.len() as i32, heads as i32, head_dim as i32], self.dtype)?;
        let got = self.forward(&queries, &pool, &Self::plan(&layout, &rows))?;
        let mut expected = Vec::new();
        for (i, (context, blocks)) in rows.iter().enumerate() {
            let spare = vec![layout.spare_block(); 6];
            let blocks = if blocks.is_empty() { &spare } else { *blocks };
            let query = queries.take_axis(Array::from_slice(&[i as u32], &[1]), 0)?;
            expected.push(self.expected(&layout, &query, &pool, *context, blocks)?);
        }
        compare(&got, &ops::concatenate(&expected, 0)?, self.dtype)
    }

    /// One row by MLX's operations, in float32: a query `[1, heads, head_dim]` to `[1, heads * head_dim]`.
    fn expected(
        &self,
        layout: &PageLayout,
        query: &Array,
        pool: &Array,
        context: usize,
        blocks: &[BlockId],
    ) -> Result<Array> {
        let n = |size: usize| size as i32;
        let PagedShape { heads, kv_heads, head_dim, .. } = self.shape;
        let part = |first: usize| -> Result<Array> {
            let mut slots = Vec::new();
            for head in first..first + kv_heads {
                for position in 0..context {
                    let slot = layout.slot(head, blocks, position);
                    slots.push(slot.ok_or_else(|| Error::internal("a check outside its blocks"))? as u32);
                }
            }
            let rows = pool.take_axis(Array::from_slice(&slots, &[n(slots.len())]), 0)?;
            Ok(rows.as_dtype(Dtype::Float32)?.reshape(&[n(kv_heads), n(context), n(head_dim)])?)
        };
        let (keys, values) = (part(0)?, part(kv_heads)?);
        let query =
            query.as_dtype(Dtype::Float32)?.reshape(&[n(kv_heads), n(heads / kv_heads), n(head_dim)])?;
        let scale = Array::from_f32((head_dim as f32).powf(-0.5));
        let scores = ops::matmul(ops::multiply(&query, &scale)?, keys.swap_axes(-1, -2)?)?;
        let mixed = ops::matmul(ops::softmax_axis(&scores, -1, true)?, &values)?;
        Ok(mixed.reshape(&[1, -1])?)
    }
}
