//! Products of quantized matrices.

use super::{compare, floats, numbers};
use crate::error::{Error, Result, Status};
use crate::kernels::gpu::{ByExpert, Packed, QuantizedProduct};
use crate::mlx::{Array, Dtype};

/// Rows of the matrices to check with: a tile, and some of another.
const ROWS: usize = 144;

/// A stack of packed matrices whose groups do not divide evenly among warps.
struct Stack {
    words: Vec<u32>,
    weight: Array,
    scales: Array,
    biases: Array,
    columns: usize,
}

impl Stack {
    /// Of so many, packed as the kernel takes them, `[count, ROWS, columns]`.
    fn new(kernel: &QuantizedProduct, count: usize) -> Result<Stack> {
        let (bits, group) = kernel.packing();
        let columns = 640usize.next_multiple_of(group);
        let shape = |width: usize| [count as i32, ROWS as i32, width as i32];
        let words: Vec<u32> = (0..(count * ROWS * columns * bits / 32) as u32)
            .map(|i| i.wrapping_mul(2_654_435_761).rotate_left(i % 32))
            .collect();
        let weight = Array::from_slice(&words, &shape(columns * bits / 32));
        let scales = numbers(&shape(columns / group), Dtype::Float32)?;
        let scales = mlx_rs::ops::multiply(scales, Array::from_f32(1.0 / (1 << bits) as f32))?;
        let scales = scales.as_dtype(kernel.dtype())?;
        let biases = numbers(&shape(columns / group), kernel.dtype())?;
        Ok(Stack { words, weight, scales, biases, columns })
    }

    fn packed(&self) -> Packed<'_> {
        Packed { weight: &self.weight, scales: &self.scales, biases: &self.biases }
    }

    /// The same as numbers, matrix by matrix and row by row.
    fn unpacked(&self, (bits, group): (usize, usize)) -> Result<Vec<f32>> {
        let (scales, biases) = (floats(&self.scales)?, floats(&self.biases)?);
        let element = |i: usize| {
            // Elements follow each other bit by bit.
            let (word, bit) = (i * bits / 32, i * bits % 32);
            let next = self.words.get(word + 1).copied().unwrap_or(0);
            let both = u64::from(self.words[word]) | u64::from(next) << 32;
            let packed = (both >> bit) as u32 & ((1 << bits) - 1);
            scales[i / group] * packed as f32 + biases[i / group]
        };
        Ok((0..self.words.len() * 32 / bits).map(element).collect())
    }
}

/// As many rows as each of the kernels takes, with a matrix whose rows and groups do not divide evenly; and some experts.
/// Every kernel must give a row the same bits, or the rest of a batch would change what it answers.
pub(in crate::kernels::gpu) fn product(kernel: &QuantizedProduct) -> Result<()> {
    let stack = Stack::new(kernel, 3)?;
    let (columns, dense) = (stack.columns, stack.unpacked(kernel.packing())?);
    let expected = |x: &[f32], expert: usize| -> Vec<f32> {
        let matrix = dense[expert * ROWS * columns..][..ROWS * columns].chunks_exact(columns);
        matrix.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    };

    let first = |array: &Array| {
        Ok::<_, Error>(array.take_axis(Array::from_slice(&[0u32], &[1]), 0)?.squeeze_axes(&[0])?)
    };
    let (weight, scales, biases) = (first(&stack.weight)?, first(&stack.scales)?, first(&stack.biases)?);
    let packed = Packed { weight: &weight, scales: &scales, biases: &biases };
    let product = |count: i32| {
        // Fewer rows are the first ones of more.
        let x = numbers(&[count, columns as i32], kernel.dtype())?;
        Ok::<_, Error>((floats(&x)?, floats(&kernel.multiply(&x, packed)?)?))
    };
    let (x, all) = product(70)?;
    let wanted: Vec<f32> = x.chunks_exact(columns).flat_map(|x| expected(x, 0)).collect();
    compare("products", &all, &wanted, kernel.dtype())?;
    for count in [1, 5, 8, 13, 32, 64] {
        same_bits(&product(count)?.1, &all[..count as usize * ROWS])?;
    }
    if !kernel.has_experts() {
        return Ok(());
    }
    let which = [2usize, 0, 1, 1, 0, 2];
    let experts = Array::from_slice(&which.map(|expert| expert as u32), &[3, 2]);
    for given in [3, 6] {
        let x = numbers(&[given, 1, columns as i32], kernel.dtype())?;
        let got = kernel.gather(&x, stack.packed(), &experts)?;
        let x = floats(&x)?;
        let row = |pair: usize| &x[pair * given as usize / which.len() * columns..][..columns];
        let expected: Vec<f32> =
            which.iter().enumerate().flat_map(|(pair, &expert)| expected(row(pair), expert)).collect();
        let got = floats(&got)?;
        compare("products of experts", &got, &expected, kernel.dtype())?;
        // The first expert, which the second pair names, is the matrix from above.
        let own = given as usize / which.len() * ROWS;
        same_bits(&got[ROWS..2 * ROWS], &all[own..own + ROWS])?;
    }
    Ok(())
}

/// Experts with no rows, with few, and with more than a tile has: the same bits as for each row on its own.
pub(in crate::kernels::gpu) fn grouped(kernel: &QuantizedProduct, by_expert: &ByExpert) -> Result<()> {
    let stack = Stack::new(kernel, 4)?;
    let which: Vec<u32> = (0..72).flat_map(|row| [3, if row < 5 { 0 } else { 1 }]).collect();
    let experts = Array::from_slice(&which, &[72, 2]);
    let groups = by_expert.groups(&experts, 4)?;
    for given in [72, 144] {
        let x = numbers(&[given, stack.columns as i32], kernel.dtype())?;
        let got = floats(&kernel.grouped(&x, stack.packed(), &groups)?)?;
        same_bits(&got, &floats(&kernel.gather(&x, stack.packed(), &experts)?)?)?;
    }
    Ok(())
}

/// An error unless all numbers are the same bit for bit.
fn same_bits(got: &[f32], expected: &[f32]) -> Result<()> {
    let same = got.iter().map(|x| x.to_bits()).eq(expected.iter().map(|x| x.to_bits()));
    match same {
        true => Ok(()),
        false => Err(Error::new(Status::DeviceError, "its products depend on the number of rows")),
    }
}

/// More pairs than there are threads, of experts of which some have none.
pub(in crate::kernels::gpu) fn by_expert(kernel: &ByExpert) -> Result<()> {
    let (count, pairs) = (130usize, 3000u32);
    let which: Vec<u32> = (0..pairs).map(|i| i.wrapping_mul(2_654_435_761) >> 26).map(|e| 2 * e).collect();
    let groups = kernel.groups(&Array::from_slice(&which, &[pairs as i32]), count as i32)?;
    let list: Vec<u32> =
        groups.list.to_vec_exact().map_err(|e| Error::internal(format!("reading a kernel's output: {e}")))?;
    let (starts, order) = list.split_at(count + 1);
    let mut rest = vec![true; pairs as usize];
    for (expert, own) in starts.windows(2).enumerate() {
        let own = order.get(own[0] as usize..own[1] as usize).unwrap_or_default();
        let right = |&pair: &u32| {
            which.get(pair as usize) == Some(&(expert as u32))
                && std::mem::replace(&mut rest[pair as usize], false)
        };
        if !own.iter().all(right) {
            return Err(Error::new(Status::DeviceError, "an expert has another one's rows"));
        }
    }
    match rest.contains(&true) {
        true => Err(Error::new(Status::DeviceError, "no expert has some of the rows")),
        false => Ok(()),
    }
}
