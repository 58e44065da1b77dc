//! The Mamba-2 mixer (Dao and Gu 2024, "Transformers are SSMs", arXiv:2405.21060).
//!
//! Per head: a state `[head_dim, state]` that each token decays and adds to,
//! `S = exp(dt A) S + dt x B^T`, `y = S C + D x`, where x, B and C come out of a short causal convolution and
//! dt out of the token itself. Heads of one group share B and C. The state and all that leads to it are
//! float32, whatever the model computes in.
//!
//! Sequences of one token make one step of the recurrence, all together. Longer runs use the dual form of
//! the paper's section 6: within a piece of tokens the recurrence is a masked product like attention's,
//! between pieces it is carried by the state.

use std::ops::Range;

use mlx_rs::ops;
use mlx_rs::ops::indexing::TryIndexOp;

use super::{Linear, pair};
use crate::cache::pages::Pages;
use crate::cache::states::{Chunk, LayerState, Singles, StateShape, States};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype};
use crate::model::MambaConfig;
use crate::model::batch::Batch;

/// Tokens whose interactions are computed at once: on a GPU fewer launches count, on a CPU fewer products.
const GPU_PIECE: i32 = 256;
const CPU_PIECE: i32 = 64;

/// What a mixer is made of, beside its two projections. All float32.
pub struct MambaWeights {
    /// The convolution's taps, oldest token first: `[kernel, channels]`.
    pub taps: Array,
    /// Its bias `[channels]`.
    pub bias: Option<Array>,
    /// Added to dt before the softplus: `[heads]`.
    pub dt_bias: Array,
    /// Logarithms of the decay rates: `[heads]`.
    pub a_log: Array,
    /// Weight of the token itself: `[heads]`.
    pub d: Array,
    /// Of the gated norm: `[inner]`.
    pub norm: Array,
}

/// One mixer.
pub struct Mamba {
    input: Linear,
    output: Linear,
    taps: Array,
    bias: Option<Array>,
    dt_bias: Array,
    /// `-exp(a_log)`, `[heads]`.
    a: Array,
    /// `[heads, 1]`.
    d: Array,
    /// `[groups, inner / groups]`.
    norm: Array,
    eps: f32,
    limits: Option<(f32, f32)>,
    sizes: Sizes,
    /// Which of the model's recurrent layers it is.
    layer: usize,
    /// In float32, so that no step converts it: `softplus(x) = log(exp(x) + exp(0))`.
    zero: Array,
    /// A state before the first token.
    zeros: LayerState,
    /// Minus infinity above the diagonal: `[piece, piece]`.
    future: Array,
}

#[derive(Clone, Copy)]
struct Sizes {
    heads: i32,
    dim: i32,
    groups: i32,
    state: i32,
    kernel: i32,
    inner: i32,
    channels: i32,
}

/// A run of tokens behind the convolution, `[tokens, ...]` each.
struct Tokens {
    /// `[tokens, heads, dim]`.
    x: Array,
    /// `[tokens, groups, state]`.
    b: Array,
    /// `[tokens, groups, state]`.
    c: Array,
    /// `[tokens, heads]`.
    dt: Array,
}

impl Tokens {
    fn part(&self, range: Range<i32>) -> Result<Tokens> {
        let cut = |array: &Array| array.try_index(range.clone());
        Ok(Tokens { x: cut(&self.x)?, b: cut(&self.b)?, c: cut(&self.c)?, dt: cut(&self.dt)? })
    }
}

