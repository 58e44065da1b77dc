//! The prefix index that knows nothing: prefix sharing switched off, behind the same interface.

use super::BlockId;
use super::hash::{BlockHashes, ChainHash};
use super::index::{MatchResult, NodeRef, Parent, PrefixIndex};
use super::saved::SavedBlock;
use crate::error::Result;

/// Prefix sharing switched off.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullIndex;

impl PrefixIndex for NullIndex {
    fn lookup(&self, _: &BlockHashes, _: &[u32], _: usize) -> MatchResult {
        MatchResult::default()
    }
    fn insert_full(&mut self, _: Parent, _: ChainHash, _: &[u32], _: BlockId) -> Option<NodeRef> {
        None
    }
    fn insert_partial(&mut self, _: Parent, _: &[u32], _: BlockId) {}
    fn remove(&mut self, _: BlockId, _: &mut Vec<BlockId>) {}
    fn is_live(&self, _: Parent) -> bool {
        false
    }
    fn contains(&self, _: BlockId) -> bool {
        false
    }
    fn contains_full(&self, _: BlockId) -> bool {
        false
    }
    fn len(&self) -> usize {
        0
    }
    fn full_blocks(&self) -> Vec<(BlockId, SavedBlock)> {
        Vec::new()
    }
    fn is_enabled(&self) -> bool {
        false
    }
    fn clear(&mut self) {}
    fn check(&self) -> Result<()> {
        Ok(())
    }
}
