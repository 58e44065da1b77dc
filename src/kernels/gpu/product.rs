//! Products of quantized matrices on CUDA's tensor cores.
//!
//! MLX multiplies 2 to 7 rows one after the other there, and from 8 rows on with a kernel that takes most of a minute
//! to compile when a machine first runs it. Of ours one is for few rows and for a row of each of several experts, one
//! for many rows and for the rows of each expert. A row's result does not depend on how many others there are, nor on
//! which of the kernels multiplies it.

use super::by_expert::Groups;
use super::sizes::Sizes;
use super::{checks, source};
use crate::error::{Error, Result, Status};
use crate::mlx::{Array, Bounds, Dtype, Elements, Gpu, GpuKernel, KernelSource, Launch};

/// Threads of a block: eight warps.
const THREADS: i32 = 256;

/// Rows of a matrix that a block of the kernel for many rows takes, and rows of `x` at a time.
const TILE: [i32; 2] = [128, 64];

/// How many groups of columns have room in a block's memory, at most: one is multiplied while the others are on their way.
const MOST_STAGES: i32 = 4;
/// Memory for them: what a block may have where CUDA allows least (99 KiB, compute capability 8.6), less what the
/// kernel declares itself.
const STAGES_BYTES: i32 = 96 << 10;

const INPUTS: [(&str, Elements); 6] = [
    ("x", Elements::Numbers),
    ("weight", Elements::Counts),
    ("scales", Elements::Numbers),
    ("biases", Elements::Numbers),
    ("sizes", Elements::Counts),
    ("experts", Elements::Counts),
];
const OUTPUTS: [(&str, Elements); 1] = [("out", Elements::Numbers)];

/// A packed matrix `[rows, columns * bits / 32]`, or a stack of them, with scales and biases `[rows, columns / group]`.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    /// Packed elements.
    pub weight: &'a Array,
    /// A scale for each group of elements.
    pub scales: &'a Array,
    /// A bias for each.
    pub biases: &'a Array,
}

/// The kernels for one way of packing.
pub struct QuantizedProduct {
    /// For few rows: the most that each takes, in eights.
    few: [(i32, GpuKernel); 4],
    many: GpuKernel,
    experts: Option<OfExperts>,
    /// Bytes of memory that a block of the kernels in tiles shares.
    shared: i32,
    bits: i32,
    group: i32,
    dtype: Dtype,
    sizes: Sizes,
}

/// Those for a model that has experts.
struct OfExperts {
    each: GpuKernel,
    grouped: GpuKernel,
}

impl QuantizedProduct {
    /// Compiled for affine elements of so many bits in groups of so many, and compared with a calculation on the host.
    ///
    /// Errors: `DeviceError` if they do not take them, do not compile, or differ.
    pub(super) fn checked(
        gpu: Gpu,
        (bits, group): (usize, usize),
        dtype: Dtype,
        experts: bool,
    ) -> Result<QuantizedProduct> {
        let packing = matches!((bits, group), (4 | 8, 32 | 64 | 128) | (6, 64 | 128));
        if gpu != Gpu::Cuda || !packing || dtype == Dtype::Float32 {
            let message = format!("{bits} bits in groups of {group} with {dtype:?} are left to MLX");
            return Err(Error::new(Status::DeviceError, message));
        }
        let (bits, group) = (bits as i32, group as i32);
        let common = [("BITS", bits), ("GROUP", group), ("THREADS", THREADS)];
        let few = |tiles: i32, gather: bool| -> Result<GpuKernel> {
            let constants = [&common[..], &[("TILES", tiles), ("GATHER", gather.into())]].concat();
            let body = include_str!("quantized_product_cuda.h");
            let name = "quire_quantized_product";
            let source = source(gpu, name, body, &INPUTS, &OUTPUTS, dtype, &constants);
            GpuKernel::new(gpu, &KernelSource { header: HEADER, ..source })
        };
        let stage = stage_bytes(bits, group);
        let stages = (STAGES_BYTES / stage).min(MOST_STAGES);
        let many = |grouped: bool| -> Result<GpuKernel> {
            let own = [
                ("STAGES", stages),
                ("STAGE_BYTES", stage),
                ("ROWS_OF_X", TILE[1]),
                ("GROUPED", grouped.into()),
            ];
            let constants = [&common[..], &own].concat();
            let body = include_str!("quantized_tiles_cuda.h");
            let source = source(gpu, "quire_quantized_tiles", body, &INPUTS, &OUTPUTS, dtype, &constants);
            // One block multiplies while another waits for memory.
            let bounds = Some(Bounds { threads: THREADS, groups: 2 });
            GpuKernel::new(gpu, &KernelSource { header: HEADER, bounds, ..source })
        };
        let product = QuantizedProduct {
            few: [(1, few(1, false)?), (2, few(2, false)?), (4, few(4, false)?), (8, few(8, false)?)],
            many: many(false)?,
            // A chip's driver takes its time for each when it first meets them.
            experts: match experts {
                true => Some(OfExperts { each: few(1, true)?, grouped: many(true)? }),
                false => None,
            },
            shared: stages * stage,
            bits,
            group,
            dtype,
            sizes: Sizes::default(),
        };
        checks::product(&product)?;
        Ok(product)
    }

    /// Whether it multiplies with stacks, too.
    pub(super) fn has_experts(&self) -> bool {
        self.experts.is_some()
    }

