//! Expert layers with quantized weights: each row of `x` meets the matrices of its own experts.
//!
//! Rows are grouped by expert, so that an expert's weights are read once however many rows it has, and those
//! of an expert nobody chose are not read at all. A row's result is the same whatever rows are beside it: the
//! tiles below compute it alone, and its experts' outputs are summed in the row's own order.

use std::ops::Range;

use super::norm::swiglu_range;
use super::qmm::{BLOCK, Prepared, QuantizedWeights, TILE, prepare, row_products};
use super::threads::{Scattered, Threads};

/// Weights worth a part of its own: some microseconds' work.
const LEAST_WEIGHTS: usize = 32 * 1024;
/// Likewise of activations.
const LEAST_ACTIVATIONS: usize = 16 * 1024;

/// What lies between an expert's two projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertActivation {
    /// `silu(gate) * up`; the first projection gives all of the gate, then all of `up`.
    SwiGlu,
    /// `max(x, 0)^2`.
    Relu2,
}

impl ExpertActivation {
    /// Features the first projection gives for each that the second takes.
    pub fn inputs(self) -> usize {
        match self {
            ExpertActivation::SwiGlu => 2,
            ExpertActivation::Relu2 => 1,
        }
    }
}

/// The experts of a layer.
#[derive(Debug, Clone, Copy)]
pub struct ExpertWeights<'a> {
    /// The first projections, all experts' below each other.
    pub up: QuantizedWeights<'a>,
    /// The second, likewise.
    pub down: QuantizedWeights<'a>,
    /// How many experts.
    pub experts: usize,
    /// What lies between.
    pub activation: ExpertActivation,
}

/// Which experts rows go to, `k` each.
#[derive(Debug, Clone, Copy)]
pub struct ExpertRoutes<'a> {
    /// `[rows, k]`, each below the number of experts.
    pub experts: &'a [u32],
    /// `[rows, k]`: what each one's output is multiplied by.
    pub weights: &'a [f32],
    /// How many each row has.
    pub k: usize,
}

/// `out[r] = sum over i of weights[r][i] * expert(experts[r][i])(x[r])`: `x` `[rows, up.columns]` to
/// `[rows, down.rows / experts]`.
///
/// # Panics
/// If the parts do not fit together, or a row names an expert that is not there.
pub fn expert_mlp(
    threads: &Threads,
    x: &[f32],
    routes: &ExpertRoutes<'_>,
    layer: &ExpertWeights<'_>,
    out: &mut [f32],
) {
    let ExpertWeights { up, down, experts, activation } = *layer;
    let pairs = routes.experts.len();
    let width = down.rows / experts;
    assert_eq!(routes.weights.len(), pairs);
    assert_eq!(up.rows, experts * down.columns * activation.inputs());
    assert_eq!(x.len() * routes.k, pairs * up.columns);
    assert_eq!(out.len() * routes.k, pairs * width);

    let plan = Plan::new(routes.experts, experts);
    let mut sorted = Vec::with_capacity(pairs * up.columns);
    for &pair in &plan.order {
        sorted.extend_from_slice(&x[pair / routes.k * up.columns..][..up.columns]);
    }
    let inner = multiply(threads, &sorted, &up, up.rows / experts, &plan);
    let inner = activate(threads, inner, down.columns, activation);
    let each = multiply(threads, &inner, &down, width, &plan);
    let out = Scattered::new(out);
    threads.ranges(pairs / routes.k, (LEAST_WEIGHTS / (width * routes.k)).max(1), |rows| {
        for row in rows {
            // SAFETY: `ranges` hands out disjoint ranges.
            let out = unsafe { out.range(row * width..(row + 1) * width) };
            out.fill(0.0);
            for pair in row * routes.k..(row + 1) * routes.k {
                let weight = routes.weights[pair];
                let from = &each[plan.place[pair] * width..][..width];
                out.iter_mut().zip(from).for_each(|(out, from)| *out += weight * from);
            }
        }
    });
}

