//! What it takes to find cached blocks again after a restart: the index in terms of itself.
//!
//! Only full blocks are saved. A saved block names its parent by position in the list, a first block its
//! root (a hash of the salt, so that salts are not written anywhere). Hashes are computed again from
//! tokens and parents when loading, so a list cannot smuggle in a block under a wrong name.

use super::hash::ChainHash;
use super::index::{NodeRef, Parent};
use super::manager::BlockManager;
use super::{BlockId, SnapshotId};
use crate::error::{Error, Result};

/// What a saved block follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedParent {
    /// Nothing: it is a first block under this root.
    Root(ChainHash),
    /// The block at this position of the list, earlier than its own.
    Block(usize),
}

/// A full block of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedBlock {
    /// What it follows.
    pub parent: SavedParent,
    /// Its tokens, `block_size` of them.
    pub tokens: Vec<u32>,
    /// Whether the recurrent state at its end is kept, and saved with its pages.
    pub has_state: bool,
}

impl BlockManager {
    /// Every full block in the index with the block that holds it now, parents before children. The
    /// pages are those written by the steps planned so far.
    pub fn saved_blocks(&self) -> Vec<(BlockId, SavedBlock)> {
        let mut found = self.index().full_blocks();
        for (block, saved) in &mut found {
            saved.has_state = self.snapshot_of(*block).is_some();
        }
        found
    }

    /// A snapshot for the state of a block just restored, as far as there are free ones.
    pub fn restore_state(&mut self, block: BlockId) -> Result<Option<SnapshotId>> {
        if !self.has_free_snapshot() {
            return Ok(None);
        }
        let Some(id) = self.take_snapshot() else { return Ok(None) };
        Ok(self.keep_snapshot(id, block)?.then_some(id))
    }

    /// Enters saved blocks into the index, as far as there are free blocks (none is evicted for them).
    ///
    /// Returns, for each, the block whose pages the caller must now fill, before any step is launched;
    /// `None` where there was no room, or where the same prefix is cached already. A malformed list is
    /// an `InvalidArgument` error that changes nothing.
    pub fn restore(&mut self, saved: &[SavedBlock]) -> Result<Vec<Option<BlockId>>> {
        for (i, block) in saved.iter().enumerate() {
            let (have, want) = (block.tokens.len(), self.block_size());
            if have != want {
                return Err(Error::argument(format!("saved block {i} has {have} tokens, want {want}")));
            }
            if matches!(block.parent, SavedParent::Block(parent) if parent >= i) {
                return Err(Error::argument(format!("saved block {i} does not come after its parent")));
            }
        }
        let mut nodes: Vec<Option<(NodeRef, ChainHash)>> = Vec::with_capacity(saved.len());
        let mut filled = Vec::with_capacity(saved.len());
        for block in saved {
            let parent = match block.parent {
                SavedParent::Root(root) => Some((Parent::Root(root), root)),
                SavedParent::Block(at) => nodes[at].map(|(node, hash)| (Parent::Node(node), hash)),
            };
            let node = match parent {
                Some((parent, hash)) => self.restore_one(parent, hash.child(&block.tokens), &block.tokens)?,
                None => None,
            };
            nodes.push(node.map(|(node, hash, _)| (node, hash)));
            filled.push(node.and_then(|(node, _, is_new)| is_new.then_some(node.block)));
        }
        // The end of a prefix is to be evicted before its beginning.
        for &block in filled.iter().rev().flatten() {
            self.release(&[block])?;
        }
        Ok(filled)
    }

