//! What is before and behind a model's layers, and what all of them share.

use super::{Embedding, Matrix, RmsNorm, Rope};
use crate::error::Result;
use crate::mlx::{Array, Dtype};

/// The ends of every model here, whatever its layers are.
pub struct Ends {
    /// Tokens to the residual stream.
    pub embedding: Embedding,
    /// Of the stream behind the last layer.
    pub norm: RmsNorm,
    /// What follows on that, `[vocab, hidden]`.
    pub output: Matrix,
    /// The rotation of queries and keys.
    pub rope: Rope,
    /// The type that is computed in.
    pub dtype: Dtype,
    /// Whether matrices are held as floats.
    pub dense: bool,
}

impl Ends {
    /// The logits of these rows `[n]`, or of all, of the stream behind the last layer, `[rows, hidden]`: `[n, vocab]`.
    pub fn logits(&self, hidden: &Array, rows: Option<&Array>) -> Result<Array> {
        let hidden = match rows {
            Some(rows) => &hidden.take_axis(rows, 0)?,
            None => hidden,
        };
        self.output.multiply(&self.norm.forward(hidden)?)
    }
}
