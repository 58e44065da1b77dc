//! The inner loops: a few queries of one key-value head meet a few pages.

use std::ops::Range;

use super::AttentionShape;
use crate::kernels::cpu::simd::{LANES, Vector, dispatch};

/// Queries that meet a key together, while it is in registers.
const TOGETHER: usize = 4;
/// Strips of keys that queries meet at a time: enough that the maximum, and what follows from a new one, cost
/// little; few enough that keys and values stay in the nearest cache for the next queries.
const STRIPS: usize = 4;

/// What queries of one row meet: one key-value head's pages.
pub struct Job<'a> {
    pub shape: &'a AttentionShape,
    /// The row's block table.
    pub table: &'a [u32],
    pub kv_head: usize,
    pub keys: &'a [f32],
    pub values: &'a [f32],
    /// `[t, heads * head_dim]`, rotated.
    pub queries: &'a [f32],
}

/// A query: a head of a token.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// Where it begins in [`Job::queries`].
    pub at: usize,
    /// Its token's position: it sees positions up to this.
    pub position: usize,
}

/// What a query has seen so far: weights are `exp(score - maximum)`.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub maximum: f32,
    /// The sum of weights.
    pub total: f32,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { maximum: f32::NEG_INFINITY, total: 0.0 }
    }
}

/// The queries meet these positions, as far as they see them. Returns for each what it has seen, and its
/// weighted sum of values, `[queries, head_dim]`.
pub fn attend(job: &Job<'_>, queries: &[Query], positions: Range<usize>) -> (Vec<Seen>, Vec<f32>) {
    let mut seen = vec![Seen::default(); queries.len()];
    let mut sums = vec![0.0; queries.len() * job.shape.head_dim];
    let strip = job.shape.block_size.min(LANES);
    for first in positions.clone().step_by(STRIPS * strip) {
        let tiles = queries.chunks(TOGETHER).zip(seen.chunks_mut(TOGETHER));
        for ((queries, seen), sums) in tiles.zip(sums.chunks_mut(TOGETHER * job.shape.head_dim)) {
            // Queries see no further than this, so nothing further is read: it may never have been written.
            let end = queries.iter().map(|query| query.position + 1).max().unwrap_or(0).min(positions.end);
            if first < end {
                let keys = Keys::new(job, first..end.min(first + STRIPS * strip));
                match queries.len() {
                    1 => one(job, &keys, queries, seen, sums),
                    2 => two(job, &keys, queries, seen, sums),
                    3 => three(job, &keys, queries, seen, sums),
                    _ => four(job, &keys, queries, seen, sums),
                }
            }
        }
    }
    (seen, sums)
}

/// A run of positions in strips: as many keys as fill a vector, or as a block has if those are fewer.
struct Keys {
    positions: Range<usize>,
    /// Keys in a full strip.
    width: usize,
    /// Where each strip's keys and values begin in the pool.
    strips: [(usize, usize); STRIPS],
    /// How many strips there are.
    count: usize,
}

impl Keys {
    fn new(job: &Job<'_>, positions: Range<usize>) -> Keys {
        let AttentionShape { kv_heads, head_dim: dim, block_size: size, .. } = *job.shape;
        let width = size.min(LANES);
        let mut strips = [(0, 0); STRIPS];
        let count = positions.len().div_ceil(width);
        for (strip, position) in strips.iter_mut().zip(positions.clone().step_by(width)) {
            let head = (job.table[position / size] as usize * kv_heads + job.kv_head) * dim * size;
            let slot = position % size;
            *strip = (head + slot, head + slot * dim);
            // The loops below read keys and values without asking again.
            assert!(head + dim * size <= job.keys.len().min(job.values.len()));
        }
        Keys { positions, width, strips, count }
    }

    /// How many of these positions a query sees.
    fn seen_by(&self, query: &Query) -> usize {
        (query.position + 1).saturating_sub(self.positions.start).min(self.positions.len())
    }
}

