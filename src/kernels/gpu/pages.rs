//! Attention over pages on a GPU: one kernel rotates queries and keys and writes keys and values into their pages in
//! place, one attends for a token each of several sequences, reading pages where they lie.
//!
//! Promises: a pool is an array like any other to MLX, which never copies it; what reads it in the same step must
//! depend on what the first kernel gives (its queries, or [`Stored::after`]), and so must the next step's plan.

use mlx_rs::ops;

use super::{PagePlan, checks, source};
use crate::error::{Error, Result, Status};
use crate::mlx::{Array, Dtype, Elements, Gpu, GpuKernel, Launch, upload};

/// Threads of a group of the kernel that stores: each 32 take a head.
const STORE_THREADS: i32 = 256;
/// Threads of a group of the kernel that attends: a head of a token.
const ATTEND_THREADS: i32 = 512;

const STORE_INPUTS: [(&str, Elements); 4] = [
    ("qkv", Elements::Numbers),
    ("pool", Elements::Numbers),
    ("plan", Elements::Counts),
    ("numbers", Elements::Floats),
];
const STORE_OUTPUTS: [(&str, Elements); 2] = [("queries", Elements::Numbers), ("stored", Elements::Counts)];
const ATTEND_INPUTS: [(&str, Elements); 3] =
    [("queries", Elements::Numbers), ("pool", Elements::Numbers), ("plan", Elements::Counts)];
const ATTEND_OUTPUTS: [(&str, Elements); 1] = [("out", Elements::Numbers)];

/// What a model's kernels are compiled for.
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
    /// Whether query and key heads are normalized.
    pub norms: bool,
    /// Whether they are rotated.
    pub turns: bool,
}

/// What the kernel that stores needs to know of a layer, beside its shape.
#[derive(Debug, Clone)]
pub struct LayerNumbers {
    /// The angle of each pair of elements for a step of one position, `[head_dim / 2]`, in radians.
    pub frequencies: Vec<f32>,
    /// What rotated heads are multiplied by.
    pub magnitude: f32,
    /// The norms' weights for query heads and for key heads, each `[head_dim]`, and what is added under their root.
    pub norms: Option<(Vec<f32>, Vec<f32>, f32)>,
}

/// Both kernels.
pub struct PageKernels {
    store: GpuKernel,
    attend: GpuKernel,
    shape: PagedShape,
    dtype: Dtype,
}

/// What the kernel that stores gives.
pub struct Stored {
    /// Queries, normalized and rotated, `[tokens, heads, head_dim]`.
    pub queries: Array,
    /// Zero, `[1]`, unsigned 32-bit: what depends on it comes after the writes.
    pub after: Array,
}

impl PageKernels {
    /// Compiled, and compared with a calculation on the host.
    ///
    /// Errors: `DeviceError` if they do not take the shape, do not compile, or differ.
    pub(super) fn checked(gpu: Gpu, shape: PagedShape, dtype: Dtype) -> Result<PageKernels> {
        let PagedShape { heads, kv_heads, head_dim, block_size, norms, turns } = shape;
        if !head_dim.is_multiple_of(32) || head_dim > 256 {
            let message = format!("heads of {head_dim} elements, not a multiple of 32 up to 256");
            return Err(Error::new(Status::DeviceError, message));
        }
        let n = |size: usize| size as i32;
        let common =
            [("HEADS", n(heads)), ("KV_HEADS", n(kv_heads)), ("DIM", n(head_dim)), ("BLOCK", n(block_size))];
        let store = concat!(include_str!("page_plan.h"), include_str!("rotate_and_store.h"));
        let own = [("THREADS", STORE_THREADS), ("NORMS", norms.into()), ("TURNS", turns.into())];
        let constants = [&common[..], &own[..]].concat();
        let name = "quire_rotate_and_store";
        let store = source(gpu, name, store, &STORE_INPUTS, &STORE_OUTPUTS, dtype, &constants);
        let store = GpuKernel::new(gpu, &store)?;
        let attend = concat!(include_str!("page_plan.h"), include_str!("paged_attention.h"));
        let constants = [&common[..], &[("THREADS", ATTEND_THREADS)]].concat();
        let name = "quire_paged_attention";
        let attend = source(gpu, name, attend, &ATTEND_INPUTS, &ATTEND_OUTPUTS, dtype, &constants);
        let attend = GpuKernel::new(gpu, &attend)?;
        let kernels = PageKernels { store, attend, shape, dtype };
        checks::pages(&kernels)?;
        Ok(kernels)
    }

