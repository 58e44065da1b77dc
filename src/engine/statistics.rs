//! Counters of an engine, published by its thread after each step.

use super::runner::MemoryUse;

/// A snapshot of what an engine does and has done. The C ABI documents each field (`quire_statistics`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "one list of explanations, in the C ABI")]
pub struct Statistics {
    pub accepted: u64,
    pub finished: u64,
    pub cancelled: u64,
    pub failed: u64,
    pub running: u64,
    pub waiting: u64,
    pub steps: u64,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub generated_tokens: u64,
    pub prefix_hits: u64,
    pub preemptions: u64,
    pub blocks_total: u64,
    pub blocks_free: u64,
    pub blocks_cached: u64,
    pub blocks_in_use: u64,
    pub blocks_allocated: u64,
    pub blocks_shared: u64,
    pub blocks_evicted: u64,
    pub memory: MemoryUse,
}
