//! Products with quantized weights: `out[m] = x[m] W^T`, without ever writing `W` out in full.
//!
//! Weights are read once, however many rows `x` has: a thread takes a range of `W`'s rows, and each of them
//! meets all rows of `x` while it is in the nearest cache. Per group of weights `w = scale * q + bias`, so
//! `x . w = x . (scale * q) + bias * sum(x)`: the inner loop leaves the biases out.
//!
//! Refused (the caller keeps MLX's operation): bits other than 4 and 8, groups other than 32, 64 and 128.

use super::simd::{LANES, Vector, best_is_roomy, dispatch};
use super::threads::{Scattered, Threads};

/// An affine-quantized matrix in MLX's layout, `rows` by `columns`.
#[derive(Debug, Clone, Copy)]
pub struct QuantizedWeights<'a> {
    /// `[rows, columns * bits / 32]`: consecutive columns from the low bits up.
    pub weight: &'a [u32],
    /// `[rows, columns / group]`.
    pub scales: &'a [f32],
    /// `[rows, columns / group]`.
    pub biases: &'a [f32],
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
    /// Bits of a weight: 4 or 8.
    pub bits: usize,
    /// Columns that share a scale and a bias: 32, 64 or 128.
    pub group: usize,
}

/// Columns handled at a time: the smallest group.
const SPAN: usize = 32;
/// Most rows of `x` handled together, so that a weight is unpacked once for all of them.
pub(super) const TILE: usize = 8;
/// Rows of `W` that meet a tile before the next tile: they stay in the nearest cache.
pub(super) const BLOCK: usize = 16;

impl QuantizedWeights<'_> {
    /// Whether these kernels know such weights.
    pub fn is_supported(bits: usize, group: usize) -> bool {
        matches!(bits, 4 | 8) && matches!(group, 32 | 64 | 128)
    }

    pub(super) fn check(&self) {
        assert!(Self::is_supported(self.bits, self.group));
        assert_eq!(self.columns % self.group, 0);
        assert_eq!(self.weight.len(), self.rows * self.columns * self.bits / 32);
        assert_eq!(self.scales.len(), self.rows * self.columns / self.group);
        assert_eq!(self.biases.len(), self.scales.len());
    }

    fn row_words(&self) -> usize {
        self.columns * self.bits / 32
    }
}

/// A span of `x`, where the processor's cache lines begin: a vector across two of them takes twice as long.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Span([f32; SPAN]);

/// `x` as the inner loop wants it, and its sums over each group.
///
/// In tiles of rows; in a tile, all rows' first spans come first, so that a tile is read from one end to the
/// other.
pub(super) struct Prepared {
    /// Each tile's first row, and its number of rows.
    tiles: Vec<(usize, usize)>,
    /// As `x`; for 4 bits each span holds its even columns, then its odd ones, as the nibbles come out.
    x: Vec<Span>,
    /// For each row of `x` a sum for each group, filled up with zeros to whole vectors.
    sums: Vec<[f32; LANES]>,
}

/// Lays out `x` for `w`. No tile reaches across two of `runs`, which follow each other and cover all rows.
pub(super) fn prepare(
    x: &[f32],
    w: &QuantizedWeights<'_>,
    runs: impl IntoIterator<Item = std::ops::Range<usize>>,
) -> Prepared {
    let vectors = (w.columns / w.group).div_ceil(LANES);
    let mut prepared = Prepared {
        tiles: Vec::new(),
        x: Vec::with_capacity(x.len() / SPAN),
        sums: Vec::with_capacity(x.len() / w.columns * vectors),
    };
    for run in runs {
        let mut first = run.start;
        while first < run.end {
            let count = tile_rows(run.end - first);
            prepared.push(&x[first * w.columns..][..count * w.columns], first, w);
            first += count;
        }
    }
    prepared
}

impl Prepared {
    /// The tiles of these rows, which begin where a tile does and end where one does.
    pub fn tiles(&self, rows: std::ops::Range<usize>) -> &[(usize, usize)] {
        let before = |row: usize| self.tiles.partition_point(|&(first, _)| first < row);
        &self.tiles[before(rows.start)..before(rows.end)]
    }