    /// What they are compiled for.
    pub fn shape(&self) -> &PagedShape {
        &self.shape
    }

    /// The type of their numbers.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// A layer's numbers as the kernel wants them.
    ///
    /// Errors: `Internal` if they are not those of the shape.
    pub fn numbers(&self, layer: &LayerNumbers) -> Result<Array> {
        let PagedShape { head_dim, norms, .. } = self.shape;
        let none = vec![1.0; head_dim];
        let (queries, keys, eps) = match &layer.norms {
            Some((queries, keys, eps)) => (queries, keys, *eps),
            None => (&none, &none, 0.0),
        };
        let fits = layer.frequencies.len() == head_dim / 2
            && queries.len() == head_dim
            && keys.len() == head_dim
            && layer.norms.is_some() == norms;
        if !fits {
            return Err(Error::internal("a layer of another shape than its kernels"));
        }
        let numbers = [&[eps, layer.magnitude], &layer.frequencies[..], queries, keys].concat();
        // A copy that the device made lies in its own memory.
        let numbers = ops::add(Array::from_slice(&numbers, &[numbers.len() as i32]), Array::from_f32(0.0))?;
        numbers.eval()?;
        Ok(numbers)
    }

    /// Tokens' queries, keys and values `[tokens, (heads + 2 kv_heads) * head_dim]`: writes the last two into the
    /// layer's pool. `numbers` are of [`numbers`](PageKernels::numbers), `plan` of [`PagePlan`], of as many tokens.
    pub fn store(&self, qkv: &Array, pool: &Array, plan: &Array, numbers: &Array) -> Result<Stored> {
        self.check_types(qkv, pool)?;
        let PagedShape { heads, kv_heads, head_dim, .. } = self.shape;
        let tokens = qkv.dim(0);
        let per_group = STORE_THREADS / 32;
        let groups = ((heads + 2 * kv_heads) as i32 + per_group - 1) / per_group;
        let launch = Launch {
            shapes: &[&[tokens, heads as i32, head_dim as i32], &[1]],
            grid: [groups * STORE_THREADS, tokens, 1],
            group: [STORE_THREADS, 1, 1],
            shared: 0,
        };
        // SAFETY: 32 threads write a head of a token, whole, to the queries or into the pool, one thread `stored`. A
        // plan's blocks are inside the pool, since a step's ids are checked before they get here, and the spare
        // block is. The pool is the cache's own: whoever reads it comes after `stored`.
        let outputs = unsafe { self.store.launch(&[qkv, pool, plan, numbers], &launch)? };
        let [queries, after]: [Array; 2] =
            outputs.try_into().map_err(|_| Error::internal("a kernel of two outputs gave others"))?;
        Ok(Stored { queries, after })
    }

    /// Attention of the plan's first tokens over their contexts: queries `[tokens, heads, head_dim]` to
    /// `[tokens, heads * head_dim]`.
    pub fn attend(&self, queries: &Array, pool: &Array, plan: &Array) -> Result<Array> {
        self.check_types(queries, pool)?;
        let PagedShape { heads, head_dim, .. } = self.shape;
        let tokens = queries.dim(0);
        let launch = Launch {
            shapes: &[&[tokens, (heads * head_dim) as i32]],
            grid: [heads as i32 * ATTEND_THREADS, tokens, 1],
            group: [ATTEND_THREADS, 1, 1],
            shared: 0,
        };
        // SAFETY: a group writes its head of its token, whole; blocks are inside the pool, as above.
        let mut outputs = unsafe { self.attend.launch(&[queries, pool, plan], &launch)? };
        outputs.pop().ok_or_else(|| Error::internal("a kernel gave no output"))
    }

    fn check_types(&self, numbers: &Array, pool: &Array) -> Result<()> {
        match numbers.dtype() == self.dtype && pool.dtype() == self.dtype {
            true => Ok(()),
            false => Err(Error::internal("kernels for pages met another type than they were made for")),
        }
    }
}

impl PagePlan {
    /// As the kernels want it, after what `after` depends on.
    pub fn array(&self, after: &Array) -> Result<Array> {
        let plan = upload(self.words(), &[self.words().len() as i32])?;
        // Also a copy that the device made: it reads its own memory faster than the host's.
        Ok(ops::add(plan, after)?)
    }
}
