//! What changes logits before anything is chosen: bias, penalties, and what a grammar allows.

use mlx_rs::ops::{self, indexing};

use super::{Choice, column, only};
use crate::error::{Error, Result};
use crate::mlx::{self, Array, Dtype};

/// Whether a row's logits change at all.
pub(super) fn is_needed(row: &Choice<'_>) -> bool {
    let params = row.how.params;
    params.penalties.any()
        || !params.logit_bias.is_empty()
        || !row.how.banned.is_empty()
        || row.allowed.is_some()
}

/// Applies bias and bans, then penalties, then grammars, to `logits` `[rows, vocab]` in 32 bits. Rows that
/// lack one of these keep their logits bit for bit.
pub(super) fn adjust(logits: &Array, rows: &[Choice<'_>], last: &Array) -> Result<Array> {
    let mut logits = biased(logits, rows)?;
    if rows.iter().any(|row| row.how.params.penalties.repetition != 1.0) {
        logits = less_repetition(&logits, rows, last)?;
    }
    if rows.iter().any(|row| row.how.params.penalties.of_answer()) {
        logits = less_of_answer(&logits, rows, last)?;
    }
    if rows.iter().any(|row| row.allowed.is_some()) {
        logits = only(&logits, &allowed(logits.dim(1), rows)?)?;
    }
    Ok(logits)
}

/// Numbers to add at places of a matrix.
struct Additions {
    vocab: u32,
    places: Vec<u32>,
    values: Vec<f32>,
    /// Rows, and the slots whose last token is a place there, with 1 to add.
    on_device: (Vec<u32>, Vec<u32>),
}

impl Additions {
    fn new(vocab: i32) -> Self {
        Additions {
            vocab: vocab as u32,
            places: Vec::new(),
            values: Vec::new(),
            on_device: Default::default(),
        }
    }

    /// The token is inside the vocabulary.
    fn push(&mut self, row: usize, token: u32, value: f32) {
        self.places.push(row as u32 * self.vocab + token);
        self.values.push(value);
    }

    fn count(&mut self, row: usize, tokens: &[u32], on_device: Option<u32>) {
        tokens.iter().for_each(|&token| self.push(row, token, 1.0));
        if let Some(slot) = on_device {
            self.on_device.0.push(row as u32 * self.vocab);
            self.on_device.1.push(slot);
        }
    }

    /// Adds them to a matrix.
    fn to(mut self, matrix: &Array, last: Option<&Array>) -> Result<Array> {
        // Few shapes: filled up to a power of two with zeros to add.
        let filled = self.places.len().next_power_of_two();
        self.places.resize(filled, 0);
        self.values.resize(filled, 0.0);
        let (bases, slots) = self.on_device;
        let count = bases.len() as i32;
        let mut places = Array::from_slice(&self.places, &[filled as i32]);
        if let Some(last) = last.filter(|_| count > 0) {
            let tokens = last.take_axis(Array::from_slice(&slots, &[count]), 0)?;
            let own = ops::add(tokens, Array::from_slice(&bases, &[count]))?;
            places = ops::concatenate(&[places, own], 0)?;
            self.values.resize(filled + bases.len(), 1.0);
        }
        let values = Array::from_slice(&self.values, &[self.values.len() as i32, 1]);
        let shape = matrix.shape().to_vec();
        let sums = indexing::scatter_add_single(matrix.reshape(&[-1])?, places, values, 0)?;
        Ok(sums.reshape(&shape)?)
    }
}

fn biased(logits: &Array, rows: &[Choice<'_>]) -> Result<Array> {
    let mut bias = Additions::new(logits.dim(1));
    for (i, row) in rows.iter().enumerate() {
        // A grammar has the last word, and was told of the bans.
        let bans = row.allowed.is_none();
        for &(token, value) in &row.how.params.logit_bias {
            if bans || value.is_finite() {
                bias.push(i, token, value);
            }
        }
        let banned = if bans { row.how.banned } else { &[] };
        banned.iter().for_each(|&token| bias.push(i, token, f32::NEG_INFINITY));
    }
    if bias.places.is_empty() { Ok(logits.clone()) } else { bias.to(logits, None) }
}

/// How often each token is in the rows' windows: `[rows, vocab]`. With `prompt`, those of the prompt count.
fn counts(
    like: &Array,
    rows: &[Choice<'_>],
    last: &Array,
    prompt: bool,
    wants: impl Fn(&Choice<'_>) -> bool,
) -> Result<Array> {
    let mut found = Additions::new(like.dim(1));
    for (i, row) in rows.iter().enumerate().filter(|(_, row)| wants(row)) {
        let (tokens, of_prompt) = row.how.window(usize::from(row.on_device.is_some()));
        found.count(i, &tokens[if prompt { 0 } else { of_prompt }..], row.on_device);
    }
    found.to(&ops::zeros_dtype(like.shape(), Dtype::Float32)?, Some(last))
}

fn less_repetition(logits: &Array, rows: &[Choice<'_>], last: &Array) -> Result<Array> {
    let counts = counts(logits, rows, last, true, |row| row.how.params.penalties.repetition != 1.0)?;
    let penalty = column(rows, |p| p.penalties.repetition)?;
    let zero = Array::from_f32(0.0);
    let is_positive = ops::gt(logits, &zero)?;
    let lower = ops::select(is_positive, ops::divide(logits, &penalty)?, ops::multiply(logits, &penalty)?)?;
    Ok(ops::select(ops::gt(counts, zero)?, lower, logits)?)
}

fn less_of_answer(logits: &Array, rows: &[Choice<'_>], last: &Array) -> Result<Array> {
    let counts = counts(logits, rows, last, false, |row| row.how.params.penalties.of_answer())?;
    let frequency = ops::multiply(&counts, column(rows, |p| p.penalties.frequency)?)?;
    let is_there = ops::gt(&counts, Array::from_f32(0.0))?.as_dtype(Dtype::Float32)?;
    let presence = ops::multiply(is_there, column(rows, |p| p.penalties.presence)?)?;
    Ok(ops::subtract(ops::subtract(logits, frequency)?, presence)?)
}

/// Which tokens the rows' grammars allow, `[rows, vocab]`; all where there is none.
fn allowed(vocab: i32, rows: &[Choice<'_>]) -> Result<Array> {
    let words = (vocab as usize).div_ceil(32);
    let mut masks: Vec<u32> = Vec::with_capacity(rows.len() * words);
    for row in rows {
        match row.allowed {
            None => masks.resize(masks.len() + words, u32::MAX),
            Some(mask) if mask.len() == words => masks.extend_from_slice(mask),
            Some(mask) => {
                let len = mask.len();
                return Err(Error::internal(format!("a mask of {len} words for {vocab} tokens")));
            }
        }
    }
    let bits = mlx::bits(&Array::from_slice(&masks, &[rows.len() as i32, words as i32]))?;
    mlx::columns(&bits, vocab)
}
