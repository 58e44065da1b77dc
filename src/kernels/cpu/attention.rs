//! Attention over pages: rotates queries and keys, writes keys and values into their pages, and attends,
//! reading pages where they lie.
//!
//! Layout of a block, chosen so that 16 keys fill a vector: keys `[kv_heads, head_dim, block_size]`, values
//! `[kv_heads, block_size, head_dim]`; blocks follow each other, so copying one is copying one piece.
//!
//! Per query it is one pass with a running maximum (Milakov and Gimelshein 2018, arXiv:1805.02867; as in
//! FlashAttention, arXiv:2205.14135). A long context is cut into spans that threads take side by side, joined by
//! the same formula (as in Flash-Decoding). Spans begin at fixed positions, and a query's arithmetic depends on
//! its own row alone: neighbours and the cut into chunks do not change a bit of it.

mod tile;

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::norm::rms_norm;
use super::threads::{Scattered, Threads};
use tile::{Job, Query, Seen, attend};

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

/// Positions of a context that a thread takes at a time: their keys and values stay in its cache while all
/// queries of a part meet them.
const SPAN: usize = 1024;
/// Queries (tokens times the query heads that share a key head) that a thread takes at a time.
const QUERIES_A_PART: usize = 48;

impl PagedRow<'_> {
    /// The position of one of the step's tokens.
    fn position(&self, token: usize) -> usize {
        self.start + token - self.tokens.start
    }

    /// Spans up to the last token's position.
    fn spans(&self) -> usize {
        (self.start + self.tokens.len()).div_ceil(SPAN)
    }
}

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
    let parts = parts(shape, rows);
    let mut spans = Spans::new(shape, rows);
    let (firsts, seen) = (&spans.firsts, Scattered::new(&mut spans.seen));
    let (later, own) = (Scattered::new(&mut spans.later), Scattered::new(&mut *out));
    let (dim, Pages { keys, values }) = (shape.head_dim, &pages);
    threads.run(parts.len(), &|part| {
        let Part { row: r, kv_head, tokens, span } = &parts[part];
        let (row, span) = (&rows[*r], *span);
        let job = Job { shape, table: row.table, kv_head: *kv_head, keys, values, queries: &queries };
        let queries = queries_of(shape, row, *kv_head, tokens.clone());
        let (partial, sums) = attend(&job, &queries, span * SPAN..(span + 1) * SPAN);
        for ((query, partial), sums) in queries.iter().zip(partial).zip(sums.chunks_exact(dim)) {
            let place = firsts[*r] + (query.at / dim - row.tokens.start * shape.heads) * row.spans() + span;
            // SAFETY: each query of each span is in one part only.
            unsafe {
                seen.set(place, partial);
                let to = if span == 0 {
                    own.range(query.at..query.at + dim)
                } else {
                    later.range(place * dim..(place + 1) * dim)
                };
                to.copy_from_slice(sums);
            }
        }
    });
    spans.join(threads, shape, rows, out);
}

/// Some tokens' queries of one key-value head, and the span they meet.
struct Part {
    row: usize,
    kv_head: usize,
    tokens: Range<usize>,
    span: usize,
}

/// Cuts a step into parts, those of the longest row first: a thread that began one of them last would keep the
/// others waiting.
fn parts(shape: &AttentionShape, rows: &[PagedRow<'_>]) -> Vec<Part> {
    let at_once = (QUERIES_A_PART / (shape.heads / shape.kv_heads)).max(1);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&r| std::cmp::Reverse(rows[r].tokens.len() * (rows[r].start + rows[r].tokens.len())));
    let mut parts = Vec::new();
    for row in order {
        for first in rows[row].tokens.clone().step_by(at_once) {
            let tokens = first..rows[row].tokens.end.min(first + at_once);
            for span in 0..=rows[row].position(tokens.end - 1) / SPAN {
                let part = |kv_head| Part { row, kv_head, tokens: tokens.clone(), span };
                parts.extend((0..shape.kv_heads).map(part));
            }
        }
    }
    parts
}

/// The query heads of these tokens that share a key-value head.
fn queries_of(
    shape: &AttentionShape,
    row: &PagedRow<'_>,
    kv_head: usize,
    tokens: Range<usize>,
) -> Vec<Query> {
    let group = shape.heads / shape.kv_heads;
    let of_token = |t| {
        (0..group).map(move |g| Query {
            at: (t * shape.heads + kv_head * group + g) * shape.head_dim,
            position: row.position(t),
        })
    };
    tokens.flat_map(of_token).collect()
}

/// What the queries have seen of each span. The first span's sums of values lie in the output already.
struct Spans {
    /// Each row's first place in what follows: rows' queries come after each other, and each has a place for
    /// each of its row's spans.
    firsts: Vec<usize>,
    seen: Vec<Seen>,
    /// Sums of values, `[places, head_dim]`; unused for a query's first span, empty if there are no others.
    later: Vec<f32>,
}

impl Spans {
    fn new(shape: &AttentionShape, rows: &[PagedRow<'_>]) -> Spans {
        let mut places = 0;
        let mut firsts = Vec::with_capacity(rows.len());
        for row in rows {
            firsts.push(places);
            places += row.tokens.len() * shape.heads * row.spans();
        }
        let long = rows.iter().any(|row| row.spans() > 1);
        let later = if long { vec![0.0; places * shape.head_dim] } else { Vec::new() };
        Spans { firsts, seen: vec![Seen::default(); places], later }
    }

    /// Joins each query's spans, and divides by the sum of all weights.
    fn join(&self, threads: &Threads, shape: &AttentionShape, rows: &[PagedRow<'_>], out: &mut [f32]) {
        let (dim, heads) = (shape.head_dim, shape.heads);
        let out = Scattered::new(out);
        let work: Vec<(usize, usize)> =
            rows.iter().enumerate().flat_map(|(r, row)| row.tokens.clone().map(move |t| (r, t))).collect();
        threads.ranges(work.len(), 32, |range| {
            for &(r, t) in &work[range] {
                let spans = rows[r].spans();
                for head in 0..heads {
                    let place = self.firsts[r] + ((t - rows[r].tokens.start) * heads + head) * spans;
                    // SAFETY: every token is in one range only, and owns its output.
                    let out = unsafe { out.range((t * heads + head) * dim..(t * heads + head + 1) * dim) };
                    let later = if spans > 1 { &self.later[place * dim..][..spans * dim] } else { &[] };
                    join(&self.seen[place..][..spans], later, out);
                }
            }
        });
    }
}

/// One query's spans: `sums` holds the first's sum of values and takes the result, `later` `[spans, dim]` the
/// others'.
fn join(seen: &[Seen], later: &[f32], sums: &mut [f32]) {
    let maximum = seen.iter().fold(f32::NEG_INFINITY, |highest, seen| highest.max(seen.maximum));
    let shrink = |seen: &Seen| (seen.maximum - maximum).exp();
    let first = shrink(&seen[0]);
    let mut total = seen[0].total * first;
    sums.iter_mut().for_each(|sum| *sum *= first);
    for (seen, later) in seen.iter().zip(later.chunks_exact(sums.len())).skip(1) {
        // Of a span that begins after its position a query has seen nothing.
        if seen.total > 0.0 {
            let shrink = shrink(seen);
            total += seen.total * shrink;
            sums.iter_mut().zip(later).for_each(|(sum, later)| *sum += later * shrink);
        }
    }
    sums.iter_mut().for_each(|sum| *sum /= total);
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
