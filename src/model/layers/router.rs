//! Which experts a token goes to.

use mlx_rs::ops;
use mlx_rs::ops::indexing::{put_along_axis, take_along_axis, topk_axis};

use super::Linear;
use crate::error::Result;
use crate::mlx::{self, Array, Dtype};
use crate::model::{Routing, Scoring};

/// Keeps a sum of sigmoids that are all zero from dividing by zero.
const LEAST_SUM: f32 = 1e-20;

/// Chooses a row's experts by a linear layer's outputs, one for each expert.
pub struct Router {
    gate: Linear,
    /// Added to the scores for the choice, not in the weights. `[experts]`, float32.
    correction: Option<Array>,
    routing: Routing,
}

/// The experts of each row, `k` of them in no particular order, and what weight each has.
pub struct Routes {
    /// `[rows, k]`, unsigned 32-bit.
    pub experts: Array,
    /// `[rows, k]`; float32 where scores are sigmoids, else of the type that the router's outputs have.
    pub weights: Array,
}

impl Router {
    /// From the layer that scores and, for some families, a correction of the scores.
    pub fn new(gate: Linear, correction: Option<Array>, routing: &Routing) -> Router {
        Router { gate, correction, routing: routing.clone() }
    }

    /// Rows `[rows, hidden]` to their experts.
    pub fn forward(&self, x: &Array) -> Result<Routes> {
        self.route(&self.gate.forward(x)?)
    }

    /// Of the scoring layer's outputs `[rows, experts]`.
    fn route(&self, outputs: &Array) -> Result<Routes> {
        let scores = match self.routing.scoring {
            Scoring::Softmax => ops::softmax_axis(outputs, -1, true)?,
            Scoring::SoftmaxOfChosen => outputs.clone(),
            Scoring::Sigmoid => ops::sigmoid(outputs.as_dtype(Dtype::Float32)?)?,
        };
        let choice = match &self.correction {
            Some(correction) => ops::add(&scores, correction)?,
            None => scores.clone(),
        };
        let choice = if self.routing.groups > 1 { self.within_groups(&choice)? } else { choice };
        let experts = self.best(&choice)?;
        let mut weights = take_along_axis(&scores, &experts, -1)?;
        if self.routing.scoring == Scoring::SoftmaxOfChosen {
            weights = ops::softmax_axis(&weights, -1, true)?;
        }
        if self.routing.normalize {
            weights = self.normalized(&weights)?;
        }
        if self.routing.scale != 1.0 {
            weights = ops::multiply(&weights, scalar(self.routing.scale, weights.dtype())?)?;
        }
        Ok(Routes { experts, weights })
    }

    /// The indices of the largest. Equal ones are told apart as mlx-lm does in the same family.
    fn best(&self, choice: &Array) -> Result<Array> {
        let k = self.routing.per_token as i32;
        match self.routing.scoring {
            Scoring::Softmax => {
                let from = choice.dim(-1) - k;
                mlx::last_columns(&ops::argpartition_axis(choice, from, -1)?, from)
            }
            Scoring::SoftmaxOfChosen | Scoring::Sigmoid => {
                let falling = choice.negative()?;
                mlx::columns(&ops::argpartition_axis(&falling, k - 1, -1)?, k)
            }
        }
    }

    /// The scores with those of all groups but the best set to zero: a group is as good as the sum of its two
    /// best (DeepSeek-V3, arXiv:2412.19437, section 2.1.2).
    fn within_groups(&self, scores: &Array) -> Result<Array> {
        let (groups, refused) =
            (self.routing.groups as i32, (self.routing.groups - self.routing.groups_used) as i32);
        if refused == 0 {
            return Ok(scores.clone());
        }
        let rows = scores.dim(0);
        let grouped = scores.reshape(&[rows, groups, -1])?;
        let merit = topk_axis(&grouped, 2, -1)?.sum_axis(-1, false)?;
        let worst = mlx::columns(&ops::argpartition_axis(&merit, refused - 1, -1)?, refused)?;
        let limited = put_along_axis(&grouped, worst.expand_dims(-1)?, scalar(0.0, scores.dtype())?, 1)?;
        Ok(limited.reshape(&[rows, -1])?)
    }

    fn normalized(&self, weights: &Array) -> Result<Array> {
        let sum = weights.sum_axis(-1, true)?;
        match self.routing.scoring {
            // One sigmoid stays what it is.
            Scoring::Sigmoid if self.routing.per_token == 1 => Ok(weights.clone()),
            Scoring::Sigmoid => {
                let sum = ops::add(&sum, scalar(LEAST_SUM, sum.dtype())?)?;
                Ok(ops::divide(weights, sum)?)
            }
            Scoring::Softmax | Scoring::SoftmaxOfChosen => Ok(ops::divide(weights, sum)?),
        }
    }
}

fn scalar(value: f32, dtype: Dtype) -> Result<Array> {
    Ok(Array::from_f32(value).as_dtype(dtype)?)
}

#[cfg(test)]
mod tests;
