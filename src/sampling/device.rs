//! Sampling on the device, the whole batch at once, each row by its own parameters.
//!
//! Promises: a row's token depends on its logits, its parameters, its own tokens and how many of them were
//! sampled, on nothing else in the batch. Rows are grouped by what they need: greedy rows cost an argmax; only
//! rows with top-k, top-p or typical-p sort anything; only rows that draw pay for a softmax.
//!
//! A draw inverts the cumulative distribution at one uniform number a row, which is a hash of the seed
//! and of how many tokens were sampled before. The filters become a threshold on the logits: tokens that
//! tie with the last one kept are kept too.
//!
//! Penalties count the tokens that the host knows and one more that may still be on the device: the engine
//! launches a step before it has read the last one's tokens.

mod adjust;
mod filter;
pub mod logprobs;

use std::collections::BTreeMap;

use mlx_rs::ops::{self, indexing};

use super::RowSampling;
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, upload};

/// A row of logits to choose a token from.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// How.
    pub how: RowSampling<'a>,
    /// How many tokens its sequence has sampled before.
    pub sampled_before: u32,
    /// The slot whose last token is the sequence's newest, not known to the host.
    pub on_device: Option<u32>,
    /// The tokens that a grammar allows, a bit each: token `t` is bit `t % 32` of word `t / 32`.
    pub allowed: Option<&'a [u32]>,
}

impl<'a> Choice<'a> {
    /// A choice by parameters alone.
    pub fn new(how: RowSampling<'a>, sampled_before: u32) -> Self {
        Choice { how, sampled_before, on_device: None, allowed: None }
    }
}

/// Chooses a token for each row of `logits` `[rows, vocab]`: `[rows]`, unsigned 32-bit. `last` holds the token
/// that each slot sampled last.
pub fn sample(logits: &Array, rows: &[Choice<'_>], last: &Array) -> Result<Array> {
    let vocab = logits.dim(1);
    let mut classes: BTreeMap<Class, Vec<usize>> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        classes.entry(Class::of(row, vocab)).or_default().push(i);
    }
    let mut parts = Vec::with_capacity(classes.len());
    let mut order: Vec<usize> = Vec::with_capacity(rows.len());
    for (class, members) in &classes {
        let chosen: Vec<_> = members.iter().map(|&i| rows[i]).collect();
        parts.push(class.sample(&pick(logits, members)?, &chosen, last)?);
        order.extend(members);
    }
    match parts.len() {
        0 => Err(Error::internal("sampling was asked for no row")),
        1 => Ok(parts.remove(0)),
        _ => {
            let mut back = vec![0; order.len()];
            order.iter().enumerate().for_each(|(at, &row)| back[row] = at);
            Ok(ops::concatenate(&parts, 0)?.take_axis(indices(&back)?, 0)?)
        }
    }
}

/// These rows of a matrix, in ascending order.
pub fn pick(matrix: &Array, rows: &[usize]) -> Result<Array> {
    if rows.len() as i32 == matrix.dim(0) {
        return Ok(matrix.clone());
    }
    Ok(matrix.take_axis(indices(rows)?, 0)?)
}

fn indices(rows: &[usize]) -> Result<Array> {
    let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    upload(&rows, &[rows.len() as i32])
}

/// What a row's parameters make necessary. Rows of one class share operations, and no number a row is
/// computed from depends on which other rows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    /// Bias or penalties change the logits, or a grammar leaves only some tokens.
    adjusted: bool,
    kind: Kind,
    /// Typical-p takes place.
    typical: bool,
    /// XTC takes place.
    xtc: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The largest logit.
    Greedy,
    /// A draw from all tokens, or those min-p leaves.
    Plain,
    /// A draw from some of the largest logits, of which these many are sorted.
    Largest(i32),
}

impl Kind {
    fn of(row: &Choice<'_>, vocab: i32) -> Kind {
        let params = row.how.params;
        if params.is_greedy() {
            return Kind::Greedy;
        }
        let all = vocab.unsigned_abs();
        match params.top_k {
            k if k > 0 && k < all => {
                // Few classes: powers of two.
                let sorted = k.checked_next_power_of_two().unwrap_or(all).min(all);
                Kind::Largest(sorted as i32)
            }
            _ if params.top_p < 1.0 => Kind::Largest(vocab),
            _ => Kind::Plain,
        }
    }
}

impl Class {
    fn of(row: &Choice<'_>, vocab: i32) -> Class {
        let kind = Kind::of(row, vocab);
        let draws = kind != Kind::Greedy;
        Class {
            adjusted: adjust::is_needed(row),
            kind,
            typical: draws && row.how.params.typical_p < 1.0,
            xtc: draws && filter::xtc_takes_place(row),
        }
    }

    fn sample(self, logits: &Array, rows: &[Choice<'_>], last: &Array) -> Result<Array> {
        let mut logits = logits.clone();
        if self.adjusted {
            logits = adjust::adjust(&logits.as_dtype(Dtype::Float32)?, rows, last)?;
        }
        if self.kind == Kind::Greedy {
            return Ok(indexing::argmax_axis(&logits, -1, false)?);
        }
        let scaled = ops::divide(logits.as_dtype(Dtype::Float32)?, column(rows, |p| p.temperature)?)?;
        let mut kept = filter::largest(&scaled, self.kind, rows)?;
        if self.typical {
            kept = filter::typical(&kept, rows)?;
        }
        if self.xtc {
            kept = filter::exclude_top_choices(&kept, rows)?;
        }
        draw(&kept, rows)
    }
}

/// A parameter of each row, `[rows, 1]`.
fn column(rows: &[Choice<'_>], value: impl Fn(&super::SamplingParams) -> f32) -> Result<Array> {
    let values: Vec<f32> = rows.iter().map(|row| value(row.how.params)).collect();
    upload(&values, &[values.len() as i32, 1])
}

/// Keeps values where `kept`, minus infinity elsewhere.
fn only(values: &Array, kept: &Array) -> Result<Array> {
    Ok(ops::select(kept, values, Array::from_f32(f32::NEG_INFINITY))?)
}

/// A draw from `softmax(logits)`, row by row.
fn draw(logits: &Array, rows: &[Choice<'_>]) -> Result<Array> {
    let cumulative = ops::softmax_axis(logits, -1, true)?.cumsum(-1, false, true)?;
    let vocab = logits.dim(1);
    let total = crate::mlx::column(&cumulative, vocab - 1)?;
    let uniform: Vec<f32> = rows.iter().map(|row| uniform(row.how.params.seed, row.sampled_before)).collect();
    let uniform = upload(&uniform, &[uniform.len() as i32, 1])?;
    // The first token whose cumulative probability passes the mark; it has some, so it was kept.
    let passed = ops::gt(&cumulative, ops::multiply(total, uniform)?)?;
    Ok(indexing::argmax_axis(&passed, -1, false)?)
}

/// A number in `[0, 1)` that depends on the seed and on how many tokens were sampled before. Below 1 by
/// enough that it times a total is below the total.
fn uniform(seed: u64, sampled_before: u32) -> f32 {
    let mixed = mix(mix(seed).wrapping_add(u64::from(sampled_before).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    (mixed >> 40) as f32 * (1.0 / (1 << 24) as f32) * (1.0 - 1.0 / (1 << 20) as f32)
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