    /// One more tile: rows `x`, of which `first` is the first.
    fn push(&mut self, x: &[f32], first: usize, w: &QuantizedWeights<'_>) {
        let (count, a_row) = (x.len() / w.columns, w.columns / SPAN);
        let spans = x.as_chunks::<SPAN>().0;
        for s in 0..a_row {
            self.x.extend((0..count).map(|m| in_order(&spans[m * a_row + s], w.bits)));
        }
        let place = self.sums.len();
        self.sums.resize(place + (w.columns / w.group).div_ceil(LANES) * count, [0.0; LANES]);
        for (m, x) in x.chunks_exact(w.columns).enumerate() {
            for (g, group) in x.chunks_exact(w.group).enumerate() {
                self.sums[place + g / LANES * count + m][g % LANES] = group.iter().sum();
            }
        }
        self.tiles.push((first, count));
    }
}

/// A span's columns as weights of so many bits come out.
fn in_order(from: &[f32; SPAN], bits: usize) -> Span {
    match bits {
        4 => Span(std::array::from_fn(|i| from[if i < LANES { 2 * i } else { 2 * (i - LANES) + 1 }])),
        _ => Span(*from),
    }
}

/// How many of `left` rows of `x` the next tile takes: as many as there are registers for.
fn tile_rows(left: usize) -> usize {
    left.min(if best_is_roomy() { TILE } else { TILE / 2 })
}

/// `out[m][n] = sum over k of x[m][k] * W[n][k]`, plus `add[m][n]` if given.
///
/// `x` is `[m, columns]`, `out` and `add` are `[m, rows]`.
pub fn quantized_matmul(
    threads: &Threads,
    x: &[f32],
    w: &QuantizedWeights<'_>,
    add: Option<&[f32]>,
    out: &mut [f32],
) {
    w.check();
    assert_eq!(x.len() / w.columns, out.len() / w.rows);
    assert!(x.len().is_multiple_of(w.columns) && out.len().is_multiple_of(w.rows));
    assert!(add.is_none_or(|add| add.len() == out.len()));
    let prepared = prepare(x, w, std::iter::once(0..x.len() / w.columns));
    let out = Scattered::new(out);
    // Some 16 thousand weights are worth waking a thread for.
    threads.ranges(w.rows, (16 * 1024 / w.columns).max(1), |range| {
        // SAFETY: `ranges` hands out disjoint ranges, and a range of W's rows owns its columns of `out`.
        unsafe { columns(&prepared, w, add, &out, range) }
    });
}

/// Computes some columns of `out`.
///
/// # Safety
/// Nobody else writes these columns.
unsafe fn columns(
    prepared: &Prepared,
    w: &QuantizedWeights<'_>,
    add: Option<&[f32]>,
    out: &Scattered<'_, f32>,
    range: std::ops::Range<usize>,
) {
    let mut products = [0.0; TILE * BLOCK];
    for start in range.clone().step_by(BLOCK) {
        let rows = start..range.end.min(start + BLOCK);
        for &(first, count) in &prepared.tiles {
            let products = &mut products[..count * rows.len()];
            row_products(prepared, w, rows.start, first, count, products);
            for (r, products) in products.chunks_exact(count).enumerate() {
                for (i, product) in products.iter().enumerate() {
                    let at = (first + i) * w.rows + rows.start + r;
                    // SAFETY: the caller owns this column.
                    unsafe { out.set(at, product + add.map_or(0.0, |add| add[at])) };
                }
            }
        }
    }
}

