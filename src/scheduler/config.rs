//! Limits of a scheduler.

use crate::error::{Error, Result};

/// How much may run at once, and in how many pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Sequences that run at the same time, at least 1: the rows of a step, and the runner's slots.
    pub max_sequences: usize,
    /// Sequences that wait, at least 1; one more is refused with `QueueFull`.
    pub max_waiting: usize,
    /// Tokens in a step, more than `max_sequences`: a decode row counts one, a prefill row its chunk.
    /// The larger, the faster prompts are read and the longer streaming requests wait meanwhile.
    pub max_step_tokens: usize,
    /// Tokens of one prompt in a step, at least 1.
    pub max_prefill_chunk: usize,
    /// Token slots in a block: a power of two, at most [`crate::cache::MAX_BLOCK_SIZE`].
    pub block_size: u32,
    /// Blocks in the pool, at least 1.
    pub num_blocks: u32,
    /// Tokens of a sequence, prompt and output together, at least 2.
    pub max_context: usize,
    /// Whether sequences share equal prefixes.
    pub prefix_sharing: bool,
    /// Snapshots of recurrent states; `None` for a model without recurrent layers.
    pub snapshots: Option<u32>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        SchedulerConfig {
            max_sequences: 256,
            max_waiting: 4096,
            max_step_tokens: 2048,
            max_prefill_chunk: 2048,
            block_size: 16,
            num_blocks: 4096,
            max_context: 32_768,
            prefix_sharing: true,
            snapshots: None,
        }
    }
}

impl SchedulerConfig {
    /// Refuses limits under which nothing, or not everything, could run; names the field.
    pub fn validate(&self) -> Result<()> {
        let at_least = |name: &str, value: usize, least: usize| {
            if value < least {
                return Err(Error::argument(format!("{name} is {value}, want at least {least}")));
            }
            Ok(())
        };
        at_least("max_sequences", self.max_sequences, 1)?;
        at_least("max_waiting", self.max_waiting, 1)?;
        at_least("max_prefill_chunk", self.max_prefill_chunk, 1)?;
        at_least("max_context", self.max_context, 2)?;
        if u32::try_from(self.max_sequences).is_err() || u32::try_from(self.max_context).is_err() {
            return Err(Error::argument("max_sequences and max_context must fit into 32 bits"));
        }
        if self.max_step_tokens <= self.max_sequences {
            return Err(Error::argument(format!(
                "max_step_tokens is {}, want more than max_sequences ({}), or prompts could not progress \
                 beside a full batch",
                self.max_step_tokens, self.max_sequences
            )));
        }
        Ok(())
    }
}
