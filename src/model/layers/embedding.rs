//! Token embedding, and the output projection that may share its matrix.

use super::Matrix;
use crate::error::Result;
use crate::mlx::{Array, Dtype};

/// A row per token.
pub struct Embedding {
    matrix: Matrix,
}

impl Embedding {
    /// From `[vocab, hidden]`.
    pub fn new(matrix: Matrix) -> Embedding {
        Embedding { matrix }
    }

    /// Tokens `[rows]` to `[rows, hidden]`.
    pub fn forward(&self, tokens: &Array) -> Result<Array> {
        self.matrix.take_rows(tokens)
    }

    /// The type of what comes out, which is what the model computes in.
    pub fn dtype(&self) -> Dtype {
        self.matrix.dtype()
    }

    /// Its matrix, for an output projection tied to it.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }
}
