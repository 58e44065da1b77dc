//! The block manager: pool and index kept in step. Everything the scheduler asks of pages goes here.
//!
//! Promises:
//! - An allocation commits completely or changes nothing.
//! - A block in the index is marked so in the pool, and the other way round, after every call.
//! - Shared blocks are never handed out for writing: what is shared inside a block is copied first
//!   ([`BlockCopy`]), and the source of a copy cannot be evicted before [`BlockManager::end_plan`].
//! - Released blocks keep their content findable until they are evicted, a sequence's last block first.
//!
//! | block of a sequence's table      | held by                         | given up by               |
//! |----------------------------------|---------------------------------|---------------------------|
//! | `[0, shared)`: matched, full     | every sequence that matched it  | each one's `release`      |
//! | `[shared, ..)`: allocated        | this sequence; others may match | each one's `release`      |
//! | source of a copy (in no table)   | the manager                     | `end_plan`                |

use super::hash::{BlockHashes, ChainHash};
use super::index::{ChainIndex, MatchResult, NodeRef, Parent, PartialMatch, PrefixIndex};
use super::null::NullIndex;
use super::pool::BlockPool;
use super::snapshots::{SnapshotId, Snapshots};
use super::{BlockId, blocks_for};
use crate::error::{Error, Result};

/// The largest block size: beyond it blocks share little and waste much.
pub const MAX_BLOCK_SIZE: u32 = 256;

/// Blocks by state, and how many have been evicted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// All blocks.
    pub total: u32,
    /// Blocks without content.
    pub free: u32,
    /// Unreferenced blocks that can still be matched.
    pub cached: u32,
    /// Referenced blocks.
    pub in_use: u32,
    /// Blocks handed out since the start.
    pub allocated: u64,
    /// Cached blocks lost since the start, to make room.
    pub evicted: u64,
}

/// Copy the first `tokens` slots of one block into another before the step's writes (copy on write).
///
/// Within one step no source is the destination of another copy, and no destination appears twice, so
/// the order of copies does not matter. A row of the same step may write the source's slots from
/// `tokens` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCopy {
    /// The shared block.
    pub from: BlockId,
    /// The private copy.
    pub to: BlockId,
    /// How many of its slots matter.
    pub tokens: u32,
}

/// A sequence's start, from [`BlockManager::allocate_for`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The sequence's first blocks: matched ones, then the destination of the copy.
    pub blocks: Vec<BlockId>,
    /// Blocks that the sequence still needs, and for which there is room: whoever else allocates must
    /// leave as many available.
    pub promised: u32,
    /// Copy to make before the first write.
    pub copy: Option<BlockCopy>,
    /// Tokens whose pages need no computing: those of the matched blocks and of the copy.
    pub cached_tokens: usize,
    /// The parent of the first block that is not shared.
    pub tip: Parent,
}

/// Pool and index. See the module's page.
pub struct BlockManager {
    pool: BlockPool,
    index: Box<dyn PrefixIndex>,
    block_size: usize,
    /// Sources of this plan's copies.
    pinned: Vec<BlockId>,
    /// Scratch for [`PrefixIndex::remove`].
    removed: Vec<BlockId>,
    allocated: u64,
    evicted: u64,
    /// Of recurrent states, if the model has any.
    snapshots: Option<Snapshots>,
}

impl BlockManager {
    /// `num_blocks` free blocks of `block_size` token slots. Without `prefix_sharing` nothing is ever
    /// found in the index.
    pub fn new(num_blocks: u32, block_size: u32, prefix_sharing: bool) -> Result<Self> {
        if !block_size.is_power_of_two() || block_size > MAX_BLOCK_SIZE {
            return Err(Error::argument(format!(
                "block_size is {block_size}, want a power of two, at most {MAX_BLOCK_SIZE}"
            )));
        }
        let pool = BlockPool::new(num_blocks)?;
        let block_size = block_size as usize;
        let index: Box<dyn PrefixIndex> = if prefix_sharing {
            Box::new(ChainIndex::new(num_blocks, block_size))
        } else {
            Box::new(NullIndex)
        };
        let (pinned, removed) = (Vec::new(), Vec::new());
        let snapshots = None;
        Ok(BlockManager { pool, index, block_size, pinned, removed, allocated: 0, evicted: 0, snapshots })
    }

    /// The same for a model with recurrent layers: a prefix is matched only as far as one of so many
    /// snapshots of their states goes, and never inside a block.
    pub fn with_snapshots(self, count: u32) -> Self {
        let snapshots = Some(Snapshots::new(count, self.pool.total()));
        BlockManager { snapshots, ..self }
    }

    /// Token slots in a block.
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    pub(super) fn index(&self) -> &dyn PrefixIndex {
        self.index.as_ref()
    }

    /// Whether prefixes are shared.
    pub fn shares_prefixes(&self) -> bool {
        self.index.is_enabled()
    }

