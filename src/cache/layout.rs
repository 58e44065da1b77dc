//! Where in a layer's page pool a token's key and value lie.
//!
//! A pool is a matrix of token slots, `[heads * blocks * block_size, head_dim]`, head by head (keys'
//! heads, then values'), block by block. Within one head the slots of neighbouring blocks follow each
//! other, so a sequence whose blocks are neighbours is read without a copy.

use super::BlockId;

/// The shape of a layer's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLayout {
    /// Key heads; there are as many value heads.
    pub kv_heads: usize,
    /// Blocks sequences can use. One more lies behind them, for rows that only fill up a batch.
    pub num_blocks: usize,
    /// Token slots a block has.
    pub block_size: usize,
    /// Elements of one head's key or value.
    pub head_dim: usize,
}

impl PageLayout {
    /// Key and value heads together.
    pub fn heads(&self) -> usize {
        2 * self.kv_heads
    }

    /// The block behind those of sequences: written to, never read for a result.
    pub fn spare_block(&self) -> BlockId {
        self.num_blocks as BlockId
    }

    /// Blocks the pool has memory for.
    pub fn total_blocks(&self) -> usize {
        self.num_blocks + 1
    }

    /// Token slots of all heads: rows of the pool.
    pub fn slots(&self) -> usize {
        self.heads() * self.total_blocks() * self.block_size
    }

    /// Elements a block takes, in one layer.
    pub fn block_elements(kv_heads: usize, head_dim: usize, block_size: usize) -> usize {
        2 * kv_heads * head_dim * block_size
    }

    /// The row of the pool that holds this head's part of the token at `position` of a sequence with
    /// this block table.
    pub fn slot(&self, head: usize, blocks: &[BlockId], position: usize) -> Option<usize> {
        let block = *blocks.get(position / self.block_size)?;
        Some(self.block(head, block) * self.block_size + position % self.block_size)
    }

    /// The row of the pool seen as blocks, `[heads * blocks, block_size * head_dim]`.
    pub fn block(&self, head: usize, block: BlockId) -> usize {
        head * self.total_blocks() + block as usize
    }
}

/// The first block, if each block of the table is the neighbour of the one before it.
pub fn contiguous(blocks: &[BlockId]) -> Option<BlockId> {
    let first = *blocks.first()?;
    blocks.iter().enumerate().all(|(i, &block)| block as usize == first as usize + i).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_someone_elses() {
        let layout = PageLayout { kv_heads: 2, num_blocks: 3, block_size: 4, head_dim: 8 };
        let blocks = [2, 0, 1, layout.spare_block()];
        let mut seen = std::collections::BTreeSet::new();
        for head in 0..layout.heads() {
            for position in 0..blocks.len() * layout.block_size {
                seen.insert(layout.slot(head, &blocks, position).unwrap());
            }
        }
        assert_eq!(seen.len(), layout.slots());
        assert_eq!(seen.last(), Some(&(layout.slots() - 1)));
        assert_eq!(layout.slot(0, &blocks, 16), None);
    }

    #[test]
    fn neighbours() {
        assert_eq!(contiguous(&[3, 4, 5]), Some(3));
        assert_eq!(contiguous(&[3, 5]), None);
        assert_eq!(contiguous(&[3, 2]), None);
        assert_eq!(contiguous(&[7]), Some(7));
        assert_eq!(contiguous(&[]), None);
    }
}
