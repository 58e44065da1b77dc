//! Products of quantized matrices with few rows, on CUDA's tensor cores.
//!
//! MLX multiplies 2 to 7 rows one after the other there, and from 8 rows on with a kernel made for prompts, which takes
//! most of a minute to compile when a machine first runs it. This one serves up to [`MOST_ROWS`] rows, and one row of
//! each of several experts. A row's result does not depend on how many others there are.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mlx_rs::ops;

use super::{checks, source};
use crate::error::{Error, Result, Status};
use crate::mlx::{Array, Dtype, Elements, Gpu, GpuKernel, Launch};

/// The most rows it multiplies at a time.
pub const MOST_ROWS: i32 = 32;

/// Threads of a group: eight warps share 16 rows of the matrix.
const THREADS: i32 = 256;

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

/// The kernel for one way of packing.
pub struct QuantizedProduct {
    /// By how many times 8 rows they take.
    by_tiles: [(i32, GpuKernel); 3],
    of_experts: GpuKernel,
    bits: i32,
    group: i32,
    dtype: Dtype,
    /// Numbers that launches want to know, in the device's memory.
    sizes: RefCell<BTreeMap<[u32; 4], Array>>,
}

impl QuantizedProduct {
    /// Compiled for affine elements of so many bits in groups of so many, and compared with a calculation on the host.
    ///
    /// Errors: `DeviceError` if it does not take them, does not compile, or differs.
    pub(super) fn checked(gpu: Gpu, bits: usize, group: usize, dtype: Dtype) -> Result<QuantizedProduct> {
        let packing = matches!((bits, group), (4 | 8, 32 | 64 | 128) | (6, 64 | 128));
        if gpu != Gpu::Cuda || !packing || dtype == Dtype::Float32 {
            let message = format!("{bits} bits in groups of {group} with {dtype:?} are left to MLX");
            return Err(Error::new(Status::DeviceError, message));
        }
        let (bits, group) = (bits as i32, group as i32);
        let kernel = |tiles: i32, gather: bool| -> Result<GpuKernel> {
            let constants = [
                ("BITS", bits),
                ("GROUP", group),
                ("TILES", tiles),
                ("GATHER", gather.into()),
                ("THREADS", THREADS),
            ];
            let body = include_str!("quantized_product_cuda.h");
            let mut source =
                source(gpu, "quire_quantized_product", body, &INPUTS, &OUTPUTS, dtype, &constants);
            source.header = concat!(include_str!("prelude_cuda.h"), include_str!("tensor_cores_cuda.h"));
            GpuKernel::new(gpu, &source)
        };
        let product = QuantizedProduct {
            by_tiles: [(1, kernel(1, false)?), (2, kernel(2, false)?), (4, kernel(4, false)?)],
            of_experts: kernel(1, true)?,
            bits,
            group,
            dtype,
            sizes: RefCell::default(),
        };
        checks::product(&product)?;
        Ok(product)
    }

    /// Bits of an element, and elements of a group.
    pub fn packing(&self) -> (usize, usize) {
        (self.bits as usize, self.group as usize)
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether it multiplies so many rows of this type with such a matrix.
    pub fn takes(&self, count: i32, dtype: Dtype, packed: Packed<'_>) -> bool {
        let (rows, columns) = self.shape(packed);
        (1..=MOST_ROWS).contains(&count)
            && [dtype, packed.scales.dtype(), packed.biases.dtype()] == [self.dtype; 3]
            && rows % 16 == 0
            && columns % 64 == 0
    }

    /// `x` `[n, columns]` times the transpose: `[n, rows]`. The matrix must be one that it [`takes`](Self::takes).
    pub fn multiply(&self, x: &Array, packed: Packed<'_>) -> Result<Array> {
        let (count, (rows, columns)) = (x.dim(0), self.shape(packed));
        let tiles = self.by_tiles.iter().find(|(tiles, _)| count <= 8 * tiles);
        let Some((_, kernel)) =
            tiles.filter(|_| x.dim(-1) == columns && self.takes(count, x.dtype(), packed))
        else {
            return Err(Error::internal("a quantized product of sizes that its kernel does not take"));
        };
        let sizes = self.sizes([count, rows, columns, 1])?;
        self.launch(kernel, x, packed, [&sizes, &sizes], &[count, rows], [rows / 16, 1])
    }

    /// Of a stack: rows `x`, `[.., columns]`, times the transposes of the matrices that `experts` names; as many follow
    /// each other in `experts` for each row as it has more elements than there are rows. Gives
    /// `[experts.., 1, rows]`.
    pub fn gather(&self, x: &Array, packed: Packed<'_>, experts: &Array) -> Result<Array> {
        let (rows, columns) = self.shape(packed);
        let (given, pairs) = (x.size() as i32 / columns, experts.size() as i32);
        if x.dim(-1) != columns || given == 0 || pairs % given != 0 || !self.takes(1, x.dtype(), packed) {
            return Err(Error::internal("a product of experts of sizes that its kernel does not take"));
        }
        let sizes = self.sizes([given, rows, columns, pairs / given])?;
        let shape = [experts.shape(), &[1, rows]].concat();
        self.launch(&self.of_experts, x, packed, [&sizes, experts], &shape, [rows / 16, pairs])
    }

    fn launch(
        &self,
        kernel: &GpuKernel,
        x: &Array,
        packed: Packed<'_>,
        [sizes, experts]: [&Array; 2],
        shape: &[i32],
        [groups, pairs]: [i32; 2],
    ) -> Result<Array> {
        let launch = Launch { shapes: &[shape], grid: [groups * THREADS, pairs, 1], group: [THREADS, 1, 1] };
        let inputs = [x, packed.weight, packed.scales, packed.biases, sizes, experts];
        // SAFETY: a group writes 16 columns of every row, or of its expert's; the rows, the matrix and its scales have
        // the sizes that were looked at. Experts are places in the router's scores, of which there is one each.
        let mut outputs = unsafe { kernel.launch(&inputs, &launch)? };
        outputs.pop().ok_or_else(|| Error::internal("a kernel gave no output"))
    }

    /// Rows and columns of a matrix.
    fn shape(&self, packed: Packed<'_>) -> (i32, i32) {
        (packed.scales.dim(-2), packed.scales.dim(-1) * self.group)
    }

    fn sizes(&self, sizes: [i32; 4]) -> Result<Array> {
        let key = sizes.map(i32::cast_unsigned);
        if let Some(array) = self.sizes.borrow().get(&key) {
            return Ok(array.clone());
        }
        // A copy that the device makes lies in its own memory.
        let array = ops::add(Array::from_slice(&key, &[4]), Array::from_slice(&[0u32], &[1]))?;
        self.sizes.borrow_mut().insert(key, array.clone());
        Ok(array)
    }
}
