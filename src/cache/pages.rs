//! Page storage: every attention layer's keys and values, in MLX arrays, or in plain memory for kernels of ours;
//! beside them, the states of recurrent layers.
//!
//! Promises, for arrays: a write changes the pool in place and never copies it, as long as no evaluation that reads
//! the pool is still running when the write is evaluated (MLX writes into an input's memory only if
//! nothing else holds it; this holds the pool by exactly one reference). A kernel of ours that writes the pool itself
//! needs no such care, but what reads it must depend on [`Pages::after`]. Memory is taken as pages fill, on the CPU.
//! What was never written reads as zeros.

use mlx_rs::ops::{self, indexing};

use std::sync::Arc;

use super::host_pages::HostPool;
use super::states::States;
use super::{BlockCopy, BlockId, PageLayout, contiguous};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, upload};

/// The page pool of a model.
pub struct Pages {
    layout: PageLayout,
    pub(super) store: Store,
    states: States,
    /// Zero, `[1]`: depends on the last write that a kernel of ours made.
    after: Array,
}

/// A pool per layer.
pub(super) enum Store {
    /// `[slots, head_dim]` each.
    Arrays(Vec<Array>),
    /// For our own CPU kernels, which read and write it themselves.
    Host(Vec<Arc<HostPool>>),
}

/// Which of a layer's pages to read, and how.
pub enum Table {
    /// Blocks that follow each other: a view.
    Run {
        /// The first token slot, in each head.
        first: i32,
        /// How many follow.
        context: i32,
    },
    /// Any blocks: their rows in the pool, `[rows, heads, blocks]`, to be gathered.
    Blocks {
        /// Rows of the pool seen as blocks.
        indices: Array,
        /// Tokens to read of each row; at most `blocks * block_size`.
        context: i32,
    },
    /// Attention reads the pool itself.
    InPlace,
}

impl Pages {
    /// Pools in plain memory.
    ///
    /// Errors: `OutOfMemory`.
    pub fn on_host(layout: PageLayout, layers: usize) -> Result<Pages> {
        let pools = (0..layers).map(|_| HostPool::new(&layout).map(Arc::new)).collect::<Result<_>>()?;
        Ok(Pages { layout, store: Store::Host(pools), states: States::default(), after: nothing() })
    }

    /// Pools of zeros in arrays.
    ///
    /// Errors: `OutOfMemory`; `InvalidArgument` if they are larger than MLX can index.
    pub fn new(layout: PageLayout, layers: usize, dtype: Dtype, on_gpu: bool) -> Result<Pages> {
        let slots = i32::try_from(layout.slots())
            .map_err(|_| Error::argument(format!("a cache of {} blocks is too large", layout.num_blocks)))?;
        let mut pools = Vec::with_capacity(layers);
        for _ in 0..layers {
            let pool = ops::zeros_dtype(&[slots, layout.head_dim as i32], dtype)?;
            pool.eval()?;
            crate::mlx::return_zero_pages(&pool, on_gpu);
            pools.push(pool);
        }
        Ok(Pages { layout, store: Store::Arrays(pools), states: States::default(), after: nothing() })
    }

    /// The same pages, with states beside them.
    pub fn with_states(self, states: States) -> Pages {
        Pages { states, ..self }
    }

    /// The states of recurrent layers.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// The states of recurrent layers, to change.
    pub fn states_mut(&mut self) -> &mut States {
        &mut self.states
    }

    /// How the pools are laid out.
    pub fn layout(&self) -> &PageLayout {
        &self.layout
    }

    /// Bytes of all pools.
    pub fn bytes(&self) -> u64 {
        match &self.store {
            Store::Arrays(pools) => pools.iter().map(|pool| pool.nbytes() as u64).sum(),
            Store::Host(pools) => pools.iter().map(|pool| pool.bytes()).sum(),
        }
    }

    /// The arrays a step changes, to evaluate with its result. None for pools in plain memory.
    pub fn arrays(&self) -> &[Array] {
        match &self.store {
            Store::Arrays(pools) => pools,
            Store::Host(_) => &[],
        }
    }

    /// A layer's pool in plain memory.
    pub fn host(&self, layer: usize) -> Result<&Arc<HostPool>> {
        match &self.store {
            Store::Host(pools) => pools.get(layer).ok_or_else(|| no_pages(layer)),
            Store::Arrays(_) => Err(Error::internal("these pages are in arrays")),
        }
    }

