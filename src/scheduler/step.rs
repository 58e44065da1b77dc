//! What one step computes: the scheduler's plan, in ids alone.

use std::sync::Arc;

use crate::cache::{BlockCopy, BlockId, StateCopy, StateSave};

/// Names one sequence (a request's token stream) for as long as it lives.
pub type SequenceId = u64;

/// Where a row's input tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowInput {
    /// These tokens, known on the host: a chunk of a prompt, or of a sequence being recomputed.
    Tokens(Vec<u32>),
    /// The one token sampled last for the same slot; it may still be on the device.
    Sampled,
}

/// One sequence's part of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The sequence.
    pub id: SequenceId,
    /// Its slot, in `0..max_sequences`: per-sequence device state lives there. No two rows of a step
    /// share one, and a sequence keeps its slot while it runs.
    pub slot: u32,
    /// The tokens to run.
    pub input: RowInput,
    /// Position of the first input token: how many tokens the pages hold before it, and how many the slot's
    /// recurrent state has seen. At 0 there is none.
    pub start: u32,
    /// The sequence's block table: covers positions `0..start + input length`, and may go further. Steps
    /// share it while it does not grow, so equal pointers mean an equal table.
    pub blocks: Arc<[BlockId]>,
    /// Whether to sample a token after the last input token. False for all but a prompt's last chunk.
    pub samples: bool,
    /// How many tokens the sequence has sampled before this row's; numbers the draws.
    pub sampled_before: u32,
}

impl Row {
    /// How many tokens go in.
    pub fn input_len(&self) -> usize {
        match &self.input {
            RowInput::Tokens(tokens) => tokens.len(),
            RowInput::Sampled => 1,
        }
    }
}

/// One step: page copies and restored states, then all rows at once. Decode rows come first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Rows, at most one per sequence.
    pub rows: Vec<Row>,
    /// Copies that precede the rows' writes.
    pub copies: Vec<BlockCopy>,
    /// Recurrent states that are brought back before the rows run: at most one for each slot.
    pub restores: Vec<StateCopy>,
    /// Recurrent states to keep, of those the rows pass through.
    pub saves: Vec<StateSave>,
}
