//! A sequence's block table.

use std::sync::Arc;

use super::BlockId;

/// The blocks of one sequence, in token order: slot `p % block_size` of block `p / block_size` holds
/// position `p`.
///
/// Steps in flight share the table's content: a snapshot costs a reference count, and a new one is
/// made only when the table has grown.
#[derive(Debug, Clone, Default)]
pub struct BlockTable {
    blocks: Vec<BlockId>,
    snapshot: Option<Arc<[BlockId]>>,
}

impl BlockTable {
    /// A table of these blocks.
    pub fn new(blocks: Vec<BlockId>) -> Self {
        BlockTable { blocks, snapshot: None }
    }

    /// The blocks.
    pub fn as_slice(&self) -> &[BlockId] {
        &self.blocks
    }

    /// How many blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether the sequence holds none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Appends a block.
    pub fn push(&mut self, block: BlockId) {
        self.blocks.push(block);
        self.snapshot = None;
    }

    /// The content as it is now, shared with earlier snapshots if nothing changed.
    pub fn snapshot(&mut self) -> Arc<[BlockId]> {
        self.snapshot.get_or_insert_with(|| Arc::from(self.blocks.as_slice())).clone()
    }
}