/// `out[r][i] = x[first + i] . W[n + r]`, for `count` rows of `x` and as many of `W` as `out` has room for.
pub(super) fn row_products(
    prepared: &Prepared,
    w: &QuantizedWeights<'_>,
    n: usize,
    first: usize,
    count: usize,
    out: &mut [f32],
) {
    let tile = match (w.bits, count) {
        (4, 1) => tile_4_1,
        (4, 2) => tile_4_2,
        (4, 3) => tile_4_3,
        (4, 4) => tile_4_4,
        (4, 5) => tile_4_5,
        (4, 6) => tile_4_6,
        (4, 7) => tile_4_7,
        (4, _) => tile_4_8,
        (_, 1) => tile_8_1,
        (_, 2) => tile_8_2,
        (_, 3) => tile_8_3,
        (_, 4) => tile_8_4,
        (_, 5) => tile_8_5,
        (_, 6) => tile_8_6,
        (_, 7) => tile_8_7,
        (_, _) => tile_8_8,
    };
    tile(prepared, w, n, first, out);
}

/// Each tile is a function of its own: in one that holds them all, the compiler stops inlining.
macro_rules! tiles {
    ($($name:ident, $body:ident: $bits:literal, $rows:literal;)*) => {$(
        dispatch!(
            fn $name(prepared: &Prepared, w: &QuantizedWeights<'_>, n: usize, first: usize, out: &mut [f32]) = $body
        );

        #[inline(always)]
        fn $body<V: Vector>(
            prepared: &Prepared,
            w: &QuantizedWeights<'_>,
            n: usize,
            first: usize,
            out: &mut [f32],
        ) {
            tile::<V, $bits, $rows>(prepared, w, n, first, out)
        }
    )*};
}

tiles! {
    tile_4_1, tile_4_1_body: 4, 1;
    tile_4_2, tile_4_2_body: 4, 2;
    tile_4_3, tile_4_3_body: 4, 3;
    tile_4_4, tile_4_4_body: 4, 4;
    tile_4_5, tile_4_5_body: 4, 5;
    tile_4_6, tile_4_6_body: 4, 6;
    tile_4_7, tile_4_7_body: 4, 7;
    tile_4_8, tile_4_8_body: 4, 8;
    tile_8_1, tile_8_1_body: 8, 1;
    tile_8_2, tile_8_2_body: 8, 2;
    tile_8_3, tile_8_3_body: 8, 3;
    tile_8_4, tile_8_4_body: 8, 4;
    tile_8_5, tile_8_5_body: 8, 5;
    tile_8_6, tile_8_6_body: 8, 6;
    tile_8_7, tile_8_7_body: 8, 7;
    tile_8_8, tile_8_8_body: 8, 8;
}

/// `M` rows of `x` meet rows of `W` from the `n`th on; `out` is `[rows, M]`. A product's arithmetic is the same
/// whatever `M` is.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators are not inlined here")]
fn tile<V: Vector, const BITS: usize, const M: usize>(
    prepared: &Prepared,
    w: &QuantizedWeights<'_>,
    n: usize,
    first: usize,
    out: &mut [f32],
) {
    let groups = w.columns / w.group;
    let spans = w.group / SPAN;
    let (all, vectors) = (groups * spans, groups.div_ceil(LANES));
    let (x, _) = prepared.x[first * all..][..M * all].as_chunks::<M>();
    let (sums, _) = prepared.sums[first * vectors..][..M * vectors].as_chunks::<M>();
    assert!(x.len() == all && sums.len() == vectors);
    for (r, out) in out.as_chunks_mut::<M>().0.iter_mut().enumerate() {
        let n = n + r;
        let (words, _) = w.weight[n * w.row_words()..][..w.row_words()].as_chunks::<BITS>();
        assert!(words.len() == all);
        let scales = &w.scales[n * groups..][..groups];
        let biases = &w.biases[n * groups..][..groups];
        // Apart, so that one product does not wait for the other.
        let (mut lows, mut highs) = ([V::zero(); M], [V::zero(); M]);
        for g in 0..groups {
            let scale = V::splat(scales[g]);
            for s in g * spans..(g + 1) * spans {
                // SAFETY: `s` is below `columns / SPAN`, how many spans a row of `W` and of `x` has.
                let (words, x) = unsafe { (words.get_unchecked(s), x.get_unchecked(s)) };
                let (low, high) = unpack::<V, BITS>(words);
                let (low, high) = (low.mul(scale), high.mul(scale));
                for m in 0..M {
                    let (x_low, x_high) = halves(&x[m].0);
                    lows[m] = low.mul_add(V::load(x_low), lows[m]);
                    highs[m] = high.mul_add(V::load(x_high), highs[m]);
                }
            }
        }
        // The biases' part joins before the one sum across: rows are short, and such sums are what is slow.
        for c in 0..vectors {
            let bias = padded::<V>(&biases[c * LANES..groups.min((c + 1) * LANES)]);
            for m in 0..M {
                highs[m] = bias.mul_add(V::load(&sums[c][m]), highs[m]);
            }
        }
        for m in 0..M {
            out[m] = lows[m].add(highs[m]).sum();
        }
    }
}

/// Up to a vector of numbers, zeros after them.
#[inline(always)]
fn padded<V: Vector>(numbers: &[f32]) -> V {
    if let Some(full) = numbers.first_chunk() {
        return V::load(full);
    }
    let mut vector = [0.0; LANES];
    vector[..numbers.len()].copy_from_slice(numbers);
    V::load(&vector)
}

/// A span's integers as numbers: of 4 bits the even and the odd columns, of 8 the first and the second half.
#[inline(always)]
fn unpack<V: Vector, const BITS: usize>(words: &[u32; BITS]) -> (V, V) {
    // Read where they lie: a copy by words, loaded as a vector, stalls the processor.
    #[cfg(target_endian = "little")]
    // SAFETY: the words are as many bytes, lowest first, and bytes need no alignment.
    let bytes: &[u8] = unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 4 * BITS) };
    #[cfg(target_endian = "big")]
    let bytes = words.map(u32::to_le_bytes).concat();
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(_)) if BITS == 4 => V::from_nibbles(first),
        (Some(first), Some(last)) => (V::from_bytes(first), V::from_bytes(last)),
        _ => unreachable!("4 or 8 words"),
    }
}

