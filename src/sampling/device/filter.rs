//! Which tokens a draw is from: top-k, top-p and min-p, then typical-p, then XTC.

use mlx_rs::ops;

use super::{Choice, Kind, column, only, uniform};
use crate::error::Result;
use crate::mlx::Array;

/// What top-k, top-p and min-p leave of the logits; minus infinity elsewhere.
pub(super) fn largest(scaled: &Array, kind: Kind, rows: &[Choice<'_>]) -> Result<Array> {
    let mut threshold = None;
    if let Kind::Largest(sorted) = kind {
        threshold = Some(smallest_kept(scaled, sorted, rows)?);
    }
    if rows.iter().any(|row| row.how.params.min_p > 0.0) {
        // `p >= min_p * max p` in logarithms. ln(0) keeps all.
        let below = column(rows, |p| p.min_p.ln())?;
        let min_p = ops::add(scaled.max_axis(-1, true)?, below)?;
        threshold = Some(match threshold {
            Some(other) => ops::maximum(other, min_p)?,
            None => min_p,
        });
    }
    match threshold {
        Some(threshold) => only(scaled, &ops::ge(scaled, threshold)?),
        None => Ok(scaled.clone()),
    }
}

/// The smallest logit that top-k and then top-p keep, `[rows, 1]`, from the `sorted` largest.
fn smallest_kept(scaled: &Array, sorted: i32, rows: &[Choice<'_>]) -> Result<Array> {
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
    let limit = column(rows, |p| if p.top_k == 0 { f32::INFINITY } else { p.top_k as f32 })?;
    let mut kept = ops::lt(&ranks, &limit)?;
    if rows.iter().any(|row| row.how.params.top_p < 1.0) {
        let probabilities = ops::softmax_axis(only(&descending, &kept)?, -1, true)?;
        // What the tokens before this one come to: while it is short of top-p, this one is needed.
        let before = ops::subtract(probabilities.cumsum(-1, false, true)?, &probabilities)?;
        let needed = ops::lt(before, column(rows, |p| if p.top_p < 1.0 { p.top_p } else { f32::INFINITY })?)?;
        kept = ops::logical_and(kept, needed)?;
    }
    let smallest = ops::select(&kept, &descending, Array::from_f32(f32::INFINITY))?;
    Ok(smallest.min_axis(-1, true)?)
}

/// The most typical of the tokens left, until they come to typical-p.
pub(super) fn typical(kept: &Array, rows: &[Choice<'_>]) -> Result<Array> {
    let infinity = Array::from_f32(f32::INFINITY);
    let logarithms = ops::subtract(kept, kept.logsumexp_axis(-1, true)?)?;
    let probabilities = logarithms.exp()?;
    let is_left = ops::gt(kept, Array::from_f32(f32::NEG_INFINITY))?;
    // 0 ln 0 is 0.
    let products = ops::multiply(&probabilities, &logarithms)?;
    let negentropy = ops::select(&is_left, products, Array::from_f32(0.0))?.sum_axis(-1, true)?;
    // |surprise - entropy|
    let distance = ops::abs(ops::subtract(&logarithms, negentropy)?)?;
    let distance = ops::select(&is_left, distance, &infinity)?;

    let order = ops::argsort_axis(&distance, -1)?;
    let sorted = probabilities.take_along_axis(&order, -1)?;
    let before = ops::subtract(sorted.cumsum(-1, false, true)?, &sorted)?;
    let needed = ops::lt(before, column(rows, |p| p.typical_p)?)?;
    let farthest = ops::select(needed, distance.take_along_axis(&order, -1)?, Array::from_f32(-1.0))?;
    only(kept, &ops::le(&distance, farthest.max_axis(-1, true)?)?)
}

/// Whether a row's coin says that XTC takes place for this token. A hash of the seed that draws do not use.
pub(super) fn xtc_takes_place(row: &Choice<'_>) -> bool {
    let params = row.how.params;
    params.xtc_probability > 0.0 && uniform(!params.seed, row.sampled_before) < params.xtc_probability
}

/// Drops all but the least likely of the tokens with at least the threshold's probability.
pub(super) fn exclude_top_choices(kept: &Array, rows: &[Choice<'_>]) -> Result<Array> {
    let probabilities = ops::softmax_axis(kept, -1, true)?;
    let is_top = ops::ge(&probabilities, column(rows, |p| p.xtc_threshold)?)?;
    // With threshold 0 what was filtered out must not become the least likely choice.
    let is_top = ops::logical_and(is_top, ops::gt(&probabilities, Array::from_f32(0.0))?)?;
    let tops = ops::select(is_top, &probabilities, Array::from_f32(f32::INFINITY))?;
    only(kept, &ops::le(&probabilities, tops.min_axis(-1, true)?)?)
}
