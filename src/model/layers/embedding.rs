//! Token embedding, and the output projection that may share its matrix.

use super::Matrix;
use crate::error::Result;
use crate::mlx::{Array, Dtype};

/// A row per token.
pub struct Embedding {
    matrix: Matrix,
    dtype: Dtype,
}

impl Embedding {
    /// From `[vocab, hidden]`, and the type the model computes in.
    pub fn new(matrix: Matrix, dtype: Dtype) -> Embedding {
        Embedding { matrix, dtype }
    }

    /// Tokens `[rows]` to `[rows, hidden]`.
    pub fn forward(&self, tokens: &Array) -> Result<Array> {
        self.matrix.take_rows(tokens, self.dtype)
    }

    /// Its matrix, for an output projection tied to it.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }
}
