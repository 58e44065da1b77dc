//! The CPU kernels as operations in MLX's graph.

mod experts;

use std::ops::Range;
use std::sync::Arc;

pub use experts::HostExperts;

use super::cpu::{
    AttentionShape, PagedRow, Pages, Projected, QuantizedWeights, Threads, dequantize, paged_attention,
    quantized_matmul, rms_norm, swiglu,
};
use crate::cache::host_pages::HostPool;
use crate::cache::{BlockCopy, BlockId};
use crate::error::{Error, Result};
use crate::mlx::{Array, Faults, Held, host_op};

/// More rows than this are multiplied by BLAS, with the weights unpacked for them: a tile of rows meets each
/// packed weight, so the kernel's time grows with the rows, while BLAS's hardly does at first.
const MOST_PACKED_ROWS: i32 = 32;

/// Launches CPU kernels. Every operation it makes must be evaluated on a CPU stream.
#[derive(Clone)]
pub struct HostKernels {
    threads: Arc<Threads>,
    faults: Arc<Faults>,
}

/// A quantized matrix in host memory.
#[derive(Clone)]
pub struct HostMatrix {
    weight: Held,
    scales: Held,
    biases: Held,
    rows: usize,
    columns: usize,
    bits: usize,
    group: usize,
}

impl HostMatrix {
    /// From MLX's arrays: packed `[rows, columns * bits / 32]`, scales and biases
    /// `[rows, columns / group_size]` in float32.
    ///
    /// Errors: `Internal` if they do not fit together.
    pub fn new(
        weight: &Array,
        scales: &Array,
        biases: &Array,
        bits: usize,
        group: usize,
    ) -> Result<HostMatrix> {
        let (rows, groups) = (scales.dim(0) as usize, scales.dim(1) as usize);
        let columns = groups * group;
        let parts = [Held::new(weight)?, Held::new(scales)?, Held::new(biases)?];
        let [weight, scales, biases] = parts;
        let fits = weight.u32().len() == rows * columns * bits / 32
            && scales.f32().len() == rows * groups
            && biases.f32().len() == rows * groups;
        if !fits {
            return Err(Error::internal("the parts of a quantized matrix do not fit together"));
        }
        Ok(HostMatrix { weight, scales, biases, rows, columns, bits, group })
    }

    fn view(&self) -> QuantizedWeights<'_> {
        QuantizedWeights {
            weight: self.weight.u32(),
            scales: self.scales.f32(),
            biases: self.biases.f32(),
            rows: self.rows,
            columns: self.columns,
            bits: self.bits,
            group: self.group,
        }
    }

    /// One row, as a matrix.
    fn row(&self, row: usize) -> QuantizedWeights<'_> {
        let words = self.columns * self.bits / 32;
        let groups = self.columns / self.group;
        QuantizedWeights {
            weight: &self.weight.u32()[row * words..][..words],
            scales: &self.scales.f32()[row * groups..][..groups],
            biases: &self.biases.f32()[row * groups..][..groups],
            rows: 1,
            ..self.view()
        }
    }
}

/// Weights of the normalization of query and key heads, each `[head_dim]`.
#[derive(Clone)]
pub struct HostHeadNorms {
    /// For each query head.
    pub queries: Held,
    /// For each key head.
    pub keys: Held,
    /// Added under the root.
    pub eps: f32,
}

/// What a step's attention needs beside queries, keys and values; shared by all layers.
pub struct HostStep {
    /// One for each sequence; they cover the first tokens of the step, in order.
    pub rows: Vec<HostRow>,
    /// Block copies that precede the step's writes.
    pub copies: Vec<BlockCopy>,
    /// Cosines of the rotation at each token's position, `[tokens, head_dim / 2]`.
    pub cos: Vec<f32>,
    /// Sines, likewise.
    pub sin: Vec<f32>,
}

/// One sequence's tokens in a step.
pub struct HostRow {
    /// Which of the step's tokens.
    pub tokens: Range<usize>,
    /// Position of the first.
    pub start: usize,
    /// The sequence's block table.
    pub blocks: Arc<[BlockId]>,
}

impl HostKernels {
    /// With a thread for each core.
    pub fn new() -> HostKernels {
        HostKernels { threads: Arc::new(Threads::per_core()), faults: Arc::default() }
    }

    /// Whether there are kernels for such weights.
    pub fn take(bits: usize, group: usize) -> bool {
        QuantizedWeights::is_supported(bits, group)
    }

    /// An error if a kernel failed since the last call; MLX cannot say so itself.
    pub fn check(&self) -> Result<()> {
        self.faults.take()
    }

    /// RMS norm of `x` `[rows, features]`.
    pub fn rms_norm(&self, x: &Array, weight: &Held, eps: f32) -> Result<Array> {
        let weight = weight.clone();
        host_op(&self.faults, &[x], x.shape(), move |inputs, out| {
            rms_norm(inputs.f32(0), weight.f32(), eps, out);
        })
    }