    /// Blocks by state.
    pub fn counts(&self) -> BlockCounts {
        BlockCounts {
            total: self.pool.total(),
            free: self.pool.free(),
            cached: self.pool.cached(),
            in_use: self.pool.in_use(),
            allocated: self.allocated,
            evicted: self.evicted,
        }
    }

    /// Blocks that can still be allocated.
    pub fn available(&self) -> u32 {
        self.pool.available()
    }

    /// The longest indexed prefix of `tokens` but for their last one, which must be computed to sample
    /// from. `hashes` are those of the full blocks of `tokens`. Changes nothing.
    pub fn match_prefix(&self, hashes: &BlockHashes, tokens: &[u32]) -> MatchResult {
        let found = self.index.lookup(hashes, tokens, tokens.len().saturating_sub(1));
        let Some(snapshots) = &self.snapshots else { return found };
        let with_state = found.blocks.iter().rposition(|&block| snapshots.of(block).is_some());
        let blocks = with_state.map_or(0, |last| last + 1);
        let shorter = self.index.lookup(hashes, tokens, blocks * self.block_size);
        let snapshot = shorter.blocks.last().and_then(|&block| snapshots.of(block));
        MatchResult { partial: None, snapshot, indexed: found.indexed, ..shorter }
    }

    /// Whether a prefix can be shared only with the recurrent state at its end.
    pub fn needs_states(&self) -> bool {
        self.snapshots.is_some()
    }

    /// Whether such states can be kept for prefixes.
    pub fn can_keep_states(&self) -> bool {
        self.shares_prefixes() && self.snapshots.as_ref().is_some_and(|s| s.total() > 0)
    }

    /// The snapshot of the state at a block's end.
    pub fn snapshot_of(&self, block: BlockId) -> Option<SnapshotId> {
        self.snapshots.as_ref()?.of(block)
    }

    pub(super) fn has_free_snapshot(&self) -> bool {
        self.snapshots.as_ref().is_some_and(|snapshots| snapshots.kept() < snapshots.total())
    }

    /// A snapshot to write, pending until it is kept or given back; `None` if there is none to be had. Another
    /// prefix may lose its own.
    pub fn take_snapshot(&mut self) -> Option<SnapshotId> {
        self.snapshots.as_mut()?.take()
    }

    /// Keeps a pending snapshot as the state at the end of a full block in the index. `false`, and it is free
    /// again, if the block has one.
    pub fn keep_snapshot(&mut self, id: SnapshotId, block: BlockId) -> Result<bool> {
        if !self.index.contains_full(block) {
            return Err(Error::internal(format!("block {block} is not indexed, and cannot have a snapshot")));
        }
        self.of_states()?.keep(id, block)
    }

    /// Gives a pending snapshot back.
    pub fn give_back_snapshot(&mut self, id: SnapshotId) -> Result<()> {
        self.of_states()?.give_back(id)
    }

    /// Frees the block's snapshot, if it is this one.
    pub fn drop_snapshot(&mut self, block: BlockId, id: SnapshotId) {
        if let Some(snapshots) = self.snapshots.as_mut().filter(|s| s.of(block) == Some(id)) {
            snapshots.forget(block);
        }
    }

    fn of_states(&mut self) -> Result<&mut Snapshots> {
        self.snapshots.as_mut().ok_or_else(|| Error::internal("this model has no recurrent states"))
    }

    /// Starts a sequence of `tokens` tokens (at least one more than matched) that begins with `found`:
    /// takes the blocks that hold what was found, and makes sure that the rest of its blocks can be
    /// allocated later, with `reserve` left over. `None`, and nothing has changed, if they cannot.
    ///
    /// Where only the source of the copy stands in the way, it goes without the copy.
    pub fn allocate_for(
        &mut self,
        root: ChainHash,
        found: &MatchResult,
        tokens: usize,
        reserve: u32,
    ) -> Result<Option<Allocation>> {
        let unreferenced = |b: &&BlockId| self.pool.refs(**b) == 0;
        let revived = found.blocks.iter().filter(unreferenced).count() as u32;
        let new = blocks_for(tokens, self.block_size).saturating_sub(found.blocks.len()) as u32;
        let need = u64::from(new) + u64::from(revived) + u64::from(reserve);
        let available = u64::from(self.available());
        if need > available {
            return Ok(None);
        }
        let fits = |p: &PartialMatch| need + u64::from(self.pool.refs(p.block) == 0) <= available;
        let partial = found.partial.filter(fits).filter(|_| new > 0);

        let mut blocks = Vec::with_capacity(found.blocks.len() + new as usize);
        for &block in &found.blocks {
            self.pool.acquire(block)?;
            blocks.push(block);
        }
        if let (Some(snapshots), Some(id)) = (&mut self.snapshots, found.snapshot) {
            snapshots.touch(id);
        }
        let mut copy = None;
        if let Some(PartialMatch { block: from, tokens }) = partial {
            self.pool.acquire(from)?;
            self.pinned.push(from);
            let to = self.allocate()?.ok_or_else(|| Error::internal("the block pool miscounts"))?;
            blocks.push(to);
            copy = Some(BlockCopy { from, to, tokens });
        }
        Ok(Some(Allocation {
            blocks,
            promised: new - u32::from(copy.is_some()),
            copy,
            cached_tokens: found.blocks.len() * self.block_size + copy.map_or(0, |c| c.tokens as usize),
            tip: found.tip.map_or(Parent::Root(root), Parent::Node),
        }))
    }

