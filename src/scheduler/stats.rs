//! What the scheduler counts.

use crate::cache::BlockCounts;

/// Counts since the scheduler was made, and what there is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerStats {
    /// Sequences in the queue now, preempted ones included.
    pub waiting: usize,
    /// Sequences with pages now.
    pub running: usize,
    /// Steps planned.
    pub steps: u64,
    /// Tokens run in prefill rows, those computed again after preemption included.
    pub prefill_tokens: u64,
    /// Tokens run in decode rows.
    pub decode_tokens: u64,
    /// Sequences looked up in the prefix index, each once, when first admitted.
    pub prefix_queries: u64,
    /// Those that found at least one token.
    pub prefix_hits: u64,
    /// Tokens they found: prefill saved.
    pub prefix_tokens: u64,
    /// Full blocks they found, shared instead of allocated.
    pub shared_blocks: u64,
    /// Blocks copied because only their first tokens are shared.
    pub copied_blocks: u64,
    /// Sequences that lost their pages to others and started over.
    pub preemptions: u64,
    /// Blocks of the pool.
    pub blocks: BlockCounts,
}
