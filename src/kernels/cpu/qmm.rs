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
pub(super) const TILE: usize = 6;
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

    /// Vectors that a row's scales fill.
    fn vectors(&self) -> usize {
        (self.columns / self.group).div_ceil(LANES)
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
    threads: &Threads,
    x: &[f32],
    w: &QuantizedWeights<'_>,
    runs: impl IntoIterator<Item = std::ops::Range<usize>>,
) -> Prepared {
    let (rows, spans, vectors) = (x.len() / w.columns, w.columns / SPAN, w.vectors());
    let mut tiles = Vec::with_capacity(rows.div_ceil(TILE));
    for run in runs {
        let mut first = run.start;
        while first < run.end {
            let count = tile_rows(run.end - first);
            tiles.push((first, count));
            first += count;
        }
    }
    let mut ordered = vec![Span([0.0; SPAN]); rows * spans];
    let mut sums = vec![[0.0; LANES]; rows * vectors];
    let (to, to_sums) = (Scattered::new(&mut ordered), Scattered::new(&mut sums));
    // A few tiles are laid out sooner than another thread would have begun.
    threads.ranges(tiles.len(), 4, |range| {
        for &(first, count) in &tiles[range] {
            let rows = first..first + count;
            // SAFETY: `ranges` hands out disjoint ranges, and tiles are disjoint.
            let (to, sums) = unsafe {
                (
                    to.range(rows.start * spans..rows.end * spans),
                    to_sums.range(rows.start * vectors..rows.end * vectors),
                )
            };
            lay_out(&x[rows.start * w.columns..rows.end * w.columns], w, to, sums);
        }
    });
    Prepared { tiles, x: ordered, sums }
}

