//! Log-probabilities of tokens under the model's own logits, computed for the rows that ask.

use mlx_rs::ops;

use super::indices;
use crate::error::{Error, Result};
use crate::mlx::{self, Array, Dtype};
use crate::sampling::{MAX_TOP_LOGPROBS, TokenLogprobs};

/// Log-probabilities on their way from the device.
pub struct DeviceLogprobs {
    /// `[rows, 1]`.
    chosen: Array,
    /// The most likely tokens and theirs, `[rows, n]` each, in no order, if anybody wants them.
    top: Option<(Array, Array)>,
}

impl DeviceLogprobs {
    /// Those of `tokens` `[rows]` under `logits` `[rows, vocab]`, and if `top`, of the most likely ones. How many
    /// of these a row wants changes nothing in what is computed.
    pub fn new(logits: &Array, tokens: &Array, top: bool) -> Result<DeviceLogprobs> {
        let logits = logits.as_dtype(Dtype::Float32)?;
        let total = logits.logsumexp_axis(-1, true)?;
        let own = logits.take_along_axis(tokens.reshape(&[-1, 1])?, -1)?;
        let chosen = ops::subtract(own, &total)?;
        let n = (MAX_TOP_LOGPROBS as i32).min(logits.dim(1));
        let top = match top {
            false => None,
            true => {
                let order = ops::argpartition_axis(ops::negative(&logits)?, n - 1, -1)?;
                let ids = mlx::columns(&order, n)?.as_dtype(Dtype::Uint32)?;
                let values = ops::subtract(logits.take_along_axis(&ids, -1)?, total)?;
                Some((ids, values))
            }
        };
        Ok(DeviceLogprobs { chosen, top })
    }

    /// As [`DeviceLogprobs::new`], for these rows of the logits and of all rows' tokens.
    pub fn of_rows(logits: &Array, tokens: &Array, rows: &[usize], top: bool) -> Result<DeviceLogprobs> {
        let tokens = tokens.take_axis(indices(rows)?, 0)?;
        Self::new(&super::pick(logits, rows)?, &tokens, top)
    }

    /// What has to be evaluated.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        std::iter::once(&self.chosen).chain(self.top.iter().flat_map(|(ids, values)| [ids, values]))
    }

    /// Waits for them, and gives each row as many of the most likely as it wants.
    pub fn read(&self, wanted: impl Iterator<Item = u32>) -> Result<Vec<TokenLogprobs>> {
        let chosen = read(&self.chosen)?;
        let top = match &self.top {
            Some((ids, values)) => {
                ids.eval()?;
                let ids = ids.contiguous()?.to_vec_exact::<u32>();
                let ids = ids.map_err(|e| Error::internal(format!("reading log-probabilities: {e}")))?;
                let values = read(values)?;
                let n = values.len() / chosen.len().max(1);
                Some((ids, values, n))
            }
            None => None,
        };
        let row = |(i, wanted): (usize, u32)| {
            let candidates = match &top {
                Some((ids, values, n)) if wanted > 0 => {
                    let own = i * n..(i + 1) * n;
                    ids[own.clone()].iter().copied().zip(values[own].iter().copied()).collect()
                }
                _ => Vec::new(),
            };
            TokenLogprobs::new(chosen[i], candidates, wanted)
        };
        Ok(wanted.take(chosen.len()).enumerate().map(row).collect())
    }
}

fn read(values: &Array) -> Result<Vec<f32>> {
    let values = values.contiguous()?;
    values.eval()?;
    values.to_vec_exact::<f32>().map_err(|e| Error::internal(format!("reading log-probabilities: {e}")))
}
