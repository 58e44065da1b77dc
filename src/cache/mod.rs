//! Pages: block pool, block tables, prefix index (pure) and page storage (MLX).
//!
//! A block is a fixed run of token slots; per layer the storage holds K and V for all blocks. This half
//! knows ids and tokens only: [`BlockPool`] says who holds each block, [`PrefixIndex`] which block holds
//! which tokens after which prefix, [`BlockManager`] keeps the two in step.

pub mod file;
pub mod hash;
#[cfg(feature = "mlx")]
pub mod host_pages;
pub mod index;
mod layout;
mod manager;
mod null;
#[cfg(feature = "mlx")]
mod page_bytes;
#[cfg(feature = "mlx")]
pub mod pages;
pub mod pool;
mod saved;
mod snapshots;
#[cfg(feature = "mlx")]
pub mod states;
mod table;
#[cfg(test)]
mod tests;

pub use hash::{BlockHashes, ChainHash};
pub use index::{ChainIndex, MatchResult, NodeRef, Parent, PartialMatch, PrefixIndex};
pub use layout::{PageLayout, contiguous};
pub use manager::{Allocation, BlockCopy, BlockCounts, BlockManager, MAX_BLOCK_SIZE};
pub use null::NullIndex;
pub use pool::{Allocated, BlockPool};
pub use saved::{SavedBlock, SavedParent};
pub use snapshots::{SnapshotId, Snapshots, StateCopy, StateSave};
pub use table::BlockTable;

/// Names one block of the page pool, in `0..total`.
pub type BlockId = u32;

/// How many blocks hold `tokens` tokens.
pub fn blocks_for(tokens: usize, block_size: usize) -> usize {
    tokens.div_ceil(block_size)
}
