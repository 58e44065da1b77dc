//! Sharing between sequences that run at the same time: what is indexed when, and who waits for whom.

use rustc_hash::FxHashMap;

use super::SequenceId;
use super::sequence::{Sequence, SharedWait};
use super::snapshots;
use super::state::Scheduler;
use crate::cache::{BlockManager, ChainHash, Parent};
use crate::error::Result;

/// A sequence of lower priority that has had no row for more plans than this is not waited for.
const STALLED_AFTER: u64 = 8;

pub(super) type Announced = FxHashMap<ChainHash, SequenceId>;

/// Indexes the sequence's full blocks that are computed and known, and not indexed yet.
///
/// Called after a plan, and when a token becomes known: what it indexes was written by steps before
/// the one planned next.
pub(super) fn index_ready(
    blocks: &mut BlockManager,
    announced: &mut Announced,
    id: SequenceId,
    s: &mut Sequence,
) -> Result<()> {
    let size = blocks.block_size();
    let full = s.known_computed() / size;
    if full <= s.indexed || !blocks.shares_prefixes() {
        return Ok(());
    }
    s.hashes.extend(&s.tokens, size);
    if !blocks.is_live(s.tip) {
        // The equal blocks of another sequence that stood for ours were evicted: index our own.
        s.indexed = 0;
        s.tip = Parent::Root(s.hashes.root());
    }
    while s.indexed < full {
        let i = s.indexed;
        let tokens = &s.tokens[i * size..(i + 1) * size];
        let hash = s.hashes.as_slice()[i];
        let Some(node) = blocks.index_full(s.tip, hash, tokens, s.table.as_slice()[i])? else { break };
        s.tip = Parent::Node(node);
        s.indexed += 1;
        snapshots::keep(blocks, s, node)?;
    }
    withdraw(announced, id, s, full);
    Ok(())
}

/// Indexes the known tokens in the sequence's last block, if it is not full.
pub(super) fn index_tail(blocks: &mut BlockManager, s: &Sequence) -> Result<()> {
    let (size, known) = (blocks.block_size(), s.known_computed());
    let full = known / size;
    // A part of a block is no use without the state inside it.
    let shared = blocks.shares_prefixes() && !blocks.needs_states();
    if s.indexed < full || known % size == 0 || !shared {
        return Ok(());
    }
    blocks.index_partial(s.tip, &s.tokens[full * size..known], s.table.as_slice()[full])
}

/// Announces the full blocks that the sequence, just admitted, is going to compute from known tokens.
pub(super) fn announce(announced: &mut Announced, id: SequenceId, s: &mut Sequence) {
    let hashes = s.hashes.as_slice();
    s.announced = s.indexed..hashes.len();
    for hash in &hashes[s.announced.clone()] {
        announced.entry(*hash).or_insert(id);
    }
}

/// Takes back the announcements of the sequence's blocks before `end`.
pub(super) fn withdraw(announced: &mut Announced, id: SequenceId, s: &mut Sequence, end: usize) {
    while s.announced.start < s.announced.end.min(end) {
        let hash = &s.hashes.as_slice()[s.announced.start];
        if announced.get(hash) == Some(&id) {
            announced.remove(hash);
        }
        s.announced.start += 1;
    }
}

impl Scheduler {
    /// Who is computing this block, if `waiting` is well advised to wait for it. The owner has pages, so its
    /// turn comes, and computing the block twice would only take budget from it; but `waiting` may be more
    /// urgent than an owner whose turn does not come soon.
    ///
    /// A hash that collides would only make a sequence wait without need, so tokens are not compared.
    pub(super) fn computed_by(&self, hash: &ChainHash, waiting: &Sequence) -> Option<SequenceId> {
        let id = *self.announced.get(hash)?;
        let owner = self.sequences.get(&id)?;
        let as_urgent = owner.rank.priority.0 >= waiting.rank.priority.0;
        (as_urgent || owner.last_row + STALLED_AFTER >= self.plans).then_some(id)
    }

    /// Whether the wait found earlier still holds.
    pub(super) fn still_waits(&self, s: &Sequence) -> bool {
        s.waits_for.is_some_and(|wait| {
            s.hashes.as_slice().get(wait.block).and_then(|h| self.computed_by(h, s)) == Some(wait.owner)
        })
    }

    /// What a sequence should wait for whose first `matched` blocks are there: the last of the blocks
    /// after them that a running sequence is computing, without a gap.
    pub(super) fn worth_waiting_for(&self, s: &Sequence, matched: usize) -> Option<SharedWait> {
        let mut wait = None;
        for (block, hash) in s.hashes.as_slice().iter().enumerate().skip(matched) {
            let Some(owner) = self.computed_by(hash, s) else { break };
            wait = Some(SharedWait { block, owner });
        }
        wait
    }
}