/// The two halves of a span.
#[inline(always)]
fn halves<T>(span: &[T; SPAN]) -> (&[T; LANES], &[T; LANES]) {
    let (first, second) = span.split_at(LANES);
    match (first.try_into(), second.try_into()) {
        (Ok(first), Ok(second)) => (first, second),
        _ => unreachable!("a span is two vectors long"),
    }
}

/// Writes `W` out in full, `[rows, columns]`: for long prompts a dense product pays for that.
pub fn dequantize(threads: &Threads, w: &QuantizedWeights<'_>, out: &mut [f32]) {
    w.check();
    assert_eq!(out.len(), w.rows * w.columns);
    let out = Scattered::new(out);
    threads.ranges(w.rows, (32 * 1024 / w.columns).max(1), |range| {
        for n in range {
            // SAFETY: `ranges` hands out disjoint ranges.
            dequantize_row(w, n, unsafe { out.range(n * w.columns..(n + 1) * w.columns) });
        }
    });
}

dispatch!(fn dequantize_row(w: &QuantizedWeights<'_>, n: usize, out: &mut [f32]) = dequantize_row_body);

#[inline(always)]
fn dequantize_row_body<V: Vector>(w: &QuantizedWeights<'_>, n: usize, out: &mut [f32]) {
    match w.bits {
        4 => dequantize_spans::<V, 4>(w, n, out),
        _ => dequantize_spans::<V, 8>(w, n, out),
    }
}

#[inline(always)]
fn dequantize_spans<V: Vector, const BITS: usize>(w: &QuantizedWeights<'_>, n: usize, out: &mut [f32]) {
    let groups = w.columns / w.group;
    let (words, _) = w.weight[n * w.row_words()..][..w.row_words()].as_chunks::<BITS>();
    for (s, (words, out)) in words.iter().zip(out.as_chunks_mut::<SPAN>().0).enumerate() {
        let g = n * groups + s * SPAN / w.group;
        let (scale, bias) = (w.scales[g], w.biases[g]);
        let (low, high) = unpack::<V, BITS>(words);
        let (scale, bias) = (V::splat(scale), V::splat(bias));
        let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
        low.mul_add(scale, bias).store(&mut first);
        high.mul_add(scale, bias).store(&mut second);
        for i in 0..LANES {
            let (at_low, at_high) = if BITS == 4 { (2 * i, 2 * i + 1) } else { (i, LANES + i) };
            (out[at_low], out[at_high]) = (first[i], second[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Owned {
        weight: Vec<u32>,
        scales: Vec<f32>,
        biases: Vec<f32>,
    }

    /// Numbers without a pattern: a multiplicative hash.
    fn noise(i: usize) -> u32 {
        (i as u32).wrapping_mul(2_654_435_761).rotate_left(15).wrapping_mul(2_246_822_519)
    }

    fn float(i: usize) -> f32 {
        noise(i) as f32 / u32::MAX as f32 - 0.5
    }

    fn weights(rows: usize, columns: usize, bits: usize, group: usize) -> Owned {
        let groups = rows * columns / group;
        Owned {
            weight: (0..rows * columns * bits / 32).map(noise).collect(),
            scales: (0..groups).map(|i| float(i + 1000) * 0.1).collect(),
            biases: (0..groups).map(|i| float(i + 5000)).collect(),
        }
    }

    /// Weight `[n][k]` by the definition of the format, in double precision.
    fn value(w: &QuantizedWeights<'_>, n: usize, k: usize) -> f64 {
        let bit = (n * w.columns + k) * w.bits;
        let q = (w.weight[bit / 32] >> (bit % 32)) & ((1 << w.bits) - 1);
        let g = (n * w.columns + k) / w.group;
        f64::from(w.scales[g]) * f64::from(q) + f64::from(w.biases[g])
    }

    #[test]
    fn the_product_is_the_definition() {
        let threads = Threads::new(2);
        for (bits, group) in [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)] {
            let (rows, columns) = (37, 256);
            let owned = weights(rows, columns, bits, group);
            let w = QuantizedWeights {
                weight: &owned.weight,
                scales: &owned.scales,
                biases: &owned.biases,
                rows,
                columns,
                bits,
                group,
            };
            let mut dense = vec![f32::NAN; rows * columns];
            dequantize(&threads, &w, &mut dense);
            for m in [1, 2, 3, 4, 5, 9] {
                let x: Vec<f32> = (0..m * columns).map(|i| float(i + 77)).collect();
                let add: Vec<f32> = (0..m * rows).map(float).collect();
                let mut out = vec![f32::NAN; m * rows];
                quantized_matmul(&threads, &x, &w, Some(&add), &mut out);
                for i in 0..m {
                    for n in 0..rows {
                        let product: f64 =
                            (0..columns).map(|k| f64::from(x[i * columns + k]) * value(&w, n, k)).sum();
                        let want = product + f64::from(add[i * rows + n]);
                        assert!((f64::from(out[i * rows + n]) - want).abs() < 2e-4, "{bits} {group} {m}");
                    }
                }
            }
            for n in 0..rows {
                for k in 0..columns {
                    assert!((f64::from(dense[n * columns + k]) - value(&w, n, k)).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let threads = Threads::new(2);
        let owned = weights(64, 128, 4, 32);
        let w = QuantizedWeights {
            weight: &owned.weight,
            scales: &owned.scales,
            biases: &owned.biases,
            rows: 64,
            columns: 128,
            bits: 4,
            group: 32,
        };
        let x: Vec<f32> = (0..7 * 128).map(float).collect();
        let mut together = vec![0.0; 7 * 64];
        quantized_matmul(&threads, &x, &w, None, &mut together);
        for m in 0..7 {
            let mut alone = vec![0.0; 64];
            quantized_matmul(&threads, &x[m * 128..][..128], &w, None, &mut alone);
            assert_eq!(alone, together[m * 64..][..64], "bit for bit");
        }
    }
}