    /// One more block, evicting a cached one if none is free. `None` when all are in use.
    pub fn allocate(&mut self) -> Result<Option<BlockId>> {
        let Some(allocated) = self.pool.allocate() else { return Ok(None) };
        self.allocated += 1;
        if allocated.evicted {
            self.evicted += 1;
            // The pool has unmarked the block itself already.
            self.unindex(allocated.block)?;
        }
        Ok(Some(allocated.block))
    }

    /// Drops a sequence's hold on its blocks, last block first: when room is needed, the end of a
    /// prefix goes before its beginning.
    pub fn release(&mut self, blocks: &[BlockId]) -> Result<()> {
        blocks.iter().rev().try_for_each(|&b| self.pool.release(b))
    }

    /// Lets go of the sources of the copies planned since the last call: the plan is whole.
    pub fn end_plan(&mut self) -> Result<()> {
        while let Some(block) = self.pinned.pop() {
            self.pool.release(block)?;
        }
        Ok(())
    }

    /// Indexes a full block in use. See [`PrefixIndex::insert_full`].
    pub fn index_full(
        &mut self,
        parent: Parent,
        hash: ChainHash,
        tokens: &[u32],
        block: BlockId,
    ) -> Result<Option<NodeRef>> {
        let node = self.index.insert_full(parent, hash, tokens, block);
        self.sync(block)?;
        Ok(node)
    }

    /// Indexes a block in use that is not full. See [`PrefixIndex::insert_partial`].
    pub fn index_partial(&mut self, parent: Parent, tokens: &[u32], block: BlockId) -> Result<()> {
        self.index.insert_partial(parent, tokens, block);
        self.sync(block)
    }

    /// Whether children can be indexed under this parent: it has not been evicted.
    pub fn is_live(&self, parent: Parent) -> bool {
        self.index.is_live(parent)
    }

    fn sync(&mut self, block: BlockId) -> Result<()> {
        match (self.index.contains(block), self.pool.is_indexed(block)) {
            (true, false) => self.pool.mark_indexed(block),
            (false, true) => self.pool.clear_indexed(block),
            _ => Ok(()),
        }
    }

    /// Forgets what no sequence holds: every cached block becomes free.
    pub fn drop_cached(&mut self) -> Result<()> {
        for block in 0..self.pool.total() {
            if self.pool.refs(block) == 0 && self.pool.is_indexed(block) {
                self.unindex(block)?;
            }
        }
        Ok(())
    }

    /// Takes an indexed block and its descendants out of the index.
    fn unindex(&mut self, block: BlockId) -> Result<()> {
        self.removed.clear();
        self.index.remove(block, &mut self.removed);
        for &block in &self.removed {
            if self.pool.is_indexed(block) {
                self.pool.clear_indexed(block)?;
            }
            if let Some(snapshots) = &mut self.snapshots {
                snapshots.forget(block);
            }
        }
        Ok(())
    }

    /// Makes every block free and forgets every prefix.
    pub fn reset(&mut self) {
        self.pinned.clear();
        self.index.clear();
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.reset();
        }
        self.pool.reset();
    }

    /// Verifies the snapshots, given those that sequences wait to keep. Linear in snapshots and blocks.
    pub fn check_snapshots(&self, pending: impl Iterator<Item = SnapshotId>) -> Result<()> {
        match &self.snapshots {
            Some(snapshots) => snapshots.check(&|block| self.index.contains_full(block), pending.collect()),
            None => Ok(()),
        }
    }

    /// Verifies pool and index, that they agree, and that each block has as many references as `tables`
    /// (of all sequences) and pinned copy sources hold. Linear in the pool and in the tables.
    pub fn check<'a>(&'a self, tables: impl Iterator<Item = &'a [BlockId]>) -> Result<()> {
        self.pool.check()?;
        self.index.check()?;
        let mut refs = vec![0u32; self.pool.total() as usize];
        for block in tables.flatten().chain(&self.pinned).copied() {
            match refs.get_mut(block as usize) {
                Some(count) => *count += 1,
                None => return Err(Error::internal(format!("a table names block {block}"))),
            }
        }
        for (block, &held) in refs.iter().enumerate() {
            let block = block as BlockId;
            let (counted, marked) = (self.pool.refs(block), self.pool.is_indexed(block));
            if counted != held || marked != self.index.contains(block) {
                return Err(Error::internal(format!(
                    "block {block} has {counted} references of {held} held; marked as indexed: {marked}"
                )));
            }
        }
        Ok(())
    }
}