    /// The node of these tokens, its hash, and whether it is a new block (then still referenced).
    fn restore_one(
        &mut self,
        parent: Parent,
        hash: ChainHash,
        tokens: &[u32],
    ) -> Result<Option<(NodeRef, ChainHash, bool)>> {
        if self.counts().free == 0 {
            return Ok(None);
        }
        let Some(block) = self.allocate()? else { return Ok(None) };
        let node = self.index_full(parent, hash, tokens, block)?;
        let is_new = node.is_some_and(|n| n.block == block);
        if !is_new {
            self.release(&[block])?;
        }
        Ok(node.map(|n| (n, hash, is_new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::BlockHashes;

    fn hashes(salt: u8, tokens: &[u32]) -> BlockHashes {
        let mut hashes = BlockHashes::new(ChainHash::root(&[&[salt]]));
        hashes.extend(tokens, 4);
        hashes
    }

    /// Caches the tokens' full blocks.
    fn put(manager: &mut BlockManager, salt: u8, tokens: &[u32]) {
        let chain = hashes(salt, tokens);
        let (mut parent, mut table) = (Parent::Root(chain.root()), Vec::new());
        for (hash, tokens) in chain.as_slice().iter().zip(tokens.chunks_exact(4)) {
            table.push(manager.allocate().unwrap().unwrap());
            let block = *table.last().unwrap();
            parent = Parent::Node(manager.index_full(parent, *hash, tokens, block).unwrap().unwrap());
        }
        manager.release(&table).unwrap();
    }

    fn found(manager: &BlockManager, salt: u8, tokens: &[u32]) -> usize {
        manager.match_prefix(&hashes(salt, tokens), &[tokens, &[0]].concat()).blocks.len()
    }

    const TEXTS: [(u8, [u32; 12]); 3] = [
        (0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        (0, [1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 1, 1]),
        (1, [1, 2, 3, 4, 7, 7, 7, 7, 8, 8, 8, 8]),
    ];

    /// Three texts, two of which share two blocks: seven blocks.
    fn full() -> BlockManager {
        let mut manager = BlockManager::new(16, 4, true).unwrap();
        for (salt, tokens) in TEXTS {
            put(&mut manager, salt, &tokens);
        }
        manager
    }

    fn saved(manager: &BlockManager) -> Vec<SavedBlock> {
        manager.saved_blocks().into_iter().map(|(_, saved)| saved).collect()
    }

    #[test]
    fn what_was_saved_is_found_again() {
        let list = saved(&full());
        assert_eq!(list.len(), 7);
        let mut other = BlockManager::new(16, 4, true).unwrap();
        let filled = other.restore(&list).unwrap();
        assert!(filled.iter().all(Option::is_some));
        other.check(std::iter::empty()).unwrap();
        assert!(TEXTS.iter().all(|(salt, tokens)| found(&other, *salt, tokens) == 3));
        assert_eq!(found(&other, 2, &TEXTS[0].1), 0);
        assert_eq!((other.counts().cached, other.counts().in_use), (7, 0));
        // Each entry went to the block that the index names for its tokens.
        let names: std::collections::HashMap<BlockId, Vec<u32>> =
            other.saved_blocks().into_iter().map(|(block, entry)| (block, entry.tokens)).collect();
        for (entry, block) in list.iter().zip(filled) {
            assert_eq!(names[&block.unwrap()], entry.tokens);
        }
    }

    #[test]
    fn restoring_fills_free_blocks_only_and_nothing_twice() {
        let list = saved(&full());
        let mut small = BlockManager::new(4, 4, true).unwrap();
        put(&mut small, 0, &TEXTS[0].1[..4]);
        let filled = small.restore(&list).unwrap();
        small.check(std::iter::empty()).unwrap();
        let counts = small.counts();
        assert_eq!((filled.iter().flatten().count(), counts.cached, counts.evicted), (3, 4, 0));
        assert!(found(&small, 0, &TEXTS[0].1) >= 1);
        // Again: everything is there, or has no room.
        assert!(small.restore(&list).unwrap().iter().all(Option::is_none));

        let mut off = BlockManager::new(4, 4, false).unwrap();
        assert!(off.restore(&list).unwrap().iter().all(Option::is_none));
        assert_eq!((off.counts().free, off.saved_blocks().len()), (4, 0));
    }

    #[test]
    fn a_malformed_list_changes_nothing() {
        let list = saved(&full());
        let short = SavedBlock { tokens: vec![1; 3], ..list[0].clone() };
        let early = SavedBlock { parent: SavedParent::Block(1), ..list[0].clone() };
        for (bad, message) in [(short, "3 tokens"), (early, "after its parent")] {
            let mut manager = BlockManager::new(16, 4, true).unwrap();
            let error = manager.restore(&[list[0].clone(), bad]).unwrap_err();
            assert!(error.message().contains(message), "{error}");
            assert_eq!(manager.counts().free, 16);
        }
    }
}