impl Mamba {
    /// `input` gives the gate, then x, B and C, then dt; activations are of type `dtype`.
    pub fn new(
        config: &MambaConfig,
        layer: usize,
        (input, output): (Linear, Linear),
        weights: MambaWeights,
        (eps, dtype, on_gpu): (f32, Dtype, bool),
    ) -> Result<Mamba> {
        let n = |size: usize| size as i32;
        let (heads, dim, groups) = (n(config.heads), n(config.head_dim), n(config.groups));
        let (state, kernel, inner) = (n(config.state_size), n(config.conv_kernel), n(config.inner()));
        let channels = n(config.channels());
        let sizes = Sizes { heads, dim, groups, state, kernel, inner, channels };
        let piece = if on_gpu { GPU_PIECE } else { CPU_PIECE };
        let past = ops::tri::<bool>(piece, None, None)?;
        let future = ops::select(&past, Array::from_f32(0.0), Array::from_f32(f32::NEG_INFINITY))?;
        let zeros = [
            ops::zeros_dtype(&[1, kernel - 1, channels], dtype)?,
            ops::zeros_dtype(&[1, heads, dim, state], Dtype::Float32)?,
        ];
        let zero = Array::from_f32(0.0);
        let a = ops::negative(&weights.a_log.exp()?)?;
        let (d, norm) = (weights.d.reshape(&[heads, 1])?, weights.norm.reshape(&[groups, -1])?);
        mlx_rs::transforms::eval([&a, &d, &norm, &future].into_iter().chain(&zeros))?;
        Ok(Mamba {
            input,
            output,
            taps: weights.taps,
            bias: weights.bias,
            dt_bias: weights.dt_bias,
            a,
            d,
            norm,
            eps,
            limits: config.limits_that_matter(),
            sizes,
            layer,
            zero,
            zeros,
            future,
        })
    }

    /// What one sequence's state looks like.
    pub fn state_shape(&self) -> StateShape {
        self.zeros.each_ref().map(|part| (part.shape().to_vec(), part.dtype()))
    }

    /// `residual + mixer(x)`, all `[rows, hidden]`. Leaves the sequences' states in `pages`.
    pub fn forward_onto(
        &self,
        x: &Array,
        residual: &Array,
        batch: &Batch,
        pages: &mut Pages,
    ) -> Result<Array> {
        let Sizes { inner, channels, groups, .. } = self.sizes;
        let projected = self.input.forward(x)?;
        let parts: [Array; 3] = projected
            .split_at_indices(&[inner, inner + channels], 1)?
            .try_into()
            .map_err(|_| Error::internal("a projection does not split into three"))?;
        let [gate, conv, dt] = parts;
        let dt = self.time_steps(&dt)?;
        let mixed = self.mix(&conv, &dt, batch, pages.states_mut())?;
        // The gated norm: each group of channels on its own.
        let gated = ops::multiply(ops::multiply(ops::sigmoid(&gate)?, &gate)?, mixed)?;
        let by_group = gated.reshape(&[-1, groups, inner / groups])?;
        let normed = ops::multiply(mlx_rs::fast::rms_norm(by_group, None, self.eps)?, &self.norm)?;
        self.output.forward_onto(&normed.reshape(&[-1, inner])?.as_dtype(x.dtype())?, residual)
    }

    /// `[rows, heads]`, in float32 from here on.
    fn time_steps(&self, dt: &Array) -> Result<Array> {
        let dt = ops::add(dt.as_dtype(Dtype::Float32)?, &self.dt_bias)?;
        let dt = ops::logaddexp(dt, &self.zero)?;
        match self.limits {
            Some((least, most)) => Ok(ops::clip(&dt, (least, most))?),
            None => Ok(dt),
        }
    }