    /// The rows of the pool that the tokens at these `(position, block table)` go to, all heads of the
    /// first, then of the second, and so on: `[tokens * heads]`, what [`Pages::write`] wants.
    pub fn slots<'a>(&self, tokens: impl Iterator<Item = (usize, &'a [BlockId])>) -> Result<Array> {
        let mut slots = Vec::new();
        for (position, blocks) in tokens {
            for head in 0..self.layout.heads() {
                let slot = self.layout.slot(head, blocks, position).ok_or_else(|| {
                    Error::internal(format!(
                        "position {position} is outside a table of {} blocks",
                        blocks.len()
                    ))
                })?;
                slots.push(slot as u32);
            }
        }
        upload(&slots, &[slots.len() as i32])
    }

    /// How to read the first `context` tokens of a sequence.
    pub fn table(&self, blocks: &[BlockId], context: usize) -> Result<Table> {
        let used = &blocks[..context.div_ceil(self.layout.block_size).min(blocks.len())];
        match contiguous(used) {
            Some(first) => Ok(Table::Run {
                first: (first as usize * self.layout.block_size) as i32,
                context: context as i32,
            }),
            None => self.tables(&[used], context),
        }
    }

    /// How to read the first `context` tokens of several sequences; shorter ones are filled up with the
    /// spare block.
    pub fn tables(&self, rows: &[&[BlockId]], context: usize) -> Result<Table> {
        let blocks = context.div_ceil(self.layout.block_size);
        let mut indices = Vec::with_capacity(rows.len() * self.layout.heads() * blocks);
        for row in rows {
            for head in 0..self.layout.heads() {
                for i in 0..blocks {
                    let block = row.get(i).copied().unwrap_or(self.layout.spare_block());
                    indices.push(self.layout.block(head, block) as u32);
                }
            }
        }
        let shape = [rows.len() as i32, self.layout.heads() as i32, blocks as i32];
        Ok(Table::Blocks { indices: upload(&indices, &shape)?, context: context as i32 })
    }

    /// Writes keys and values `[tokens, heads, head_dim]` into the slots of [`Pages::slots`].
    pub fn write(&mut self, layer: usize, kv: &Array, slots: &Array) -> Result<()> {
        let pool = self.pool(layer)?;
        let updates = kv.reshape(&[-1, 1, self.layout.head_dim as i32])?;
        let written = indexing::scatter_single(pool, slots, updates, 0)?;
        *self.pool_mut(layer)? = written;
        Ok(())
    }

    /// What depends on the last write that a kernel of ours made: zero, `[1]`, unsigned 32-bit.
    pub fn after(&self) -> &Array {
        &self.after
    }

    /// Notes such a write.
    pub fn set_after(&mut self, stored: Array) {
        self.after = stored;
    }

    /// [`read`](Pages::read) for tables of blocks, after the last write of a kernel of ours.
    pub fn read_after(&self, layer: usize, table: &Table) -> Result<(Array, Array)> {
        let Table::Blocks { indices, context } = table else {
            return Err(Error::internal("pages that a kernel writes are read by tables of blocks"));
        };
        let indices = ops::add(indices, &self.after)?;
        self.read(layer, &Table::Blocks { indices, context: *context })
    }

    /// Keys and values, both `[kv_heads, context, head_dim]`, with the table's rows in front if it has
    /// several (`[rows, kv_heads, context, head_dim]`).
    pub fn read(&self, layer: usize, table: &Table) -> Result<(Array, Array)> {
        use mlx_rs::ops::indexing::TryIndexOp;
        let pool = self.pool(layer)?;
        let (heads, keys) = (self.layout.heads() as i32, self.layout.kv_heads as i32);
        let (dim, size) = (self.layout.head_dim as i32, self.layout.block_size as i32);
        match table {
            Table::Run { first, context } => {
                let by_head = pool.reshape(&[heads, -1, dim])?;
                let run = *first..first + context;
                let k = by_head.try_index((..keys, run.clone(), ..))?;
                let v = by_head.try_index((keys.., run, ..))?;
                Ok((k, v))
            }
            Table::Blocks { indices, context } => {
                let rows = indices.dim(0);
                let gathered = pool.reshape(&[-1, size * dim])?.take_axis(indices, 0)?;
                if rows == 1 {
                    let both = gathered.reshape(&[heads, -1, dim])?;
                    let k = both.try_index((..keys, ..*context, ..))?;
                    let v = both.try_index((keys.., ..*context, ..))?;
                    return Ok((k, v));
                }
                let both = gathered.reshape(&[rows, heads, -1, dim])?;
                let k = both.try_index((.., ..keys, ..*context, ..))?;
                let v = both.try_index((.., keys.., ..*context, ..))?;
                Ok((k, v))
            }
            Table::InPlace => Err(Error::internal("a kernel reads these pages itself")),
        }
    }

    /// Copies whole blocks, in every layer. A copied block's slots past the tokens that matter are not
    /// read before they are written. Pools in plain memory are left to the step's kernels.
    pub fn copy_blocks(&mut self, copies: &[BlockCopy]) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        let layout = self.layout;
        if let Some(copy) = copies.iter().find(|c| c.from.max(c.to) as usize >= layout.num_blocks) {
            return Err(Error::internal(format!("a copy from {} to {} leaves the pool", copy.from, copy.to)));
        }
        let rows = |pick: &dyn Fn(&BlockCopy) -> BlockId| {
            let rows: Vec<u32> = copies
                .iter()
                .flat_map(|copy| (0..layout.heads()).map(|head| layout.block(head, pick(copy)) as u32))
                .collect();
            Array::from_slice(&rows, &[rows.len() as i32])
        };
        let (from, to) = (rows(&|copy| copy.from), rows(&|copy| copy.to));
        let (dim, width) = (layout.head_dim as i32, (layout.block_size * layout.head_dim) as i32);
        let Store::Arrays(pools) = &mut self.store else { return Ok(()) };
        for pool in pools {
            let by_block = pool.reshape(&[-1, width])?;
            let moved = by_block.take_axis(&from, 0)?.reshape(&[-1, 1, width])?;
            let copied = indexing::scatter_single(&by_block, &to, moved, 0)?;
            *pool = copied.reshape(&[-1, dim])?;
        }
        Ok(())
    }

    /// A layer's pool, `[slots, head_dim]`.
    pub fn pool(&self, layer: usize) -> Result<&Array> {
        self.arrays().get(layer).ok_or_else(|| no_pages(layer))
    }

    fn pool_mut(&mut self, layer: usize) -> Result<&mut Array> {
        match &mut self.store {
            Store::Arrays(pools) => pools.get_mut(layer).ok_or_else(|| no_pages(layer)),
            Store::Host(_) => Err(no_pages(layer)),
        }
    }
}

fn nothing() -> Array {
    Array::from_slice(&[0u32], &[1])
}

fn no_pages(layer: usize) -> Error {
    Error::internal(format!("there are no pages for layer {layer}"))
}
