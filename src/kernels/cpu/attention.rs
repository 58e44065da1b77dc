//! Attention over pages: rotates queries and keys, writes keys and values into their pages, and attends,
//! reading pages where they lie.
//!
//! Layout of a block, chosen so that 16 keys fill a vector: keys `[kv_heads, head_dim, block_size]`, values
//! `[kv_heads, block_size, head_dim]`; blocks follow each other, so copying one is copying one piece.
//!
//! Per query it is one pass with a running maximum (Milakov and Gimelshein 2018, arXiv:1805.02867; as in
//! FlashAttention, arXiv:2205.14135). A query's arithmetic depends on its own row alone: neighbours and the
//! cut into chunks do not change a bit of it.

use std::ops::Range;

use super::norm::rms_norm;
use super::simd::{LANES, Vector, dispatch};
use super::threads::{Scattered, Threads};

/// The shape of one layer's attention.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// How many of these are rotated, from the first on; even.
    pub rope_dims: usize,
    /// Tokens in a block.
    pub block_size: usize,
    /// Multiplies the scores: usually `head_dim^-0.5`.
    pub scale: f32,
}

/// One sequence's tokens in this step.
#[derive(Debug, Clone)]
pub struct PagedRow<'a> {
    /// Which of the step's tokens.
    pub tokens: Range<usize>,
    /// Position of the first of them.
    pub start: usize,
    /// The sequence's block table; covers every position up to the last token's.
    pub table: &'a [u32],
}

/// One layer's page pool.
#[derive(Debug)]
pub struct Pages<'a> {
    /// `[blocks, kv_heads, head_dim, block_size]`.
    pub keys: &'a mut [f32],
    /// `[blocks, kv_heads, block_size, head_dim]`.
    pub values: &'a mut [f32],
}

/// The step's tokens in one layer, `t` of them.
#[derive(Debug, Clone, Copy)]
pub struct Projected<'a> {
    /// `[t, heads * head_dim]`.
    pub queries: &'a [f32],
    /// `[t, kv_heads * head_dim]`.
    pub keys: &'a [f32],
    /// `[t, kv_heads * head_dim]`.
    pub values: &'a [f32],
    /// Cosines of the rotation at each token's position, `[t, rope_dims / 2]`.
    pub cos: &'a [f32],
    /// Sines, likewise.
    pub sin: &'a [f32],
    /// Weights of the normalization of each query and key head, and its epsilon, for models that have it.
    pub head_norms: Option<(&'a [f32], &'a [f32], f32)>,
}

/// Queries of one row handled together, so that a key is read once for all of them.
const TILE: usize = 4;
/// Vectors of a query's output that are summed at a time.
const SIDE_BY_SIDE: usize = 4;
/// Tokens of one row that one thread takes at a time.
const TOKENS_A_PART: usize = 4;

