//! What kernels are compared with before they are used: the same on the host, in float32.

use super::{LayerNumbers, Packed, PageKernels, PagePlan, PagedShape, QuantizedProduct, SwiGlu};
use crate::cache::{BlockId, PageLayout};
use crate::error::{Error, Result, Status};
use crate::mlx::{Array, Dtype};

/// How far a kernel's numbers of size 1 may be from those in float32.
fn tolerance(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::Bfloat16 => 0.01,
        Dtype::Float16 => 0.002,
        _ => 0.0002,
    }
}

/// An error if a kernel's numbers differ from those expected.
pub(super) fn compare(what: &str, got: &[f32], expected: &[f32], dtype: Dtype) -> Result<()> {
    let off = |(a, b): (&f32, &f32)| {
        let difference = (a - b).abs() / b.abs().max(1.0);
        if difference.is_nan() { f32::INFINITY } else { difference }
    };
    let worst = got.iter().zip(expected).map(off).fold(0.0, f32::max);
    if got.len() != expected.len() || worst > tolerance(dtype) {
        return Err(Error::new(Status::DeviceError, format!("its {what} are off by {worst}")));
    }
    Ok(())
}

/// Numbers in (-1, 1) to check with, the same each time.
pub(super) fn numbers(shape: &[i32], dtype: Dtype) -> Result<Array> {
    let count: i32 = shape.iter().product();
    let mut state = 1u32;
    let values: Vec<f32> = (0..count)
        .map(|_| {
            // Numerical Recipes' linear congruential generator.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Ok(Array::from_slice(&values, shape).as_dtype(dtype)?)
}

/// An array's numbers.
pub(super) fn floats(array: &Array) -> Result<Vec<f32>> {
    let array = array.as_dtype(Dtype::Float32)?;
    array.to_vec_exact().map_err(|e| Error::internal(format!("reading a kernel's output: {e}")))
}

/// Some rows, the last columns not a whole group.
pub(super) fn swiglu(kernel: &SwiGlu) -> Result<()> {
    let width = kernel.width() as usize;
    let both = numbers(&[3, 2 * kernel.width()], kernel.dtype())?;
    let got = floats(&kernel.forward(&both)?)?;
    let mut expected = Vec::with_capacity(got.len());
    for row in floats(&both)?.chunks_exact(2 * width) {
        let (gate, up) = row.split_at(width);
        expected.extend(gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up));
    }
    compare("numbers", &got, &expected, kernel.dtype())
}

/// One row, some, and as many as it takes, with a matrix whose groups do not divide evenly; and some experts.
pub(super) fn product(kernel: &QuantizedProduct) -> Result<()> {
    let (bits, group) = kernel.packing();
    let (stack, rows, columns) = (3, 48, 640usize.next_multiple_of(group));
    let shape = |width: usize| [stack as i32, rows as i32, width as i32];
    let words: Vec<u32> = (0..(stack * rows * columns * bits / 32) as u32)
        .map(|i| i.wrapping_mul(2_654_435_761).rotate_left(i % 32))
        .collect();
    let weight = Array::from_slice(&words, &shape(columns * bits / 32));
    let scales = numbers(&shape(columns / group), Dtype::Float32)?;
    let scales = mlx_rs::ops::multiply(scales, Array::from_f32(1.0 / (1 << bits) as f32))?;
    let scales = scales.as_dtype(kernel.dtype())?;
    let biases = numbers(&shape(columns / group), kernel.dtype())?;

    let (all_scales, all_biases) = (floats(&scales)?, floats(&biases)?);
    let element = |i: usize| {
        // Elements follow each other bit by bit.
        let (word, bit) = (i * bits / 32, i * bits % 32);
        let next = words.get(word + 1).copied().unwrap_or(0);
        let both = u64::from(words[word]) | u64::from(next) << 32;
        let packed = (both >> bit) as u32 & ((1 << bits) - 1);
        all_scales[i / group] * packed as f32 + all_biases[i / group]
    };
    let dense: Vec<f32> = (0..stack * rows * columns).map(element).collect();
    let expected = |x: &[f32], expert: usize| -> Vec<f32> {
        let matrix = dense[expert * rows * columns..][..rows * columns].chunks_exact(columns);
        matrix.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    };

    let first = |array: &Array| {
        Ok::<_, Error>(array.take_axis(Array::from_slice(&[0u32], &[1]), 0)?.squeeze_axes(&[0])?)
    };
    let (one, own_scales, own_biases) = (first(&weight)?, first(&scales)?, first(&biases)?);
    let packed = Packed { weight: &one, scales: &own_scales, biases: &own_biases };
    for count in [1, 5, 8, 13, 32] {
        let x = numbers(&[count, columns as i32], kernel.dtype())?;
        let got = floats(&kernel.multiply(&x, packed)?)?;
        let expected: Vec<f32> = floats(&x)?.chunks_exact(columns).flat_map(|x| expected(x, 0)).collect();
        compare("products", &got, &expected, kernel.dtype())?;
    }
    let packed = Packed { weight: &weight, scales: &scales, biases: &biases };
    let which = [2usize, 0, 1, 1, 0, 2];
    let experts = Array::from_slice(&which.map(|expert| expert as u32), &[3, 2]);
    for given in [3, 6] {
        let x = numbers(&[given, 1, columns as i32], kernel.dtype())?;
        let got = kernel.gather(&x, packed, &experts)?;
        let x = floats(&x)?;
        let row = |pair: usize| &x[pair * given as usize / which.len() * columns..][..columns];
        let expected: Vec<f32> =
            which.iter().enumerate().flat_map(|(pair, &expert)| expected(row(pair), expert)).collect();
        compare("products of experts", &floats(&got)?, &expected, kernel.dtype())?;
    }
    Ok(())
}

/// A prompt of some blocks, a short one, and tokens that only fill up.
pub(super) fn pages(kernels: &PageKernels) -> Result<()> {
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