dispatch!(fn lay_out(x: &[f32], w: &QuantizedWeights<'_>, to: &mut [Span], sums: &mut [[f32; LANES]]) = lay_out_body);

/// Rows of a tile, in the order of [`Prepared`].
#[inline(always)]
fn lay_out_body<V: Vector>(x: &[f32], w: &QuantizedWeights<'_>, to: &mut [Span], sums: &mut [[f32; LANES]]) {
    let (count, spans, a_group) = (x.len() / w.columns, w.columns / SPAN, w.group / SPAN);
    let (x, _) = x.as_chunks::<SPAN>();
    for m in 0..count {
        let mut group = V::zero();
        for s in 0..spans {
            let span = &x[m * spans + s];
            to[s * count + m] = in_order(span, w.bits);
            let (first, second) = halves(span);
            group = group.add(V::load(first)).add(V::load(second));
            if (s + 1).is_multiple_of(a_group) {
                let g = s / a_group;
                sums[g / LANES * count + m][g % LANES] = group.sum();
                group = V::zero();
            }
        }
    }
}

impl Prepared {
    /// The tiles of these rows, which begin where a tile does and end where one does.
    pub fn tiles(&self, rows: std::ops::Range<usize>) -> &[(usize, usize)] {
        let before = |row: usize| self.tiles.partition_point(|&(first, _)| first < row);
        &self.tiles[before(rows.start)..before(rows.end)]
    }
}

/// A span's columns as weights of so many bits come out.
#[inline(always)]
fn in_order(from: &[f32; SPAN], bits: usize) -> Span {
    if bits != 4 {
        return Span(*from);
    }
    let mut to = [0.0; SPAN];
    for i in 0..LANES {
        (to[i], to[LANES + i]) = (from[2 * i], from[2 * i + 1]);
    }
    Span(to)
}

/// How many of `left` rows of `x` the next tile takes: no more than there are registers for, and as many as those
/// that follow.
fn tile_rows(left: usize) -> usize {
    let most = if best_is_roomy() { TILE } else { 4 };
    left.div_ceil(left.div_ceil(most))
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
    let prepared = prepare(threads, x, w, std::iter::once(0..x.len() / w.columns));
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
            // By rows of `out`: rows may be whole pages apart, which is as bad for a cache as can be.
            for i in 0..count {
                let at = (first + i) * w.rows + rows.start;
                // SAFETY: the caller owns these columns.
                let out = unsafe { out.range(at..at + rows.len()) };
                out.iter_mut().zip(products[i..].iter().step_by(count)).for_each(|(out, x)| *out = *x);
                if let Some(add) = add {
                    out.iter_mut().zip(&add[at..]).for_each(|(out, add)| *out += add);
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
        (4, _) => tile_4_6,
        (_, 1) => tile_8_1,
        (_, 2) => tile_8_2,
        (_, 3) => tile_8_3,
        (_, 4) => tile_8_4,
        (_, 5) => tile_8_5,
        (_, _) => tile_8_6,
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
    tile_8_1, tile_8_1_body: 8, 1;
    tile_8_2, tile_8_2_body: 8, 2;
    tile_8_3, tile_8_3_body: 8, 3;
    tile_8_4, tile_8_4_body: 8, 4;
    tile_8_5, tile_8_5_body: 8, 5;
    tile_8_6, tile_8_6_body: 8, 6;
}

/// `M` rows of `x` meet rows of `W` from the `n`th on; `out` is `[rows, M]`. A product's arithmetic is the same
/// whatever `M` is, and whatever rows are beside it.
#[inline(always)]
fn tile<V: Vector, const BITS: usize, const M: usize>(
    prepared: &Prepared,
    w: &QuantizedWeights<'_>,
    n: usize,
    first: usize,
    out: &mut [f32],
) {
    let (spans, vectors) = (w.columns / SPAN, w.vectors());
    let (x, _) = prepared.x[first * spans..][..M * spans].as_chunks::<M>();
    let (sums, _) = prepared.sums[first * vectors..][..M * vectors].as_chunks::<M>();
    let (out, _) = out.as_chunks_mut::<M>();
    let mut n = n;
    let mut left = out;
    // Two rows of `W` at a time where there are registers for it: then `x` is read half as often.
    if V::ROOMY {
        let (pairs, single) = left.as_chunks_mut::<2>();
        for pair in pairs {
            meet::<V, BITS, M, 2>(x, sums, w, n, pair);
            n += 2;
        }
        left = single;
    }
    let (singles, _) = left.as_chunks_mut::<1>();
    for single in singles {
        meet::<V, BITS, M, 1>(x, sums, w, n, single);
        n += 1;
    }
}

/// `M` rows of `x` and their sums meet `R` rows of `W`, from the `n`th on.
#[inline(always)]
fn meet<V: Vector, const BITS: usize, const M: usize, const R: usize>(
    x: &[[Span; M]],
    sums: &[[[f32; LANES]; M]],
    w: &QuantizedWeights<'_>,
    n: usize,
    out: &mut [[f32; M]; R],
) {
    let groups = w.columns / w.group;
    let spans = w.group / SPAN;
    let all = groups * spans;
    let mut words: [&[[u32; BITS]]; R] = [&[]; R];
    let (mut scales, mut biases): ([&[f32]; R], [&[f32]; R]) = ([&[]; R], [&[]; R]);
    for r in 0..R {
        let n = n + r;
        words[r] = w.weight[n * w.row_words()..][..w.row_words()].as_chunks::<BITS>().0;
        scales[r] = &w.scales[n * groups..][..groups];
        biases[r] = &w.biases[n * groups..][..groups];
        assert!(words[r].len() == all);
    }
    assert!(x.len() == all && sums.len() == groups.div_ceil(LANES));
    // Apart, so that one product does not wait for the other.
    let (mut lows, mut highs) = ([[V::zero(); M]; R], [[V::zero(); M]; R]);
    for g in 0..groups {
        for s in g * spans..(g + 1) * spans {
            let (mut low, mut high) = ([V::zero(); R], [V::zero(); R]);
            for r in 0..R {
                // SAFETY: `g` is below `groups`, `s` below `all`: how many there are, as asserted.
                let (words, scale) = unsafe { (words[r].get_unchecked(s), *scales[r].get_unchecked(g)) };
                let (l, h) = unpack::<V, BITS>(words);
                (low[r], high[r]) = (l.mul(V::splat(scale)), h.mul(V::splat(scale)));
            }
            // SAFETY: as above.
            let x = unsafe { x.get_unchecked(s) };
            for m in 0..M {
                let (x_low, x_high) = halves(&x[m].0);
                let (x_low, x_high) = (V::load(x_low), V::load(x_high));
                for r in 0..R {
                    lows[r][m] = low[r].mul_add(x_low, lows[r][m]);
                    highs[r][m] = high[r].mul_add(x_high, highs[r][m]);
                }
            }
        }
    }
    // The biases' part joins before the one sum across: rows are short, and such sums are what is slow.
    for r in 0..R {
        for c in 0..sums.len() {
            let bias = V::load_some(&biases[r][c * LANES..groups.min((c + 1) * LANES)]);
            for m in 0..M {
                highs[r][m] = bias.mul_add(V::load(&sums[c][m]), highs[r][m]);
            }
        }
        for m in 0..M {
            lows[r][m] = lows[r][m].add(highs[r][m]);
        }
        out[r] = V::sums(&lows[r]);
    }
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

/// Writes `W` out in full, `[rows, columns]`.
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
mod tests;