    /// `silu(gate) * up` of `[rows, 2 * features]`, gate first: `[rows, features]`.
    pub fn swiglu(&self, both: &Array) -> Result<Array> {
        let (rows, features) = (both.dim(0), both.dim(1) / 2);
        let threads = self.threads.clone();
        host_op(&self.faults, &[both], &[rows, features], move |inputs, out| {
            let features = features as usize;
            for (both, out) in inputs.f32(0).chunks_exact(2 * features).zip(out.chunks_exact_mut(features)) {
                let (gate, up) = both.split_at(features);
                swiglu(&threads, gate, up, out);
            }
        })
    }

    /// `x W^T`, plus `add` `[n, rows]` if given: `x` `[n, columns]` to `[n, rows]`.
    pub fn multiply(&self, x: &Array, matrix: &HostMatrix, add: Option<&Array>) -> Result<Array> {
        let n = x.dim(0);
        if n > MOST_PACKED_ROWS {
            let unpacked = self.unpack(matrix)?.transpose_axes(&[1, 0])?;
            return Ok(match add {
                Some(add) => mlx_rs::ops::addmm(add, x, unpacked, None, None)?,
                None => mlx_rs::ops::matmul(x, unpacked)?,
            });
        }
        let inputs: Vec<&Array> = std::iter::once(x).chain(add).collect();
        let (threads, matrix, adds) = (self.threads.clone(), matrix.clone(), add.is_some());
        host_op(&self.faults, &inputs, &[n, matrix.rows as i32], move |inputs, out| {
            let add = adds.then(|| inputs.f32(1));
            quantized_matmul(&threads, inputs.f32(0), &matrix.view(), add, out);
        })
    }

    /// The whole matrix as floats.
    fn unpack(&self, matrix: &HostMatrix) -> Result<Array> {
        let (threads, matrix) = (self.threads.clone(), matrix.clone());
        host_op(&self.faults, &[], &[matrix.rows as i32, matrix.columns as i32], move |_, out| {
            dequantize(&threads, &matrix.view(), out);
        })
    }

    /// Rows `indices` `[n]` (unsigned 32-bit, each below the matrix's rows) as floats `[n, columns]`.
    pub fn take_rows(&self, indices: &Array, matrix: &HostMatrix) -> Result<Array> {
        let (threads, matrix) = (self.threads.clone(), matrix.clone());
        let shape = [indices.dim(0), matrix.columns as i32];
        host_op(&self.faults, &[indices], &shape, move |inputs, out| {
            for (&row, out) in inputs.u32(0).iter().zip(out.chunks_exact_mut(matrix.columns)) {
                dequantize(&threads, &matrix.row(row as usize), out);
            }
        })
    }

    /// Attention of a step in one layer: queries, keys and values `[tokens, (heads + 2 kv_heads) * head_dim]`
    /// to `[tokens, heads * head_dim]`. Normalizes query and key heads if there are `norms`. Copies blocks and writes keys and values first. Tokens that no row
    /// covers (they fill up the step) come out as zeros.
    pub fn attention(
        &self,
        qkv: &Array,
        shape: AttentionShape,
        norms: Option<&HostHeadNorms>,
        pool: &Arc<HostPool>,
        step: &Arc<HostStep>,
    ) -> Result<Array> {
        let (threads, norms, pool, step) = (self.threads.clone(), norms.cloned(), pool.clone(), step.clone());
        let width = (shape.heads * shape.head_dim) as i32;
        host_op(&self.faults, &[qkv], &[qkv.dim(0), width], move |inputs, out| {
            attend(&threads, inputs.f32(0), &shape, norms.as_ref(), &pool, &step, out);
        })
    }
}

impl Default for HostKernels {
    fn default() -> Self {
        Self::new()
    }
}

fn attend(
    threads: &Threads,
    qkv: &[f32],
    shape: &AttentionShape,
    norms: Option<&HostHeadNorms>,
    pool: &HostPool,
    step: &HostStep,
    out: &mut [f32],
) {
    let (heads, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let tokens = step.rows.last().map_or(0, |row| row.tokens.end);
    let mut queries = Vec::with_capacity(tokens * heads);
    let mut keys = Vec::with_capacity(tokens * kv);
    let mut values = Vec::with_capacity(tokens * kv);
    for row in qkv.chunks_exact(heads + 2 * kv).take(tokens) {
        queries.extend_from_slice(&row[..heads]);
        keys.extend_from_slice(&row[heads..heads + kv]);
        values.extend_from_slice(&row[heads + kv..]);
    }
    let projected = Projected {
        queries: &queries,
        keys: &keys,
        values: &values,
        cos: &step.cos,
        sin: &step.sin,
        head_norms: norms.map(|norms| (norms.queries.f32(), norms.keys.f32(), norms.eps)),
    };
    let rows: Vec<PagedRow<'_>> = step
        .rows
        .iter()
        .map(|row| PagedRow { tokens: row.tokens.clone(), start: row.start, table: &row.blocks })
        .collect();
    let (own, filled_up) = out.split_at_mut(tokens * heads);
    // SAFETY: the operations of a stream follow each other, and each of a layer's is done with the pool when
    // it returns.
    let pages = unsafe {
        pool.copy_blocks(&step.copies);
        let (keys, values) = pool.parts();
        Pages { keys, values }
    };
    paged_attention(threads, shape, &projected, &rows, pages, own);
    filled_up.fill(0.0);
}
