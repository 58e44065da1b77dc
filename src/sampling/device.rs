//! Sampling on the device, the whole batch at once, each row by its own parameters.
//!
//! Promises: a row's token depends on its logits, its parameters and how many tokens its sequence has
//! sampled before, on nothing else in the batch; greedy rows cost an argmax, and only rows with top-k or
//! top-p sort anything.
//!
//! A draw inverts the cumulative distribution at one uniform number a row, which is a hash of the seed
//! and of how many tokens were sampled before. The filters become a threshold on the logits: tokens that
//! tie with the last one kept are kept too.

use std::collections::BTreeMap;

use mlx_rs::ops::{self, indexing};

use super::SamplingParams;
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype};

/// Chooses a token for each row of `logits` `[rows, vocab]`: `[rows]`, unsigned 32-bit. A row has its
/// parameters and how many tokens its sequence has sampled before.
pub fn sample(logits: &Array, rows: &[(&SamplingParams, u32)]) -> Result<Array> {
    let vocab = logits.dim(1);
    let mut classes: BTreeMap<Class, Vec<usize>> = BTreeMap::new();
    for (i, (params, _)) in rows.iter().enumerate() {
        classes.entry(Class::of(params, vocab)).or_default().push(i);
    }
    let mut parts = Vec::with_capacity(classes.len());
    let mut order: Vec<usize> = Vec::with_capacity(rows.len());
    for (class, members) in &classes {
        let logits = if members.len() == rows.len() {
            logits.clone()
        } else {
            logits.take_axis(indices(members), 0)?
        };
        let chosen: Vec<_> = members.iter().map(|&i| rows[i]).collect();
        parts.push(class.sample(&logits, &chosen)?);
        order.extend(members);
    }
    match parts.len() {
        0 => Err(Error::internal("sampling was asked for no row")),
        1 => Ok(parts.remove(0)),
        _ => {
            let mut back = vec![0; order.len()];
            order.iter().enumerate().for_each(|(at, &row)| back[row] = at);
            Ok(ops::concatenate(&parts, 0)?.take_axis(indices(&back), 0)?)
        }
    }
}

fn indices(rows: &[usize]) -> Array {
    let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    Array::from_slice(&rows, &[rows.len() as i32])
}

/// What a row's parameters make necessary. Rows of one class share operations, and no number a row is
/// computed from depends on which other rows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// The largest logit.
    Greedy,
    /// A draw from all tokens, or those min-p leaves.
    Plain,
    /// A draw from some of the largest logits, of which these many are sorted.
    Largest(i32),
}

impl Class {
    fn of(params: &SamplingParams, vocab: i32) -> Class {
        if params.is_greedy() {
            return Class::Greedy;
        }
        let all = vocab.unsigned_abs();
        match params.top_k {
            k if k > 0 && k < all => {
                // Few classes: powers of two.
                let sorted = k.checked_next_power_of_two().unwrap_or(all).min(all);
                Class::Largest(sorted as i32)
            }
            _ if params.top_p < 1.0 => Class::Largest(vocab),
            _ => Class::Plain,
        }
    }

    fn sample(self, logits: &Array, rows: &[(&SamplingParams, u32)]) -> Result<Array> {
        if self == Class::Greedy {
            return Ok(indexing::argmax_axis(logits, -1, false)?);
        }
        let logits = logits.as_dtype(Dtype::Float32)?;
        let scaled = ops::divide(&logits, column(rows, |p| p.temperature))?;
        let mut threshold = None;
        if let Class::Largest(sorted) = self {
            threshold = Some(largest(&scaled, sorted, rows)?);
        }
        if rows.iter().any(|(params, _)| params.min_p > 0.0) {
            // `p >= min_p * max p` in logarithms. ln(0) keeps all.
            let below = column(rows, |p| p.min_p.ln());
            let min_p = ops::add(scaled.max_axis(-1, true)?, below)?;
            threshold = Some(match threshold {
                Some(other) => ops::maximum(other, min_p)?,
                None => min_p,
            });
        }
        let kept = match threshold {
            Some(threshold) => only(&scaled, &ops::ge(&scaled, threshold)?)?,
            None => scaled,
        };
        draw(&kept, rows)
    }
}

/// A parameter of each row, `[rows, 1]`.
fn column(rows: &[(&SamplingParams, u32)], value: impl Fn(&SamplingParams) -> f32) -> Array {
    let values: Vec<f32> = rows.iter().map(|(params, _)| value(params)).collect();
    Array::from_slice(&values, &[values.len() as i32, 1])
}

/// Keeps values where `kept`, minus infinity elsewhere.
fn only(values: &Array, kept: &Array) -> Result<Array> {
    Ok(ops::select(kept, values, Array::from_f32(f32::NEG_INFINITY))?)
}

/// The smallest logit that top-k and then top-p keep, `[rows, 1]`, from the `sorted` largest.
fn largest(scaled: &Array, sorted: i32, rows: &[(&SamplingParams, u32)]) -> Result<Array> {
    let vocab = scaled.dim(1);
    let negated = ops::negative(scaled)?;
    let candidates = if sorted < vocab {
        let partitioned = ops::partition_axis(&negated, sorted - 1, -1)?;
        crate::mlx::columns(&partitioned, sorted)?
    } else {
        negated
    };
    let descending = ops::negative(ops::sort_axis(&candidates, -1)?)?;
    let ranks: Vec<f32> = (0..sorted).map(|rank| rank as f32).collect();
    let ranks = Array::from_slice(&ranks, &[1, sorted]);
    let limit = column(rows, |p| if p.top_k == 0 { f32::INFINITY } else { p.top_k as f32 });
    let mut kept = ops::lt(&ranks, &limit)?;
    if rows.iter().any(|(params, _)| params.top_p < 1.0) {
        let probabilities = ops::softmax_axis(only(&descending, &kept)?, -1, true)?;
        // What the tokens before this one come to: while it is short of top-p, this one is needed.
        let before = ops::subtract(probabilities.cumsum(-1, false, true)?, &probabilities)?;
        let needed = ops::lt(before, column(rows, |p| if p.top_p < 1.0 { p.top_p } else { f32::INFINITY }))?;
        kept = ops::logical_and(kept, needed)?;
    }
    let smallest = ops::select(&kept, &descending, Array::from_f32(f32::INFINITY))?;
    Ok(smallest.min_axis(-1, true)?)
}

/// A draw from `softmax(logits)`, row by row.
fn draw(logits: &Array, rows: &[(&SamplingParams, u32)]) -> Result<Array> {
    let cumulative = ops::softmax_axis(logits, -1, true)?.cumsum(-1, false, true)?;
    let vocab = logits.dim(1);
    let total = crate::mlx::column(&cumulative, vocab - 1)?;
    let uniform: Vec<f32> = rows.iter().map(|(params, n)| uniform(params.seed, *n)).collect();
    let uniform = Array::from_slice(&uniform, &[uniform.len() as i32, 1]);
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
