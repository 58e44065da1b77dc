//! Rotary position embedding of rows that each have their own position.

use mlx_rs::ops;

use super::{HeadNorms, Kernels};
use crate::error::Result;
use crate::mlx::{Array, Dtype, upload};
use crate::model::{ModelConfig, RopeConfig};

/// Rotates queries and keys.
pub struct Rope {
    inverse_frequencies: Vec<f64>,
    /// `1 / inverse_frequencies`, as MLX's kernel wants them.
    periods: Array,
    magnitude: f64,
    shape: Heads,
    /// Whether positions turn anything at all: some models do without.
    turns: bool,
    /// Whether MLX's kernel does it (GPU), or tables made once a step (CPU, where that kernel is a
    /// dozen operations).
    fused: bool,
}

/// How a row of queries, keys and values divides.
#[derive(Clone, Copy)]
struct Heads {
    queries: usize,
    keys: usize,
    dim: usize,
}

/// Where a step's rows stand, in the form the rotation wants.
pub enum Angles {
    /// For the kernel: positions `[rows]`, 32-bit integers.
    Positions(Array),
    /// What elements and their counterparts are multiplied by, both `[rows, heads, 2, head_dim / 2]`.
    /// Heads are queries (whose factors include the attention's scale), keys, values (1 and 0).
    Factors {
        /// For an element.
        own: Array,
        /// For its counterpart in the other half.
        other: Array,
    },
    /// Nothing turns.
    Absent,
}

impl Rope {
    /// For a model; `factors` is the checkpoint's own tensor, if it has one.
    pub fn new(config: &ModelConfig, factors: Option<&[f32]>, kernels: &Kernels) -> Rope {
        let rope: &RopeConfig = &config.rope;
        let inverse_frequencies = rope.inverse_frequencies(config.head_dim, factors);
        let periods: Vec<f32> = inverse_frequencies.iter().map(|f| (1.0 / f) as f32).collect();
        Rope {
            periods: Array::from_slice(&periods, &[periods.len() as i32]),
            magnitude: rope.magnitude(),
            shape: Heads { queries: config.heads, keys: config.kv_heads, dim: config.head_dim },
            inverse_frequencies,
            turns: true,
            fused: kernels.on_gpu(),
        }
    }

    /// For a model whose attention has no positions.
    pub fn absent(config: &ModelConfig, kernels: &Kernels) -> Rope {
        let still = vec![0.0; config.head_dim / 2];
        let own = Rope::new(config, None, kernels);
        Rope { inverse_frequencies: still, magnitude: 1.0, turns: false, ..own }
    }

    /// Whether positions turn anything.
    pub fn turns(&self) -> bool {
        self.turns
    }

    /// For our own kernels on a GPU: the angle of each pair of elements for a step of one position (radians), and what
    /// rotated heads are multiplied by.
    pub(super) fn frequencies(&self) -> (Vec<f32>, f32) {
        (self.inverse_frequencies.iter().map(|&f| f as f32).collect(), self.magnitude as f32)
    }

    /// Cosines and sines of the rotation at these positions, each `[positions, head_dim / 2]`.
    pub fn tables(&self, positions: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let angles = positions
            .iter()
            .flat_map(|&position| self.inverse_frequencies.iter().map(move |f| f64::from(position) * f));
        angles
            .map(|angle| {
                let (sin, cos) = angle.sin_cos();
                ((cos * self.magnitude) as f32, (sin * self.magnitude) as f32)
            })
            .unzip()
    }