    /// Bits of an element, and elements of a group.
    pub fn packing(&self) -> (usize, usize) {
        (self.bits as usize, self.group as usize)
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether it multiplies rows of this type with such a matrix.
    pub fn takes(&self, dtype: Dtype, packed: Packed<'_>) -> bool {
        let (rows, columns) = self.shape(packed);
        [dtype, packed.scales.dtype(), packed.biases.dtype()] == [self.dtype; 3]
            && rows % 16 == 0
            && columns % 64 == 0
    }

    /// `x` `[n, columns]` times the transpose: `[n, rows]`. The matrix must be one that it [`takes`](Self::takes).
    pub fn multiply(&self, x: &Array, packed: Packed<'_>) -> Result<Array> {
        let (count, (rows, columns)) = (x.dim(0), self.shape(packed));
        if count < 1 || x.dim(-1) != columns || !self.takes(x.dtype(), packed) {
            return Err(Error::internal("a quantized product of sizes that its kernels do not take"));
        }
        let sizes = &self.sizes.array([count, rows, columns, 1])?;
        let inputs = [x, packed.weight, packed.scales, packed.biases, sizes, sizes];
        match self.few.iter().find(|(tiles, _)| count <= 8 * tiles) {
            Some((_, kernel)) => launch(kernel, &inputs, &[count, rows], [rows / 16, 1], 0),
            None => {
                let groups = [in_tiles(rows, TILE[0]), in_tiles(count, TILE[1])];
                launch(&self.many, &inputs, &[count, rows], groups, self.shared)
            }
        }
    }

    /// Of a stack: rows `x`, `[.., columns]`, times the transposes of the matrices that `experts` names; as many follow
    /// each other in `experts` for each row as it has more elements than there are rows. Gives
    /// `[experts.., 1, rows]`.
    pub fn gather(&self, x: &Array, packed: Packed<'_>, experts: &Array) -> Result<Array> {
        let (rows, pairs) = (self.shape(packed).0, experts.size() as i32);
        let sizes = &self.sizes_of_pairs(x, packed, pairs)?;
        let shape = [experts.shape(), &[1, rows]].concat();
        let inputs = [x, packed.weight, packed.scales, packed.biases, sizes, experts];
        launch(&self.of_experts()?.each, &inputs, &shape, [rows / 16, pairs], 0)
    }

    /// The same with the rows of each expert together; gives `[pairs, rows]`.
    pub fn grouped(&self, x: &Array, packed: Packed<'_>, groups: &Groups) -> Result<Array> {
        let rows = self.shape(packed).0;
        if packed.weight.dim(0) != groups.experts {
            return Err(Error::internal("groups of rows for another number of experts"));
        }
        let sizes = &self.sizes_of_pairs(x, packed, groups.pairs)?;
        let inputs = [x, packed.weight, packed.scales, packed.biases, sizes, &groups.list];
        let blocks = [in_tiles(rows, TILE[0]), groups.experts];
        launch(&self.of_experts()?.grouped, &inputs, &[groups.pairs, rows], blocks, self.shared)
    }

    fn of_experts(&self) -> Result<&OfExperts> {
        self.experts.as_ref().ok_or_else(|| Error::internal("a product of experts for a model without any"))
    }

    fn sizes_of_pairs(&self, x: &Array, packed: Packed<'_>, pairs: i32) -> Result<Array> {
        let (rows, columns) = self.shape(packed);
        let given = x.size() as i32 / columns;
        let fits = x.dim(-1) == columns && given > 0 && pairs % given == 0;
        if !fits || !self.takes(x.dtype(), packed) {
            return Err(Error::internal("a product of experts of sizes that its kernels do not take"));
        }
        self.sizes.array([given, rows, columns, pairs / given])
    }

    /// Rows and columns of a matrix.
    fn shape(&self, packed: Packed<'_>) -> (i32, i32) {
        (packed.scales.dim(-2), packed.scales.dim(-1) * self.group)
    }
}

const HEADER: &str = concat!(include_str!("prelude_cuda.h"), include_str!("tensor_cores_cuda.h"));

/// How many tiles cover so many.
fn in_tiles(count: i32, tile: i32) -> i32 {
    (count + tile - 1) / tile
}

/// Bytes of a group of columns of a tile in a block's memory (`STAGE` in quantized_tiles_cuda.h, which compares them).
fn stage_bytes(bits: i32, group: i32) -> i32 {
    let x = 2 * group + if group < 64 { 0 } else { 16 };
    TILE[1] * x + TILE[0] * group * bits / 8
}

fn launch(
    kernel: &GpuKernel,
    inputs: &[&Array],
    shape: &[i32],
    [across, down]: [i32; 2],
    shared: i32,
) -> Result<Array> {
    let launch =
        Launch { shapes: &[shape], grid: [across * THREADS, down, 1], group: [THREADS, 1, 1], shared };
    // SAFETY: a block writes its columns of every row, of its rows, or of its expert's. Rows and scales have the sizes
    // that were looked at; packed elements and biases have those that belong to the scales, or the checkpoint would not have
    // been loaded. Experts are places in the router's scores, of which there is one each.
    let mut outputs = unsafe { kernel.launch(inputs, &launch)? };
    outputs.pop().ok_or_else(|| Error::internal("a kernel gave no output"))
}
