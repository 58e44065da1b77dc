//! Snapshots of recurrent states: which cached block has one, and which goes next.
//!
//! Promises:
//! - A snapshot is *free*, *pending* (a step writes it, for a block that is not indexed yet) or *kept* for
//!   one full, indexed block, which has no other. A block that leaves the index frees its snapshot.
//! - Pending snapshots are never taken from whoever asked for them; of the kept ones the least recently used
//!   goes first.

use super::BlockId;
use crate::error::{Error, Result};

/// Names one snapshot, in `0..total`.
pub type SnapshotId = u32;

/// Bring a snapshot's state into a sequence's slot, before a step's rows run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateCopy {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The slot.
    pub slot: u32,
}

/// Keep the state that a step's row passes through. A row's saves are in the order of their tokens; of two
/// saves of a step into one snapshot the later one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSave {
    /// The row's slot.
    pub slot: u32,
    /// After how many of the row's tokens, at least one.
    pub tokens: u32,
    /// Where it is kept. A snapshot that the same step restores is read before.
    pub snapshot: SnapshotId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Free,
    Pending,
    Kept(BlockId),
}

/// Which snapshot is whose. See the module's page.
#[derive(Debug, Clone)]
pub struct Snapshots {
    uses: Vec<Use>,
    /// When each was used last.
    used: Vec<u64>,
    /// The snapshot of each block.
    of_block: Vec<Option<SnapshotId>>,
    clock: u64,
}

impl Snapshots {
    /// So many free snapshots, for a pool of so many blocks.
    pub fn new(total: u32, num_blocks: u32) -> Snapshots {
        Snapshots {
            uses: vec![Use::Free; total as usize],
            used: vec![0; total as usize],
            of_block: vec![None; num_blocks as usize],
            clock: 0,
        }
    }

    /// All snapshots.
    pub fn total(&self) -> u32 {
        self.uses.len() as u32
    }

    /// The block's snapshot.
    pub fn of(&self, block: BlockId) -> Option<SnapshotId> {
        self.of_block.get(block as usize).copied().flatten()
    }

    /// How many are kept.
    pub fn kept(&self) -> u32 {
        self.of_block.iter().flatten().count() as u32
    }

    /// A snapshot to write: a free one, else the least recently used that is kept. `None` if all are pending.
    pub fn take(&mut self) -> Option<SnapshotId> {
        let free = self.uses.iter().position(|&u| u == Use::Free);
        let kept =
            || (0..self.uses.len()).filter(|&i| self.uses[i] != Use::Pending).min_by_key(|&i| self.used[i]);
        let id = free.or_else(kept)?;
        if let Use::Kept(block) = self.uses[id] {
            self.of_block[block as usize] = None;
        }
        self.uses[id] = Use::Pending;
        Some(id as SnapshotId)
    }

    /// Notes that a snapshot is used again.
    pub fn touch(&mut self, id: SnapshotId) {
        self.clock += 1;
        if let Some(used) = self.used.get_mut(id as usize) {
            *used = self.clock;
        }
    }

    /// Keeps a pending snapshot for a block. If the block has one already, that one stays and this becomes
    /// free: `false`.
    pub fn keep(&mut self, id: SnapshotId, block: BlockId) -> Result<bool> {
        if self.uses.get(id as usize) != Some(&Use::Pending) || block as usize >= self.of_block.len() {
            return Err(Error::internal(format!("snapshot {id} cannot be kept for block {block}")));
        }
        if let Some(other) = self.of(block) {
            self.uses[id as usize] = Use::Free;
            self.touch(other);
            return Ok(false);
        }
        self.uses[id as usize] = Use::Kept(block);
        self.of_block[block as usize] = Some(id);
        self.touch(id);
        Ok(true)
    }

    /// Gives a pending snapshot back.
    pub fn give_back(&mut self, id: SnapshotId) -> Result<()> {
        match self.uses.get_mut(id as usize) {
            Some(state @ Use::Pending) => {
                *state = Use::Free;
                Ok(())
            }
            other => Err(Error::internal(format!("snapshot {id} is {other:?}, not pending"))),
        }
    }

    /// Frees the block's snapshot, if it has one.
    pub fn forget(&mut self, block: BlockId) {
        if let Some(id) = self.of_block.get_mut(block as usize).and_then(Option::take) {
            self.uses[id as usize] = Use::Free;
        }
    }

    /// Makes every snapshot free.
    pub fn reset(&mut self) {
        self.uses.fill(Use::Free);
        self.of_block.fill(None);
    }

