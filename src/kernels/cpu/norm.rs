//! Root-mean-square normalization and the gated activation of Llama-like networks.

use super::simd::{LANES, Vector, dispatch, dot};
use super::threads::{Scattered, Threads};

/// `out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight`, for each row of `weight.len()` numbers
/// (Zhang and Sennrich 2019, arXiv:1910.07467).
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    assert_eq!(x.len() % weight.len(), 0);
    rows(x, weight, eps, out);
}

dispatch!(fn rows(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = rows_body);

#[inline(always)]
fn rows_body<V: Vector>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let scale = (dot::<V>(x, x) / width as f32 + eps).sqrt().recip();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}

/// `out = silu(gate) * up`, element by element (Shazeer 2020, arXiv:2002.05202).
pub fn swiglu(threads: &Threads, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len());
    let len = out.len();
    let out = Scattered::new(out);
    threads.ranges(len, 16 * 1024, |range| {
        // SAFETY: `ranges` hands out disjoint ranges.
        let out = unsafe { out.range(range.clone()) };
        swiglu_range(&gate[range.clone()], &up[range], out);
    });
}

dispatch!(pub(super) fn swiglu_range(gate: &[f32], up: &[f32], out: &mut [f32]) = swiglu_body);

#[inline(always)]
fn swiglu_body<V: Vector>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let (gates, gate_rest) = gate.as_chunks::<LANES>();
    let (ups, up_rest) = up.as_chunks::<LANES>();
    let (outs, out_rest) = out.as_chunks_mut::<LANES>();
    for ((out, gate), up) in outs.iter_mut().zip(gates).zip(ups) {
        let mut e = [0.0; LANES];
        V::load(gate).mul(V::splat(-1.0)).exp().store(&mut e);
        *out = std::array::from_fn(|i| gate[i] / (1.0 + e[i]) * up[i]);
    }
    for ((out, gate), up) in out_rest.iter_mut().zip(gate_rest).zip(up_rest) {
        *out = gate / (1.0 + (-gate).exp()) * up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count as u32)
            .map(|i| {
                ((i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / (1 << 23) as f32 - 1.0)
                    * 3.0
            })
            .collect()
    }

    #[test]
    fn rms_norm_is_the_formula() {
        let (x, weight) = (numbers(3 * 50, 1), numbers(50, 2));
        let mut out = vec![f32::NAN; x.len()];
        rms_norm(&x, &weight, 1e-5, &mut out);
        for (row, out) in x.chunks(50).zip(out.chunks(50)) {
            let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 50.0;
            for i in 0..50 {
                let want = f64::from(row[i]) / (mean + 1e-5).sqrt() * f64::from(weight[i]);
                assert!((f64::from(out[i]) - want).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn swiglu_is_the_formula() {
        let (gate, up) = (numbers(40_000, 3), numbers(40_000, 4));
        let mut out = vec![f32::NAN; gate.len()];
        swiglu(&Threads::new(2), &gate, &up, &mut out);
        for i in 0..gate.len() {
            let g = f64::from(gate[i]);
            let want = g / (1.0 + (-g).exp()) * f64::from(up[i]);
            assert!((f64::from(out[i]) - want).abs() < 1e-5);
        }
    }
}