/// Writes the step's keys and values into their pages, then `out[t, heads * head_dim]`: each token attends to
/// every position of its row up to its own.
///
/// No block written here may be read by another row of the step.
pub fn paged_attention(
    threads: &Threads,
    shape: &AttentionShape,
    step: &Projected<'_>,
    rows: &[PagedRow<'_>],
    pages: Pages<'_>,
    out: &mut [f32],
) {
    let mut pages = pages;
    let queries = write_pages(threads, shape, step, rows, &mut pages);
    let parts: Vec<(usize, usize, Range<usize>)> = rows
        .iter()
        .enumerate()
        .flat_map(|(r, row)| {
            row.tokens.clone().step_by(TOKENS_A_PART).flat_map(move |first| {
                let tokens = first..row.tokens.end.min(first + TOKENS_A_PART);
                (0..shape.kv_heads).map(move |head| (r, head, tokens.clone()))
            })
        })
        .collect();
    let out = Scattered::new(out);
    let Pages { keys, values } = pages;
    let (keys, values) = (&*keys, &*values);
    threads.run(parts.len(), &|part| {
        let (r, kv_head, tokens) = &parts[part];
        let job =
            Job { shape, row: &rows[*r], kv_head: *kv_head, keys, values, queries: &queries, out: &out };
        attend(&job, tokens.clone());
    });
}

/// Rotates the step's keys into their pages, copies its values there, and returns its rotated queries.
fn write_pages(
    threads: &Threads,
    shape: &AttentionShape,
    step: &Projected<'_>,
    rows: &[PagedRow<'_>],
    pages: &mut Pages<'_>,
) -> Vec<f32> {
    let (dim, size) = (shape.head_dim, shape.block_size);
    let mut queries = step.queries.to_vec();
    let head_span = dim * size;
    let block_span = shape.kv_heads * head_span;
    let positions: Vec<(usize, usize)> = rows
        .iter()
        .flat_map(|row| {
            (0..row.tokens.len()).map(|i| row.start + i).map(|p| (row.table[p / size] as usize, p % size))
        })
        .collect();
    assert_eq!(positions.len() * shape.heads * dim, queries.len(), "rows cover the step's tokens in order");
    let scattered = Scattered::new(&mut queries);
    let page_keys = Scattered::new(&mut *pages.keys);
    let page_values = Scattered::new(&mut *pages.values);
    threads.ranges(positions.len(), 8, |range| {
        let mut key = vec![0.0; dim];
        for t in range {
            let half = shape.rope_dims / 2;
            let (cos, sin) = (&step.cos[t * half..][..half], &step.sin[t * half..][..half]);
            // SAFETY: every token is in one range only, and owns its queries and its slot of its pages.
            let query = unsafe { scattered.range(t * shape.heads * dim..(t + 1) * shape.heads * dim) };
            for head in query.chunks_exact_mut(dim) {
                prepare_head(head, step.head_norms.map(|(q, _, eps)| (q, eps)), cos, sin);
            }
            let (block, slot) = positions[t];
            for h in 0..shape.kv_heads {
                let from = (t * shape.kv_heads + h) * dim;
                key.copy_from_slice(&step.keys[from..][..dim]);
                prepare_head(&mut key, step.head_norms.map(|(_, k, eps)| (k, eps)), cos, sin);
                let base = block * block_span + h * head_span;
                for (d, number) in key.iter().enumerate() {
                    // SAFETY: as above.
                    unsafe { page_keys.set(base + d * size + slot, *number) };
                }
                let at = base + slot * dim;
                // SAFETY: as above.
                unsafe { page_values.range(at..at + dim) }.copy_from_slice(&step.values[from..][..dim]);
            }
        }
    });
    queries
}

/// Normalizes a head if the model does, then rotates it: pairs are `(i, i + rope_dims / 2)`
/// (Su et al. 2021, arXiv:2104.09864, in the order of Hugging Face's checkpoints).
fn prepare_head(head: &mut [f32], norm: Option<(&[f32], f32)>, cos: &[f32], sin: &[f32]) {
    if let Some((weight, eps)) = norm {
        let before = head.to_vec();
        rms_norm(&before, weight, eps, head);
    }
    let half = cos.len();
    let (first, second) = head[..2 * half].split_at_mut(half);
    for i in 0..half {
        let (a, b) = (first[i], second[i]);
        first[i] = a * cos[i] - b * sin[i];
        second[i] = b * cos[i] + a * sin[i];
    }
}

/// What one thread needs to attend with one key-value head of one row.
struct Job<'a> {
    shape: &'a AttentionShape,
    row: &'a PagedRow<'a>,
    kv_head: usize,
    keys: &'a [f32],
    values: &'a [f32],
    /// `[t, heads * head_dim]`, rotated.
    queries: &'a [f32],
    out: &'a Scattered<'a, f32>,
}

/// Attends with some tokens' query heads of this key-value head, a few at a time.
fn attend(job: &Job<'_>, tokens: Range<usize>) {
    let group = job.shape.heads / job.shape.kv_heads;
    let queries: Vec<(usize, usize)> = tokens
        .flat_map(|t| {
            let position = job.row.start + t - job.row.tokens.start;
            (0..group).map(move |g| {
                ((t * job.shape.heads + job.kv_head * group + g) * job.shape.head_dim, position)
            })
        })
        .collect();
    queries.chunks(TILE).for_each(|tile| attend_tile(job, tile));
}

fn attend_tile(job: &Job<'_>, tile: &[(usize, usize)]) {
    match tile.len() {
        1 => one(job, tile),
        2 => two(job, tile),
        3 => three(job, tile),
        _ => four(job, tile),
    }
}

/// Each number of queries is a function of its own: in one that holds them all, the compiler stops inlining.
macro_rules! tiles {
    ($($name:ident, $body:ident: $queries:literal;)*) => {$(
        dispatch!(fn $name(job: &Job<'_>, tile: &[(usize, usize)]) = $body);

        #[inline(always)]
        fn $body<V: Vector>(job: &Job<'_>, tile: &[(usize, usize)]) {
            queries::<V, $queries>(job, tile)
        }
    )*};
}

tiles! {
    one, one_body: 1;
    two, two_body: 2;
    three, three_body: 3;
    four, four_body: 4;
}

/// `tile` holds, for each query, where it lies in `queries` and `out`, and its position.
#[inline(always)]
fn queries<V: Vector, const Q: usize>(job: &Job<'_>, tile: &[(usize, usize)]) {
    let AttentionShape { kv_heads, head_dim: dim, block_size: size, scale, .. } = *job.shape;
    let query: [&[f32]; Q] = std::array::from_fn(|i| &job.queries[tile[i].0..][..dim]);
    let last = tile.iter().map(|(_, position)| *position).max().unwrap_or(0);
    let mut maximum = [f32::NEG_INFINITY; Q];
    let mut total = [0.0f32; Q];
    let mut sums = vec![0.0f32; Q * dim];
    let width = size.min(LANES);
    for first in (0..=last).step_by(width) {
        let base = (job.row.table[first / size] as usize * kv_heads + job.kv_head) * dim * size;
        let slot = first % size;
        let keys = &job.keys[base + slot..base + dim * size];
        let mut scores = [V::zero(); Q];
        for d in 0..dim {
            let key = match keys[d * size..].first_chunk::<LANES>() {
                Some(key) if width == LANES => V::load(key),
                _ => {
                    let mut key = [0.0; LANES];
                    key[..width].copy_from_slice(&keys[d * size..][..width]);
                    V::load(&key)
                }
            };
            for q in 0..Q {
                scores[q] = key.mul_add(V::splat(query[q][d]), scores[q]);
            }
        }
        let values = &job.values[base + slot * dim..][..width * dim];
        for q in 0..Q {
            // A query sees positions up to its own; what lies behind has weight 0, whatever it holds.
            let seen = (tile[q].1 + 1).saturating_sub(first).min(width);
            if seen == 0 {
                continue;
            }
            let sums = &mut sums[q * dim..][..dim];
            let weights = softmax_step(scores[q], seen, scale, &mut maximum[q], &mut total[q], sums);
            add_values::<V>(&weights[..seen], values, sums);
        }
    }
    for q in 0..Q {
        // SAFETY: a query's output is its own.
        let out = unsafe { job.out.range(tile[q].0..tile[q].0 + dim) };
        for (out, sum) in out.iter_mut().zip(&sums[q * dim..][..dim]) {
            *out = sum / total[q];
        }
    }
}

/// Turns the first `seen` scores into weights under the running maximum, and rescales what came before.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators are not inlined here")]
fn softmax_step<V: Vector>(
    scores: V,
    seen: usize,
    scale: f32,
    maximum: &mut f32,
    total: &mut f32,
    sums: &mut [f32],
) -> [f32; LANES] {
    let mut weights = [0.0; LANES];
    scores.mul(V::splat(scale)).store(&mut weights);
    weights[seen..].fill(f32::NEG_INFINITY);
    let mut highest = *maximum;
    for i in 0..LANES {
        highest = highest.max(weights[i]);
    }
    if highest > *maximum {
        let shrink = (*maximum - highest).exp();
        *total *= shrink;
        for i in 0..sums.len() {
            sums[i] *= shrink;
        }
        *maximum = highest;
    }
    let exps = V::load(&weights).add(V::splat(-highest)).exp();
    exps.store(&mut weights);
    weights[seen..].fill(0.0);
    *total += V::load(&weights).sum();
    weights
}

/// `sums += weights . values`.
#[inline(always)]
fn add_values<V: Vector>(weights: &[f32], values: &[f32], sums: &mut [f32]) {
    // Plain loops: chains of iterators are not inlined here.
    let dim = sums.len();
    let (chunks, rest) = sums.as_chunks_mut::<LANES>();
    let mut first = 0;
    while first < chunks.len() {
        // A few sums side by side: one alone would wait for itself.
        if let Some(four) = chunks[first..].first_chunk_mut::<SIDE_BY_SIDE>() {
            add_chunks::<V, SIDE_BY_SIDE>(weights, values, dim, first, four);
            first += SIDE_BY_SIDE;
        } else if let Some(one) = chunks[first..].first_chunk_mut::<1>() {
            add_chunks::<V, 1>(weights, values, dim, first, one);
            first += 1;
        }
    }
    let done = dim - rest.len();
    for i in 0..weights.len() {
        for d in 0..rest.len() {
            rest[d] += weights[i] * values[i * dim + done + d];
        }
    }
}

/// `N` vectors of the sums, from the `first` on.
#[inline(always)]
fn add_chunks<V: Vector, const N: usize>(
    weights: &[f32],
    values: &[f32],
    dim: usize,
    first: usize,
    sums: &mut [[f32; LANES]; N],
) {
    let mut registers = [V::zero(); N];
    for c in 0..N {
        registers[c] = V::load(&sums[c]);
    }
    for i in 0..weights.len() {
        let weight = V::splat(weights[i]);
        let value = &values[i * dim + first * LANES..][..N * LANES];
        for c in 0..N {
            if let Some(value) = value[c * LANES..].first_chunk() {
                registers[c] = V::load(value).mul_add(weight, registers[c]);
            }
        }
    }
    for c in 0..N {
        registers[c].store(&mut sums[c]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| {
                let n = ((i + seed * 7919) as u32).wrapping_mul(2_654_435_761).rotate_left(13);
                n.wrapping_mul(2_246_822_519) as f32 / u32::MAX as f32 - 0.5
            })
            .collect()
    }

    /// Attention by the definition, in double precision, for one row that starts at position 0. `rotated`
    /// are its queries and keys after rotation.
    fn reference(shape: &AttentionShape, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
        let dim = shape.head_dim;
        let tokens = q.len() / (shape.heads * dim);
        let mut out = Vec::new();
        for t in 0..tokens {
            for h in 0..shape.heads {
                let kv = h / (shape.heads / shape.kv_heads);
                let query = &q[(t * shape.heads + h) * dim..][..dim];
                let at = |s: usize| (s * shape.kv_heads + kv) * dim;
                let scores: Vec<f64> = (0..=t)
                    .map(|s| {
                        let dot: f64 = query
                            .iter()
                            .zip(&k[at(s)..][..dim])
                            .map(|(a, b)| f64::from(*a) * f64::from(*b))
                            .sum();
                        (dot * f64::from(shape.scale)).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                for d in 0..dim {
                    out.push((0..=t).map(|s| scores[s] / total * f64::from(v[at(s) + d])).sum());
                }
            }
        }
        out
    }

    struct Case {
        shape: AttentionShape,
        q: Vec<f32>,
        k: Vec<f32>,
        v: Vec<f32>,
        cos: Vec<f32>,
        sin: Vec<f32>,
    }

    impl Case {
        fn new(shape: AttentionShape, tokens: usize) -> Self {
            let angles: Vec<f32> = (0..tokens)
                .flat_map(|t| (0..shape.rope_dims / 2).map(move |i| t as f32 / 10f32.powi(i as i32)))
                .collect();
            let scaled = |v: Vec<f32>| v.into_iter().map(|x| x * 6.0).collect();
            Case {
                q: scaled(noise(tokens * shape.heads * shape.head_dim, 1)),
                k: scaled(noise(tokens * shape.kv_heads * shape.head_dim, 2)),
                v: noise(tokens * shape.kv_heads * shape.head_dim, 3),
                cos: angles.iter().map(|a| a.cos()).collect(),
                sin: angles.iter().map(|a| a.sin()).collect(),
                shape,
            }
        }

        /// Runs the tokens in chunks of these lengths, one call a chunk, and returns all outputs.
        fn run(&self, chunks: &[usize], table: &[u32], blocks: usize) -> Vec<f32> {
            let s = &self.shape;
            let span = s.kv_heads * s.head_dim * s.block_size;
            // What no token wrote must not matter.
            let (mut keys, mut values) = (vec![f32::NAN; blocks * span], vec![f32::NAN; blocks * span]);
            let threads = Threads::new(2);
            let (mut start, mut all) = (0, Vec::new());
            for &tokens in chunks {
                let (q, kv, half) = (s.heads * s.head_dim, s.kv_heads * s.head_dim, s.rope_dims / 2);
                let step = Projected {
                    queries: &self.q[start * q..][..tokens * q],
                    keys: &self.k[start * kv..][..tokens * kv],
                    values: &self.v[start * kv..][..tokens * kv],
                    cos: &self.cos[start * half..][..tokens * half],
                    sin: &self.sin[start * half..][..tokens * half],
                    head_norms: None,
                };
                let mut out = vec![f32::NAN; tokens * q];
                let rows = [PagedRow { tokens: 0..tokens, start, table }];
                let pages = Pages { keys: &mut keys, values: &mut values };
                paged_attention(&threads, s, &step, &rows, pages, &mut out);
                all.extend(out);
                start += tokens;
            }
            all
        }

        fn rotated(&self, x: &[f32], heads: usize) -> Vec<f32> {
            let (dim, half) = (self.shape.head_dim, self.shape.rope_dims / 2);
            let mut x = x.to_vec();
            for (t, token) in x.chunks_exact_mut(heads * dim).enumerate() {
                for head in token.chunks_exact_mut(dim) {
                    for i in 0..half {
                        let (a, b) = (head[i], head[i + half]);
                        let (c, s) = (self.cos[t * half + i], self.sin[t * half + i]);
                        (head[i], head[i + half]) = (a * c - b * s, b * c + a * s);
                    }
                }
            }
            x
        }
    }

    fn shape(heads: usize, kv_heads: usize, head_dim: usize, block_size: usize) -> AttentionShape {
        let scale = (head_dim as f32).powf(-0.5);
        AttentionShape { heads, kv_heads, head_dim, rope_dims: head_dim, block_size, scale }
    }

    #[test]
    fn it_is_the_definition_however_the_pages_lie() {
        for (heads, kv_heads, dim, size) in [(9, 3, 64, 16), (4, 4, 32, 32), (8, 2, 16, 4), (4, 1, 32, 1)] {
            let case = Case::new(shape(heads, kv_heads, dim, size), 50);
            let table: Vec<u32> = (0..50u32.div_ceil(size as u32)).map(|i| (i * 7 + 3) % 53).collect();
            let got = case.run(&[50], &table, 53);
            let want = reference(
                &case.shape,
                &case.rotated(&case.q, heads),
                &case.rotated(&case.k, kv_heads),
                &case.v,
            );
            for (got, want) in got.iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
            }
        }
    }

    #[test]
    fn chunks_change_nothing() {
        let case = Case::new(shape(6, 2, 32, 16), 45);
        let whole = case.run(&[45], &[2, 0, 1], 3);
        for chunks in [&[1; 45][..], &[7, 7, 7, 7, 7, 7, 3], &[16, 16, 13], &[44, 1]] {
            assert_eq!(case.run(chunks, &[1, 2, 0], 3), whole, "bit for bit");
        }
    }

    #[test]
    fn rows_of_one_step_do_not_see_each_other() {
        let case = Case::new(shape(6, 2, 32, 16), 20);
        let alone = case.run(&[20], &[0, 1], 2);
        let s = &case.shape;
        let twice = |x: &[f32]| [x, x].concat();
        let (q, k, v) = (twice(&case.q), twice(&case.k), twice(&case.v));
        let (cos, sin) = (twice(&case.cos), twice(&case.sin));
        let step = Projected { queries: &q, keys: &k, values: &v, cos: &cos, sin: &sin, head_norms: None };
        let span = s.kv_heads * s.head_dim * s.block_size;
        let (mut keys, mut values) = (vec![f32::NAN; 4 * span], vec![f32::NAN; 4 * span]);
        let rows = [
            PagedRow { tokens: 0..20, start: 0, table: &[3, 0] },
            PagedRow { tokens: 20..40, start: 0, table: &[1, 2] },
        ];
        let mut out = vec![f32::NAN; q.len()];
        let pages = Pages { keys: &mut keys, values: &mut values };
        paged_attention(&Threads::new(2), s, &step, &rows, pages, &mut out);
        assert_eq!(out, twice(&alone));
    }
}
