//! One sequence, as the scheduler sees it.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Instant;

use crate::cache::{BlockHashes, BlockId, BlockTable, Parent, SnapshotId};
use crate::scheduler::SequenceId;

/// A request's token stream, to be scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSequence {
    /// Its name: never used before.
    pub id: SequenceId,
    /// Tokens to compute first, at least one.
    pub prompt: Vec<u32>,
    /// Tokens to sample, at least one.
    pub max_new_tokens: u32,
    /// Larger goes first.
    pub priority: i32,
    /// The scheduler drops the sequence at the first plan at or after this time.
    pub deadline: Option<Instant>,
    /// Prefixes are shared only between equal salts. An adapter that changes keys or values belongs in
    /// here too.
    pub salt: Vec<u8>,
}

/// The order of everything: higher priority first, then earlier arrival. Unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub priority: Reverse<i32>,
    pub arrival: u64,
}

/// Where a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the queue, without pages: new, or preempted.
    Waiting,
    /// Has a slot and pages.
    Running,
    /// Has lost its pages with nothing left to compute: its last token is in flight.
    Drained,
}

/// Waiting until another sequence has computed a block that this one can share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SharedWait {
    /// Which of this sequence's blocks.
    pub block: usize,
    /// Who computes it.
    pub owner: SequenceId,
}

/// A recurrent state saved by a step, for a block that is not indexed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SavedState {
    /// After how many of the sequence's blocks.
    pub blocks: usize,
    pub snapshot: SnapshotId,
    /// It takes the place of the sequence's latest.
    pub replaces: bool,
}

#[derive(Debug)]
pub(super) struct Sequence {
    pub rank: Rank,
    pub deadline: Option<Instant>,
    pub max_new_tokens: u32,
    pub prompt_len: usize,
    /// The prompt and every sampled token that is known.
    pub tokens: Vec<u32>,
    /// Samples planned, those in flight included.
    pub sampled: u32,
    /// Positions whose pages are written, by the steps planned so far.
    pub computed: usize,
    pub place: Place,
    /// Meaningful while running.
    pub slot: u32,
    pub table: BlockTable,
    /// Blocks it still needs for the tokens it was admitted with, set aside for it.
    pub promised: u32,
    pub hashes: BlockHashes,
    /// The index node of block `indexed - 1`, or the root.
    pub tip: Parent,
    /// Leading full blocks whose tokens are in the index.
    pub indexed: usize,
    /// Full blocks it is going to compute, announced to others.
    pub announced: Range<usize>,
    pub waits_for: Option<SharedWait>,
    /// After how many blocks its recurrent state is to be kept, ascending.
    pub wanted: Vec<usize>,
    pub saved: Vec<SavedState>,
    /// The block with the last state kept as it generated.
    pub latest: Option<(BlockId, SnapshotId)>,
    /// The last plan that gave it a row; at admission, the plan before.
    pub last_row: u64,
    /// Has been admitted before: it is not counted again as a prefix query.
    pub started: bool,
}

impl Sequence {
    /// Samples planned whose token is not known yet.
    pub fn in_flight(&self) -> usize {
        self.prompt_len + self.sampled as usize - self.tokens.len()
    }

    /// Tokens to run before the next one can be sampled, one in flight included.
    pub fn left(&self) -> usize {
        self.prompt_len + self.sampled as usize - self.computed
    }

    /// Every sample is planned: nothing is left to run.
    pub fn is_drained(&self) -> bool {
        self.sampled == self.max_new_tokens
    }

    /// Only its latest token is left to run.
    pub fn is_decoding(&self) -> bool {
        self.sampled > 0 && self.left() == 1
    }

    /// Leading positions whose pages are written (or will be, by steps planned so far) and whose tokens
    /// are known.
    pub fn known_computed(&self) -> usize {
        self.computed.min(self.tokens.len())
    }
}