/// Pairs of a row and an expert, in the order of experts.
struct Plan {
    /// The pairs, sorted by expert.
    order: Vec<usize>,
    /// Where in `order` each pair is.
    place: Vec<usize>,
    /// The experts that have rows, and where theirs end in `order`.
    ends: Vec<(usize, usize)>,
}

impl Plan {
    fn new(chosen: &[u32], experts: usize) -> Plan {
        assert!(chosen.iter().all(|&expert| (expert as usize) < experts), "of {experts} experts");
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.sort_by_key(|&pair| chosen[pair]);
        let mut place = vec![0; order.len()];
        let mut ends: Vec<(usize, usize)> = Vec::new();
        for (at, &pair) in order.iter().enumerate() {
            place[pair] = at;
            let expert = chosen[pair] as usize;
            match ends.last_mut() {
                Some((last, end)) if *last == expert => *end = at + 1,
                _ => ends.push((expert, at + 1)),
            }
        }
        Plan { order, place, ends }
    }

    /// The experts that have rows, and which.
    fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|&(_, end)| end));
        self.ends.iter().zip(starts).map(|(&(expert, end), start)| (expert, start..end))
    }
}

/// Rows in the order of the plan by their experts' matrices, `rows` of the stack `w` each.
fn multiply(threads: &Threads, x: &[f32], w: &QuantizedWeights<'_>, rows: usize, plan: &Plan) -> Vec<f32> {
    w.check();
    let prepared = prepare(x, w, plan.runs().map(|(_, pairs)| pairs));
    let mut out = vec![0.0; x.len() / w.columns * rows];
    let scattered = Scattered::new(&mut out);
    let step = (LEAST_WEIGHTS / w.columns).max(1).next_multiple_of(BLOCK);
    let parts = rows.div_ceil(step);
    let runs: Vec<_> = plan.runs().collect();
    threads.run(runs.len() * parts, &|part| {
        let (expert, pairs) = &runs[part / parts];
        let first = part % parts * step;
        let columns = first..rows.min(first + step);
        // SAFETY: a part has its own columns of its own rows of `out`.
        unsafe { block(&prepared, w, expert * rows, pairs.clone(), columns, rows, &scattered) };
    });
    out
}

/// Some rows of `x` by rows `columns` of the matrix that begins at row `matrix` of the stack `w`, into
/// `out` `[_, width]`.
///
/// # Safety
/// Nobody else writes these columns of these rows.
unsafe fn block(
    prepared: &Prepared,
    w: &QuantizedWeights<'_>,
    matrix: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    width: usize,
    out: &Scattered<'_, f32>,
) {
    let mut products = [0.0; TILE * BLOCK];
    for column in columns.clone().step_by(BLOCK) {
        let columns = column..columns.end.min(column + BLOCK);
        for &(row, count) in prepared.tiles(rows.clone()) {
            let products = &mut products[..count * columns.len()];
            row_products(prepared, w, matrix + column, row, count, products);
            for (column, products) in columns.clone().zip(products.chunks_exact(count)) {
                for (i, product) in products.iter().enumerate() {
                    // SAFETY: the caller owns this element.
                    unsafe { out.set((row + i) * width + column, *product) };
                }
            }
        }
    }
}

/// The activation of rows `[_, width * inputs]`: `[_, width]`.
fn activate(threads: &Threads, mut x: Vec<f32>, width: usize, activation: ExpertActivation) -> Vec<f32> {
    match activation {
        ExpertActivation::Relu2 => {
            x.iter_mut().for_each(|x| *x = x.max(0.0) * x.max(0.0));
            x
        }
        ExpertActivation::SwiGlu => {
            let mut out = vec![0.0; x.len() / 2];
            let rows = out.len() / width;
            let scattered = Scattered::new(&mut out);
            threads.ranges(rows, (LEAST_ACTIVATIONS / width).max(1), |rows| {
                for row in rows {
                    let (gate, up) = x[2 * row * width..][..2 * width].split_at(width);
                    // SAFETY: `ranges` hands out disjoint ranges.
                    swiglu_range(gate, up, unsafe { scattered.range(row * width..(row + 1) * width) });
                }
            });
            out
        }
    }
}

#[cfg(test)]
mod tests;
