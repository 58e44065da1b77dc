//! Recurrent states worth keeping. A model with recurrent layers shares a prefix only where the state at its
//! end was kept, and a state is as large as the pages of many tokens, so few are:
//!
//! - at the last full block of what a sequence was admitted with, but for its last token: an equal prompt, or
//!   the next turn of a conversation, goes on there;
//! - where cached blocks that it could not share end, since nobody kept the state there: whoever comes next
//!   with this beginning, as after a common system prompt, finds it;
//! - where a sequence that waits asks for it;
//! - once in a while as a sequence generates, each in the place of the one before: a conversation goes on, or a
//!   preempted sequence is computed again, from near its end.
//!
//! A state that is wanted inside a prompt's chunk is kept as the chunk passes it; chunks are not cut for it.

use super::sequence::{SavedState, Sequence, SharedWait};
use super::state::{Scheduler, lost};
use super::{SequenceId, StateSave, Step};
use crate::cache::{BlockManager, MatchResult, NodeRef};
use crate::error::Result;

/// Tokens a sequence generates between two states that are kept, rounded up to whole blocks.
const GENERATED_BETWEEN: usize = 64;

/// States asked of one prompt at most: each cuts the work of the recurrent layers once more.
const MAX_WANTED: usize = 8;

/// Notes where the states of a sequence just admitted are worth keeping.
pub(super) fn want(blocks: &BlockManager, s: &mut Sequence, found: &MatchResult) {
    s.wanted.clear();
    if !blocks.can_keep_states() {
        return;
    }
    let last = (s.tokens.len() - 1) / blocks.block_size();
    s.wanted.extend([found.indexed.min(last), last].into_iter().filter(|&at| at > found.blocks.len()));
    s.wanted.sort_unstable();
    s.wanted.dedup();
}

/// Asks a running sequence to keep its state after this many blocks, or at most so many but more than
/// `matched`. What it will do.
fn ask(owner: &mut Sequence, blocks: usize, matched: usize, block_size: usize) -> Option<usize> {
    if owner.wanted.contains(&blocks) {
        return Some(blocks);
    }
    if owner.computed < blocks * block_size && owner.wanted.len() < MAX_WANTED {
        owner.wanted.insert(owner.wanted.partition_point(|&at| at < blocks), blocks);
        return Some(blocks);
    }
    owner.wanted.iter().copied().rfind(|&at| at > matched && at < blocks)
}

/// Keeps for a block just indexed the state after it, if it was saved.
pub(super) fn keep(blocks: &mut BlockManager, s: &mut Sequence, node: NodeRef) -> Result<()> {
    while let Some(at) = s.saved.iter().position(|saved| saved.blocks == s.indexed) {
        let saved = s.saved.remove(at);
        let kept = blocks.keep_snapshot(saved.snapshot, node.block)?;
        if kept
            && saved.replaces
            && let Some((block, snapshot)) = s.latest.replace((node.block, saved.snapshot))
        {
            blocks.drop_snapshot(block, snapshot);
        }
    }
    Ok(())
}

/// Forgets what was wanted and saved of a sequence that gives up its pages.
pub(super) fn withdraw(blocks: &mut BlockManager, s: &mut Sequence) -> Result<()> {
    s.wanted.clear();
    s.latest = None;
    s.saved.drain(..).try_for_each(|saved| blocks.give_back_snapshot(saved.snapshot))
}

impl Scheduler {
    /// Wants the state behind a generated token that fills a block, once in a while.
    pub(super) fn want_generated(&mut self, id: SequenceId) -> Result<bool> {
        if !self.blocks.can_keep_states() {
            return Ok(false);
        }
        let s = self.sequences.get_mut(&id).ok_or_else(|| lost(id))?;
        let (end, size) = (s.computed + 1, self.blocks.block_size());
        let due = end.is_multiple_of(GENERATED_BETWEEN.next_multiple_of(size));
        if due && !s.wanted.contains(&(end / size)) {
            s.wanted.push(end / size);
        }
        Ok(due)
    }

    /// Has a row just planned keep the states that are wanted of it: `start` is its first position.
    pub(super) fn save_states(
        &mut self,
        step: &mut Step,
        id: SequenceId,
        start: usize,
        generated: bool,
    ) -> Result<()> {
        let size = self.blocks.block_size();
        let s = self.sequences.get_mut(&id).ok_or_else(|| lost(id))?;
        let passed = s.wanted.partition_point(|&at| at * size <= s.computed);
        for blocks in s.wanted.drain(..passed) {
            if blocks * size <= start {
                continue;
            }
            // All snapshots may be on their way to others; then the prefix is not shared.
            let Some(snapshot) = self.blocks.take_snapshot() else { continue };
            let tokens = (blocks * size - start) as u32;
            step.saves.push(StateSave { slot: s.slot, tokens, snapshot });
            s.saved.push(SavedState { blocks, snapshot, replaces: generated });
        }
        Ok(())
    }

    /// For a model with recurrent layers: what a sequence should wait for that can go on from `matched` blocks.
    /// The last of its blocks that a running sequence is going to compute; that one is asked to keep its state
    /// there.
    pub(super) fn state_worth_waiting_for(&mut self, id: SequenceId, matched: usize) -> Option<SharedWait> {
        if !self.blocks.can_keep_states() {
            return None;
        }
        let size = self.blocks.block_size();
        let s = self.sequences.get(&id)?;
        let hashes = s.hashes.as_slice();
        let usable = hashes.len().min((s.tokens.len() - 1) / size);
        let computed = |block: usize| Some((block, self.computed_by(&hashes[block], s)?));
        let (block, owner) = (matched..usable).rev().find_map(computed)?;
        let blocks = ask(self.sequences.get_mut(&owner)?, block + 1, matched, size)?;
        Some(SharedWait { block: blocks - 1, owner })
    }
}