    /// The angles of rows at these positions.
    pub fn angles(&self, positions: &[u32]) -> Result<Angles> {
        if !self.turns {
            return Ok(Angles::Absent);
        }
        if self.fused {
            let positions: Vec<i32> = positions.iter().map(|&p| p as i32).collect();
            return Ok(Angles::Positions(upload(&positions, &[positions.len() as i32])?));
        }
        let Heads { queries, keys, dim } = self.shape;
        let (heads, half) = (queries + 2 * keys, dim / 2);
        let scale = self.magnitude * (dim as f64).powf(-0.5);
        let mut own = Vec::with_capacity(positions.len() * heads * dim);
        let mut other = Vec::with_capacity(own.capacity());
        let mut cos = vec![0.0; half];
        let mut sin = vec![0.0; half];
        for &position in positions {
            for (i, frequency) in self.inverse_frequencies.iter().enumerate() {
                (sin[i], cos[i]) = (f64::from(position) * frequency).sin_cos();
            }
            for head in 0..heads {
                // The first half of a head becomes x1 cos - x2 sin, the second x2 cos + x1 sin.
                let by = if head < queries { scale } else { self.magnitude };
                if head < queries + keys {
                    own.extend(cos.iter().chain(&cos).map(|c| (c * by) as f32));
                    other.extend(sin.iter().map(|s| (-s * by) as f32));
                    other.extend(sin.iter().map(|s| (s * by) as f32));
                } else {
                    own.resize(own.len() + dim, 1.0);
                    other.resize(other.len() + dim, 0.0);
                }
            }
        }
        let shape = [positions.len() as i32, heads as i32, 2, half as i32];
        let (own, other) = (Array::from_slice(&own, &shape), Array::from_slice(&other, &shape));
        Ok(Angles::Factors { own, other })
    }

    /// Rotates a step's queries, keys and values `[rows, (queries + 2 keys) * dim]`, normalized first if there are
    /// `norms`; values stay. With factors, or where nothing turns on a CPU, the queries also get the attention's
    /// scale; else they do not.
    ///
    /// Returns queries `[rows, queries, dim]` and keys with values `[rows, 2 keys, dim]`.
    pub fn rotate(
        &self,
        qkv: &Array,
        norms: Option<&HeadNorms>,
        angles: &Angles,
        dtype: Dtype,
    ) -> Result<(Array, Array)> {
        let Heads { queries, keys, dim } = self.shape;
        let (heads, dim, queries, keys) =
            ((queries + 2 * keys) as i32, dim as i32, queries as i32, keys as i32);
        let x = qkv.reshape(&[-1, heads, 1, dim])?;
        match angles {
            Angles::Factors { own, other } => {
                let x = self.normalize(x, norms)?.reshape(&[-1, heads, 2, dim / 2])?;
                let swapped = x.flip(mlx_rs::Axes::Axis(2))?;
                let turned = ops::add(ops::multiply(&x, own)?, ops::multiply(swapped, other)?)?;
                let parts = turned.reshape(&[-1, heads, dim])?.split_at_indices(&[queries], 1)?;
                super::pair(parts)
            }
            Angles::Absent => {
                let x = self.normalize(x, norms)?.reshape(&[-1, heads, dim])?;
                let (q, kv) = super::pair(x.split_at_indices(&[queries], 1)?)?;
                if self.fused {
                    return Ok((q, kv));
                }
                let scale = Array::from_f32((dim as f32).powf(-0.5)).as_dtype(dtype)?;
                Ok((ops::multiply(q, scale)?, kv))
            }
            Angles::Positions(positions) => {
                let (mut rotated, values) = super::pair(x.split_at_indices(&[queries + keys], 1)?)?;
                // MLX 0.32's kernel for CUDA gives a part of an array, as a split leaves it, too little memory, and
                // writes behind it; so the part is copied.
                rotated = match norms {
                    Some(norms) => norms.forward(&rotated)?,
                    None => rotated.contiguous()?,
                };
                let mut rotated =
                    mlx_rs::fast::rope_dynamic(rotated, dim, false, None, 1.0, positions, &self.periods)?;
                if self.magnitude != 1.0 {
                    let by = Array::from_f32(self.magnitude as f32).as_dtype(dtype)?;
                    rotated = ops::multiply(rotated, by)?;
                }
                let (q, k) = super::pair(rotated.split_at_indices(&[queries], 1)?)?;
                let kv = ops::concatenate(&[k, values], 1)?;
                Ok((q.reshape(&[-1, queries, dim])?, kv.reshape(&[-1, 2 * keys, dim])?))
            }
        }
    }

    /// Normalizes the queries and keys of `x` `[rows, queries + 2 keys, 1, dim]`, if there are `norms`.
    fn normalize(&self, x: Array, norms: Option<&HeadNorms>) -> Result<Array> {
        let Some(norms) = norms else { return Ok(x) };
        let turned = (self.shape.queries + self.shape.keys) as i32;
        let (heads, values) = super::pair(x.split_at_indices(&[turned], 1)?)?;
        Ok(ops::concatenate(&[norms.forward(&heads)?, values], 1)?)
    }
}