/// Each number of queries is a function of its own: in one that holds them all, the compiler stops inlining.
macro_rules! tiles {
    ($($name:ident, $body:ident: $queries:literal;)*) => {$(
        dispatch!(
            fn $name(job: &Job<'_>, keys: &Keys, queries: &[Query], seen: &mut [Seen], sums: &mut [f32]) = $body
        );

        #[inline(always)]
        fn $body<V: Vector>(job: &Job<'_>, keys: &Keys, queries: &[Query], seen: &mut [Seen], sums: &mut [f32]) {
            tile::<V, $queries>(job, keys, queries, seen, sums)
        }
    )*};
}

tiles! {
    one, one_body: 1;
    two, two_body: 2;
    three, three_body: 3;
    four, four_body: 4;
}

#[inline(always)]
fn tile<V: Vector, const Q: usize>(
    job: &Job<'_>,
    keys: &Keys,
    queries: &[Query],
    seen: &mut [Seen],
    sums: &mut [f32],
) {
    let dim = job.shape.head_dim;
    let query: [&[f32]; Q] = std::array::from_fn(|q| &job.queries[queries[q].at..][..dim]);
    let mut weights = [[[0.0; LANES]; STRIPS]; Q];
    // Many keys at a time only where there are registers for them.
    if V::ROOMY && keys.count == STRIPS && keys.width == LANES {
        scores::<V, Q, STRIPS>(job, keys, 0, &query, &mut weights);
    } else {
        for strip in 0..keys.count {
            scores::<V, Q, 1>(job, keys, strip, &query, &mut weights);
        }
    }
    for q in 0..Q {
        let sees = keys.seen_by(&queries[q]);
        let sums = &mut sums[q * dim..][..dim];
        weigh::<V>(&mut weights[q], sees, keys, job.shape.scale, &mut seen[q], sums);
    }
    let mut d = 0;
    while d < dim {
        if V::ROOMY && d + 4 * LANES <= dim {
            add_values::<V, Q, 4>(job, keys, &weights, d, sums);
            d += 4 * LANES;
        } else if d + LANES <= dim {
            add_values::<V, Q, 1>(job, keys, &weights, d, sums);
            d += LANES;
        } else {
            add_last_values(job, keys, &weights, d, sums);
            d = dim;
        }
    }
}

/// The products of `Q` queries with `S` strips of keys, from the `strip`th on.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators are not inlined here")]
fn scores<V: Vector, const Q: usize, const S: usize>(
    job: &Job<'_>,
    keys: &Keys,
    strip: usize,
    query: &[&[f32]; Q],
    out: &mut [[[f32; LANES]; STRIPS]; Q],
) {
    let size = job.shape.block_size;
    let mut scores = [[V::zero(); S]; Q];
    for d in 0..job.shape.head_dim {
        let mut key = [V::zero(); S];
        for s in 0..S {
            let at = keys.strips[strip + s].0 + d * size;
            if keys.width == LANES {
                // SAFETY: `Keys::new` has checked that the strip's block is inside the pool.
                key[s] = V::load(unsafe { &*job.keys.as_ptr().add(at).cast() });
            } else {
                let mut few = [0.0; LANES];
                few[..keys.width].copy_from_slice(&job.keys[at..][..keys.width]);
                key[s] = V::load(&few);
            }
        }
        for q in 0..Q {
            let number = V::splat(query[q][d]);
            for s in 0..S {
                scores[q][s] = key[s].mul_add(number, scores[q][s]);
            }
        }
    }
    for q in 0..Q {
        for s in 0..S {
            scores[q][s].store(&mut out[q][strip + s]);
        }
    }
}

/// Turns a query's scores into weights under the running maximum, and rescales what came before. What it does
/// not see has weight 0, whatever it holds.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators are not inlined here")]
fn weigh<V: Vector>(
    weights: &mut [[f32; LANES]; STRIPS],
    sees: usize,
    keys: &Keys,
    scale: f32,
    seen: &mut Seen,
    sums: &mut [f32],
) {
    if sees == 0 {
        *weights = [[0.0; LANES]; STRIPS];
        return;
    }
    let hide = |weights: &mut [[f32; LANES]; STRIPS], with: f32| {
        for s in sees / keys.width..STRIPS {
            weights[s][sees.saturating_sub(s * keys.width).min(keys.width)..].fill(with);
        }
    };
    let all = sees == STRIPS * LANES;
    if !all {
        if keys.width < LANES {
            weights.iter_mut().for_each(|strip| strip[keys.width..].fill(f32::NEG_INFINITY));
        }
        hide(weights, f32::NEG_INFINITY);
    }
    let mut highest = V::splat(seen.maximum);
    for s in 0..STRIPS {
        let scaled = V::load(&weights[s]).mul(V::splat(scale));
        scaled.store(&mut weights[s]);
        highest = highest.max(scaled);
    }
    let highest = highest.highest();
    if highest > seen.maximum {
        let shrink = (seen.maximum - highest).exp();
        seen.total *= shrink;
        for i in 0..sums.len() {
            sums[i] *= shrink;
        }
        seen.maximum = highest;
    }
    for s in 0..STRIPS {
        V::load(&weights[s]).add(V::splat(-highest)).exp().store(&mut weights[s]);
    }
    if !all {
        if keys.width < LANES {
            weights.iter_mut().for_each(|strip| strip[keys.width..].fill(0.0));
        }
        hide(weights, 0.0);
    }
    let mut total = V::zero();
    for s in 0..STRIPS {
        total = total.add(V::load(&weights[s]));
    }
    seen.total += total.sum();
}

/// `sums += weights . values`, for `N` vectors of each of `Q` sums, from number `d` on.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators are not inlined here")]
fn add_values<V: Vector, const Q: usize, const N: usize>(
    job: &Job<'_>,
    keys: &Keys,
    weights: &[[[f32; LANES]; STRIPS]; Q],
    d: usize,
    sums: &mut [f32],
) {
    let dim = job.shape.head_dim;
    assert!(sums.len() >= Q * dim && d + N * LANES <= dim);
    // SAFETY: inside `sums`, as just checked.
    let at = |sums: &mut [f32], q: usize, n: usize| unsafe {
        sums.as_mut_ptr().add(q * dim + d + n * LANES).cast()
    };
    let mut registers = [[V::zero(); N]; Q];
    for q in 0..Q {
        for n in 0..N {
            // SAFETY: as above.
            registers[q][n] = V::load(unsafe { &*at(sums, q, n) });
        }
    }
    let mut left = keys.positions.len();
    for s in 0..keys.count {
        for i in 0..left.min(keys.width) {
            let mut value = [V::zero(); N];
            for n in 0..N {
                // SAFETY: `Keys::new` has checked that the strip's block is inside the pool.
                value[n] = V::load(unsafe {
                    &*job.values.as_ptr().add(keys.strips[s].1 + i * dim + d + n * LANES).cast()
                });
            }
            for q in 0..Q {
                let weight = V::splat(weights[q][s][i]);
                for n in 0..N {
                    registers[q][n] = value[n].mul_add(weight, registers[q][n]);
                }
            }
        }
        left -= left.min(keys.width);
    }
    for q in 0..Q {
        for n in 0..N {
            // SAFETY: as above.
            registers[q][n].store(unsafe { &mut *at(sums, q, n) });
        }
    }
}

/// The same for numbers that fill no vector, from `d` on.
#[inline(always)]
fn add_last_values<const Q: usize>(
    job: &Job<'_>,
    keys: &Keys,
    weights: &[[[f32; LANES]; STRIPS]; Q],
    d: usize,
    sums: &mut [f32],
) {
    let dim = job.shape.head_dim;
    for position in 0..keys.positions.len() {
        let (s, i) = (position / keys.width, position % keys.width);
        let values = &job.values[keys.strips[s].1 + i * dim..][..dim];
        for q in 0..Q {
            for n in d..dim {
                sums[q * dim + n] += weights[q][s][i] * values[n];
            }
        }
    }
}
