//! How many blocks the page pool gets.

use super::ModelConfig;
use crate::cache::PageLayout;
use crate::error::{Error, Result, Status};

/// Beyond so many full contexts a pool taken without asking is no use.
const FULL_CONTEXTS: u64 = 4;

/// What a pool is sized by.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Tokens a block holds.
    pub block_size: usize,
    /// The longest context, in tokens.
    pub max_context: usize,
    /// Bytes an element of a key or value takes.
    pub element_bytes: usize,
    /// Bytes the pool may take; `None` for what the device has left, within reason.
    pub cache_bytes: Option<u64>,
    /// Bytes the device has left.
    pub available: u64,
    /// The most of those that may be taken without asking, as a divisor.
    pub share: u64,
}

impl Budget {
    /// The pool's shape.
    ///
    /// Errors: `InvalidArgument` if the bytes asked for hold no block; `OutOfMemory` if the device has
    /// no room for one.
    pub fn layout(&self, config: &ModelConfig) -> Result<PageLayout> {
        let elements = PageLayout::block_elements(config.kv_heads, config.head_dim, self.block_size);
        let block = (elements * self.element_bytes * config.layers) as u64;
        let full = self.max_context.div_ceil(self.block_size) as u64;
        // One block is spare (see `PageLayout`).
        let fit = |bytes: u64| (bytes / block).saturating_sub(1);
        let blocks = match self.cache_bytes {
            Some(bytes) => {
                let blocks = fit(bytes);
                if blocks == 0 {
                    return Err(Error::argument(format!(
                        "the cache of {bytes} bytes is too small: a block of {} tokens takes {block}, and one \
                         is spare",
                        self.block_size
                    )));
                }
                blocks
            }
            None => {
                let blocks = fit(self.available / self.share).min(full * FULL_CONTEXTS);
                if blocks == 0 {
                    return Err(Error::new(
                        Status::OutOfMemory,
                        format!("{} bytes left hold no cache; a block takes {block}", self.available),
                    ));
                }
                blocks
            }
        };
        // The pool's rows are numbered with 32 bits.
        let most =
            (i32::MAX as u64 / (2 * config.kv_heads as u64 * self.block_size as u64)).saturating_sub(1);
        let num_blocks = blocks.min(most) as usize;
        let (kv_heads, head_dim) = (config.kv_heads, config.head_dim);
        Ok(PageLayout { kv_heads, num_blocks, block_size: self.block_size, head_dim })
    }
}
