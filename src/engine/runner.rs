//! The one seam between the engine and what computes: MLX, or the deterministic mock.

use crate::cache::{BlockId, SnapshotId};
use crate::error::{Error, Result, Status};
use crate::sampling::{PromptLogprobs, RowSampling, TokenLogprobs};
use crate::scheduler::{SequenceId, Step};

/// A token sampled for a sequence by one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The row's sequence.
    pub id: SequenceId,
    /// The token.
    pub token: u32,
    /// Its log-probabilities, if they were asked for.
    pub logprobs: Option<Box<TokenLogprobs>>,
}

impl Sampled {
    /// A token without log-probabilities.
    pub fn new(id: SequenceId, token: u32) -> Self {
        Sampled { id, token, logprobs: None }
    }
}

/// [`Runner::least_prompt_tokens`] where the time of a prompt's part grows with its length from the first token on.
pub const LEAST_PROMPT_TOKENS: usize = 2;

/// A row whose token is chosen when the tokens before it are known.
#[derive(Debug, Clone, Copy)]
pub struct Constrained<'a> {
    /// How; every token of its sequence is known to the host. `None` if the sequence has ended: any token
    /// will do.
    pub how: Option<RowSampling<'a>>,
    /// The tokens to choose from, a bit each, lowest bit first, as many words as the vocabulary fills.
    pub allowed: &'a [u32],
}

/// Runs steps, on the engine's own thread (it is created, used and dropped there).
///
/// Steps are pipelined: the engine launches step `n + 1` before it collects step `n`, so launch must
/// not wait for tokens. Everything launched runs in order: a later step sees the pages and sampled
/// tokens of an earlier one.
pub trait Runner {
    /// Starts a step. `how` has one entry a row: how to sample it, or `None` where `row.samples` is false and none
    /// of its tokens is `scored`. Rows that are `constrained` are computed and wait for [`Runner::constrain`]
    /// with their choice.
    ///
    /// An error means that nothing of this step, nor of any later one, can be trusted: the engine
    /// fails the requests in flight, calls [`Runner::reset`] and goes on with the next ones.
    fn launch(&mut self, step: &Step, how: &[Option<RowSampling<'_>>]) -> Result<()>;

    /// Chooses the tokens of the constrained rows of the step launched last, in row order. Called once for each
    /// step that has any, before the next launch; meanwhile the device computes the step.
    fn constrain(&mut self, rows: &[Constrained<'_>]) -> Result<()>;

    /// Waits for the oldest launched, uncollected step and returns its sampled tokens, in row order,
    /// rows that do not sample left out.
    fn collect(&mut self) -> Result<Vec<Sampled>>;

    /// The log-probabilities of prompt tokens that the step collected last has computed.
    fn take_prompt_logprobs(&mut self) -> Vec<(SequenceId, PromptLogprobs)>;

    /// The logits after each of a step's tokens, `[tokens, vocab]` in row order: what sampling would see. For
    /// comparing with other implementations; its rows do not sample, and no step is in flight.
    ///
    /// Errors: `InvalidState` if this runner has no logits, or a step is in flight.
    #[doc(hidden)]
    fn logits(&mut self, step: &Step) -> Result<Vec<f32>> {
        let _ = step;
        Err(Error::new(Status::InvalidState, "this runner has no logits"))
    }

    /// The fewest tokens of a prompt that are worth a step beside decoding rows: where any cost the same, fewer would
    /// only hold up the others more often.
    fn least_prompt_tokens(&self) -> usize {
        LEAST_PROMPT_TOKENS
    }

    /// Drops steps in flight and forgets all pages and slots, after an error.
    fn reset(&mut self) -> Result<()>;

    /// How a block's pages lie in memory, in words: part of the key under which they are saved.
    fn page_format(&self) -> String;

    /// Bytes of a block's pages, all layers together.
    fn block_bytes(&self) -> usize;

    /// A block's pages, as every launched step leaves them.
    fn read_block(&mut self, block: BlockId) -> Result<Vec<u8>>;

    /// Fills a block's pages with what [`Runner::read_block`] gave. No step is in flight.
    fn write_block(&mut self, block: BlockId, pages: &[u8]) -> Result<()>;

    /// Bytes of a snapshot of recurrent states; zero for a model without such.
    fn state_bytes(&self) -> usize {
        0
    }

    /// A snapshot, as every launched step leaves it.
    fn read_state(&mut self, snapshot: SnapshotId) -> Result<Vec<u8>> {
        Err(Error::internal(format!("there is no snapshot {snapshot}")))
    }

    /// Fills a snapshot with what [`Runner::read_state`] gave. No step is in flight.
    fn write_state(&mut self, snapshot: SnapshotId, state: &[u8]) -> Result<()> {
        Err(Error::internal(format!("{} bytes for snapshot {snapshot}, which is not there", state.len())))
    }

    /// Memory in use, for statistics.
    fn memory(&self) -> MemoryUse;
}

/// Bytes in use by a runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// The model's weights, as held.
    pub weights: u64,
    /// The page pool, and the recurrent states there are.
    pub pages: u64,
    /// The allocator's high-water mark since load.
    pub peak: u64,
}