    /// Convolution and recurrence of all rows, to `[rows, inner]`; rows that only fill up become zeros.
    fn mix(&self, conv: &Array, dt: &Array, batch: &Batch, states: &mut States) -> Result<Array> {
        let rows = batch.rows as i32;
        let (mut parts, mut done) = (Vec::new(), 0);
        let cut = |range: Range<i32>| -> Result<(Array, Array)> {
            if range == (0..rows) {
                return Ok((conv.clone(), dt.clone()));
            }
            Ok((conv.try_index(range.clone())?, dt.try_index(range)?))
        };
        if let Some(singles) = &batch.states.singles {
            let (conv, dt) = cut(0..singles.sequences)?;
            parts.push(self.step(&conv, &dt, singles, states)?);
            done = singles.sequences;
        }
        for chunk in &batch.states.chunks {
            let (conv, dt) = cut(chunk.rows.clone())?;
            self.scan(&conv, &dt, chunk, states, &mut parts)?;
            done = chunk.rows.end;
        }
        if done < rows {
            parts.push(ops::zeros_dtype(&[rows - done, self.sizes.inner], Dtype::Float32)?);
        }
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => Ok(ops::concatenate(&parts, 0)?),
        }
    }

    /// One token each of `n` sequences: `conv` `[n, channels]`, `dt` `[n, heads]`.
    fn step(&self, conv: &Array, dt: &Array, singles: &Singles, states: &mut States) -> Result<Array> {
        let Sizes { heads, dim, groups, state, channels, inner, .. } = self.sizes;
        let (n, per_group) = (singles.sequences, heads / groups);
        let [before, old] = singles.read(self.layer, &self.zeros)?;
        let window = ops::concatenate(&[before, conv.reshape(&[n, 1, channels])?], 1)?;
        let summed = ops::multiply(&window, &self.taps)?.sum_axis(1, false)?;
        let Tokens { x, b, c, dt } = self.tokens(&summed, dt)?;

        let decay = ops::multiply(&dt, &self.a)?.exp()?.reshape(&[n, groups, per_group, 1, 1])?;
        let dtx = ops::multiply(dt.expand_dims(2)?, &x)?.reshape(&[n, groups, per_group, dim, 1])?;
        let added = ops::multiply(dtx, b.reshape(&[n, groups, 1, 1, state])?)?;
        let old = old.reshape(&[n, groups, per_group, dim, state])?;
        let new = ops::add(ops::multiply(old, decay)?, added)?;
        let seen = new.reshape(&[n, groups, per_group * dim, state])?;
        let y = ops::matmul(&seen, c.reshape(&[n, groups, state, 1])?)?.reshape(&[n, heads, dim])?;
        let y = ops::add(y, ops::multiply(&x, &self.d)?)?;
        states.write(0, [window.try_index((.., 1.., ..))?, new.reshape(&[n, heads, dim, state])?])?;
        Ok(y.reshape(&[n, inner])?)
    }

    /// A run of tokens of one sequence: `conv` `[tokens, channels]`, `dt` `[tokens, heads]`. Appends outputs
    /// `[tokens, inner]`, in pieces.
    fn scan(
        &self,
        conv: &Array,
        dt: &Array,
        chunk: &Chunk,
        states: &mut States,
        outputs: &mut Vec<Array>,
    ) -> Result<()> {
        let (kernel, count) = (self.sizes.kernel, conv.dim(0));
        let (before, mut state) = match chunk.read(self.layer)? {
            Some([before, state]) => (before, Some(state)),
            None => (self.zeros[0].clone(), None),
        };
        let inputs = ops::concatenate(&[before.squeeze_axes(&[0])?, conv.clone()], 0)?;
        let wide = inputs.as_dtype(Dtype::Float32)?;
        let mut summed: Option<Array> = None;
        for tap in 0..kernel {
            let weight = self.taps.try_index(tap)?;
            let part = ops::multiply(wide.try_index(tap..tap + count)?, weight)?;
            summed = Some(match summed {
                Some(sum) => ops::add(sum, part)?,
                None => part,
            });
        }
        let summed = summed.ok_or_else(|| Error::internal("a convolution without taps"))?;
        let tokens = self.tokens(&summed, dt)?;
        let mut at = 0;
        for (i, &end) in chunk.ends.iter().enumerate() {
            while at < end {
                let next = end.min(at + self.future.dim(0));
                let (y, left) = self.piece(&tokens.part(at..next)?, state.as_ref())?;
                outputs.push(y);
                (state, at) = (Some(left), next);
            }
            let left = state.clone().ok_or_else(|| Error::internal("a chunk without tokens"))?;
            // Gathered, so that the state does not hold on to all of the chunk's inputs.
            let last: Vec<u32> = (end as u32..(end + kernel - 1) as u32).collect();
            let last = Array::from_slice(&last, &[kernel - 1]);
            states.write(chunk.output + i, [inputs.take_axis(last, 0)?.expand_dims(0)?, left])?;
        }
        Ok(())
    }

    /// What the convolution's sums `[tokens, channels]` become.
    fn tokens(&self, summed: &Array, dt: &Array) -> Result<Tokens> {
        let Sizes { heads, dim, groups, state, inner, .. } = self.sizes;
        let summed = match &self.bias {
            Some(bias) => ops::add(summed, bias)?,
            None => summed.clone(),
        };
        let active = ops::multiply(ops::sigmoid(&summed)?, &summed)?;
        let (x, bc) = pair(active.split_at_indices(&[inner], 1)?)?;
        let (b, c) = pair(bc.split_at_indices(&[groups * state], 1)?)?;
        Ok(Tokens {
            x: x.reshape(&[-1, heads, dim])?,
            b: b.reshape(&[-1, groups, state])?,
            c: c.reshape(&[-1, groups, state])?,
            dt: dt.clone(),
        })
    }

    /// At most a piece of tokens, from `state` `[1, heads, dim, state]` or from nothing. Returns outputs
    /// `[tokens, inner]` and the state behind them.
    fn piece(&self, tokens: &Tokens, state: Option<&Array>) -> Result<(Array, Array)> {
        let Sizes { heads, dim, groups, state: width, inner, .. } = self.sizes;
        let Tokens { x, b, c, dt } = tokens;
        let (n, per_group) = (x.dim(0), heads / groups);
        let by_head = |array: &Array, last: i32| array.reshape(&[groups, per_group, n, last]);

        // How much of what token j adds is left at token i: exp(sum of dt A over (j, i]).
        let total = ops::multiply(dt, &self.a)?.cumsum(0, None, None)?.transpose_axes(&[1, 0])?;
        let between = ops::subtract(total.expand_dims(2)?, total.expand_dims(1)?)?;
        let left = ops::add(between, self.future.try_index((..n, ..n))?)?.exp()?;

        let c = c.transpose_axes(&[1, 0, 2])?;
        let b = b.transpose_axes(&[1, 0, 2])?;
        let dtx = ops::multiply(dt.expand_dims(2)?, x)?.transpose_axes(&[1, 0, 2])?;
        let dtx = by_head(&dtx, dim)?;
        let meets = ops::matmul(&c, b.swap_axes(-1, -2)?)?.expand_dims(1)?;
        let mut y = ops::matmul(ops::multiply(by_head(&left, n)?, meets)?, &dtx)?;

        let at_end = by_head(&left.try_index((.., n - 1, ..))?, 1)?;
        let kept = ops::multiply(&dtx, at_end)?.swap_axes(-1, -2)?;
        let mut new = ops::matmul(kept, b.expand_dims(1)?)?;
        if let Some(state) = state {
            let state = state.reshape(&[groups, per_group, dim, width])?;
            let decay = total.exp()?;
            let seen = ops::matmul(c.expand_dims(1)?, state.swap_axes(-1, -2)?)?;
            y = ops::add(y, ops::multiply(seen, by_head(&decay, 1)?)?)?;
            let all = decay.try_index((.., n - 1))?.reshape(&[groups, per_group, 1, 1])?;
            new = ops::add(new, ops::multiply(state, all)?)?;
        }
        let y = y.reshape(&[heads, n, dim])?.transpose_axes(&[1, 0, 2])?;
        let y = ops::add(y, ops::multiply(x, &self.d)?)?.reshape(&[n, inner])?;
        Ok((y, new.reshape(&[1, heads, dim, width])?))
    }
}

#[cfg(test)]
mod tests;