    /// Verifies that snapshots and blocks name each other, that kept ones belong to blocks for which
    /// `is_full` says so, and that `pending` are the pending ones.
    pub fn check(&self, is_full: &dyn Fn(BlockId) -> bool, mut pending: Vec<SnapshotId>) -> Result<()> {
        let fail = |what: String| Err(Error::internal(format!("snapshots: {what}")));
        let mut marked = Vec::new();
        for (id, state) in self.uses.iter().enumerate() {
            match *state {
                Use::Free => {}
                Use::Pending => marked.push(id as SnapshotId),
                Use::Kept(block) if self.of(block) != Some(id as SnapshotId) || !is_full(block) => {
                    return fail(format!(
                        "{id} is kept for block {block}, which is not indexed or has another"
                    ));
                }
                Use::Kept(_) => {}
            }
        }
        let kept = self.uses.iter().filter(|u| matches!(u, Use::Kept(_))).count();
        if kept != self.of_block.iter().flatten().count() {
            return fail(format!("{kept} are kept, but blocks name another number"));
        }
        pending.sort_unstable();
        if pending != marked {
            return fail(format!("{marked:?} are pending, sequences wait for {pending:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Take,
        /// The n-th pending one, for a block.
        Keep(usize, BlockId),
        GiveBack(usize),
        Forget(BlockId),
        Touch(SnapshotId),
        Reset,
    }

    const BLOCKS: u32 = 6;

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => Just(Op::Take),
            6 => (0usize..4, 0..BLOCKS).prop_map(|(n, block)| Op::Keep(n, block)),
            2 => (0usize..4).prop_map(Op::GiveBack),
            2 => (0..BLOCKS).prop_map(Op::Forget),
            3 => (0u32..5).prop_map(Op::Touch),
            1 => Just(Op::Reset),
        ]
    }

    proptest! {
        /// Against a list of pending ones and a list of kept ones, the least recently used first.
        #[test]
        fn what_is_kept_and_who_goes_first(total in 0u32..5, ops in prop::collection::vec(op(), 1..60)) {
            let mut snapshots = Snapshots::new(total, BLOCKS);
            let (mut pending, mut kept): (Vec<SnapshotId>, Vec<(SnapshotId, BlockId)>) = Default::default();
            for op in ops {
                match op {
                    Op::Take => {
                        let free = pending.len() + kept.len() < total as usize;
                        let got = snapshots.take();
                        match got {
                            Some(id) if free => {
                                prop_assert!(!pending.contains(&id) && kept.iter().all(|k| k.0 != id));
                            }
                            Some(id) => prop_assert_eq!(id, kept.remove(0).0),
                            None => prop_assert!(!free && kept.is_empty()),
                        }
                        pending.extend(got);
                    }
                    Op::Keep(n, block) if n < pending.len() => {
                        let id = pending.remove(n);
                        let new = match kept.iter().position(|k| k.1 == block) {
                            Some(at) => kept.remove(at),
                            None => (id, block),
                        };
                        kept.push(new);
                        prop_assert_eq!(snapshots.keep(id, block).unwrap(), new.0 == id);
                        prop_assert!(snapshots.keep(id, block).is_err(), "it is not pending any more");
                    }
                    Op::GiveBack(n) if n < pending.len() => {
                        let id = pending.remove(n);
                        snapshots.give_back(id).unwrap();
                        prop_assert!(snapshots.give_back(id).is_err());
                    }
                    Op::Keep(..) | Op::GiveBack(_) => {}
                    Op::Forget(block) => {
                        snapshots.forget(block);
                        kept.retain(|k| k.1 != block);
                    }
                    Op::Touch(id) => {
                        snapshots.touch(id);
                        if let Some(at) = kept.iter().position(|k| k.0 == id) {
                            let touched = kept.remove(at);
                            kept.push(touched);
                        }
                    }
                    Op::Reset => {
                        snapshots.reset();
                        (pending, kept) = Default::default();
                    }
                }
                for block in 0..BLOCKS {
                    let own = kept.iter().find(|k| k.1 == block).map(|k| k.0);
                    prop_assert_eq!(snapshots.of(block), own);
                }
                prop_assert_eq!(snapshots.kept() as usize, kept.len());
                snapshots.check(&|block| kept.iter().any(|k| k.1 == block), pending.clone()).unwrap();
                prop_assert!(snapshots.check(&|_| true, [&pending[..], &[9]].concat()).is_err());
                prop_assert!(kept.is_empty() || snapshots.check(&|_| false, pending.clone()).is_err());
            }
        }
    }
}
