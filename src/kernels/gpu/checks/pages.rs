//! Attention over pages.

use super::{compare, floats, numbers};
use crate::cache::{BlockId, PageLayout};
use crate::error::{Error, Result};
use crate::kernels::gpu::{LayerNumbers, PageKernels, PagePlan, PagedShape};
use crate::mlx::Array;

/// A prompt of some blocks, a short one, and tokens that only fill up.
pub(in crate::kernels::gpu) fn pages(kernels: &PageKernels) -> Result<()> {
    let PagedShape { heads, kv_heads, head_dim, block_size, norms, .. } = *kernels.shape();
    let layout = PageLayout { kv_heads, num_blocks: 9, block_size, head_dim };
    let tables: [&[BlockId]; 2] = [&[8, 0, 5, 2, 7, 1], &[6, 4]];
    let long = (3 * block_size + block_size / 2).min(72);
    let short = (block_size + 1).min(5);
    let mut tokens: Vec<(u32, u32)> = (0..long as u32).map(|position| (position, 0)).collect();
    tokens.extend((0..short as u32).map(|position| (position, 1)));
    let filled = tokens.len() + 2;

    let width = (heads + 2 * kv_heads) * head_dim;
    let qkv = numbers(&[filled as i32, width as i32], kernels.dtype())?;
    let pool = mlx_rs::ops::zeros_dtype(&[layout.slots() as i32, head_dim as i32], kernels.dtype())?;
    pool.eval()?;
    let layer = LayerNumbers {
        frequencies: (0..head_dim / 2).map(|i| 0.9f32.powi(i as i32)).collect(),
        magnitude: 1.25,
        norms: norms.then(|| (vec![1.5; head_dim], vec![0.75; head_dim], 1e-6)),
    };
    let after = Array::from_slice(&[0u32], &[1]);
    let plan = PagePlan::new(&layout, &tokens, &tables, filled).array(&after)?;
    let stored = kernels.store(&qkv, &pool, &plan, &kernels.numbers(&layer)?)?;
    let mixed = floats(&kernels.attend(&stored.queries, &pool, &plan)?)?;
    let (queries, stored) = (floats(&stored.queries)?, floats(&pool)?);

    let own = |token: usize, head: usize| (token * heads + head) * head_dim;
    let slot = |token: usize, head: usize| -> Result<usize> {
        let (position, table) = tokens[token];
        let slot = layout.slot(head, tables[table as usize], position as usize);
        Ok(slot.ok_or_else(|| Error::internal("a check outside its blocks"))? * head_dim)
    };
    let input = floats(&qkv)?;
    for (token, &(position, _)) in tokens.iter().enumerate() {
        for head in 0..heads + 2 * kv_heads {
            let raw = &input[token * width + head * head_dim..][..head_dim];
            let expected = head_of(raw, head, position, &layer, kernels.shape());
            let got = match head < heads {
                true => &queries[own(token, head)..][..head_dim],
                false => &stored[slot(token, head - heads)?..][..head_dim],
            };
            compare("heads", got, &expected, kernels.dtype())?;
        }
    }
    for (token, &(position, _)) in tokens.iter().enumerate() {
        let first = token - position as usize;
        for head in 0..heads {
            let key = head / (heads / kv_heads);
            let rows = |of: usize| (first..=token).map(|t| slot(t, of)).collect::<Result<Vec<usize>>>();
            let expected = attention(
                &queries[own(token, head)..][..head_dim],
                &stored,
                &rows(key)?,
                &rows(kv_heads + key)?,
            );
            compare("attention", &mixed[own(token, head)..][..head_dim], &expected, kernels.dtype())?;
        }
    }
    Ok(())
}

/// A head as it should be stored.
fn head_of(raw: &[f32], head: usize, position: u32, layer: &LayerNumbers, shape: &PagedShape) -> Vec<f32> {
    let mut x = raw.to_vec();
    if head >= shape.heads + shape.kv_heads {
        return x;
    }
    if let Some((queries, keys, eps)) = &layer.norms {
        let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
        let weights = if head < shape.heads { queries } else { keys };
        x.iter_mut().zip(weights).for_each(|(x, weight)| *x *= weight / (mean + eps).sqrt());
    }
    if shape.turns {
        let half = x.len() / 2;
        for (i, frequency) in layer.frequencies.iter().enumerate() {
            let (sine, cosine) = (position as f32 * frequency).sin_cos();
            let (own, other) = (x[i], x[half + i]);
            x[i] = (own * cosine - other * sine) * layer.magnitude;
            x[half + i] = (own * sine + other * cosine) * layer.magnitude;
        }
    }
    x
}

/// Of one query over keys and values that begin at these places.
fn attention(query: &[f32], stored: &[f32], keys: &[usize], values: &[usize]) -> Vec<f32> {
    let dot = |at: usize| query.iter().zip(&stored[at..]).map(|(a, b)| a * b).sum::<f32>();
    let scores: Vec<f32> = keys.iter().map(|&at| dot(at) / (query.len() as f32).sqrt()).collect();
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|score| (score - top).exp()).collect();
    let total: f32 = weights.iter().sum();
    let mut mixed = vec![0.0; query.len()];
    for (weight, &at) in weights.iter().zip(values) {
        mixed.iter_mut().zip(&stored[at..]).for_each(|(mixed, value)| *mixed += weight / total * value);
    }
    mixed
}
