//! The parts models are made of. Activations are two-dimensional, `[rows, features]`: every token of a
//! step is a row, whichever sequence it belongs to.

mod attention;
mod embedding;
mod linear;
mod mlp;
mod norm;
mod rope;

pub use attention::Attention;
pub use embedding::Embedding;
pub use linear::{Linear, Matrix};
pub use mlp::GatedMlp;
pub use norm::RmsNorm;
pub use rope::{Angles, Rope};

use crate::error::{Error, Result};
use crate::mlx::Array;

/// Halves, thirds, ... of the last axis of a matrix.
fn split<const N: usize>(x: &Array, parts: i32) -> Result<[Array; N]> {
    mlx_rs::ops::split_equal(x, parts, 1)?
        .try_into()
        .map_err(|parts: Vec<Array>| Error::internal(format!("split into {} parts, not {N}", parts.len())))
}

/// The two arrays of a split.
fn pair(parts: Vec<Array>) -> Result<(Array, Array)> {
    let [a, b]: [Array; 2] = parts
        .try_into()
        .map_err(|parts: Vec<Array>| Error::internal(format!("split into {} parts, not 2", parts.len())))?;
    Ok((a, b))
}
