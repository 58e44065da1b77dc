//! How many blocks the page pool gets, and how many snapshots of recurrent states there are.

use super::ModelConfig;
use crate::cache::PageLayout;
use crate::error::{Error, Result, Status};

/// Beyond so many full contexts a pool taken without asking is no use.
const FULL_CONTEXTS: u64 = 4;

/// Snapshots of recurrent states take at most this part of a cache, as a divisor: one is as large as the pages of
/// hundreds or thousands of tokens.
const SNAPSHOT_SHARE: u64 = 4;

/// More snapshots than this, and than twice the sequences that run at once, are no use.
const FEW_SNAPSHOTS: u64 = 64;

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
    /// Sequences that run at once, each with its recurrent states if the model has such.
    pub max_sequences: usize,
}

/// A cache's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSize {
    /// The page pool's shape.
    pub layout: PageLayout,
    /// Snapshots of recurrent states; `None` for a model without recurrent layers.
    pub snapshots: Option<u32>,
}

impl Budget {
    /// The page pool's shape, and how many snapshots there are.
    ///
    /// The bytes hold the recurrent states of every sequence, snapshots of such states, and pages.
    ///
    /// Errors: `InvalidArgument` if the bytes asked for hold not even the states and a block; `OutOfMemory` if
    /// the device has no room for them.
    pub fn sizes(&self, config: &ModelConfig) -> Result<CacheSize> {
        let state = config.state_bytes(self.element_bytes) as u64;
        if state == 0 {
            return Ok(CacheSize { layout: self.layout(config)?, snapshots: None });
        }
        let running = state * self.max_sequences as u64;
        let bytes = self.cache_bytes.unwrap_or(self.available / self.share);
        let Some(left) = bytes.checked_sub(running).filter(|&left| left > 0) else {
            let message = format!(
                "a cache of {bytes} bytes does not hold the recurrent states of {} sequences, {state} bytes each",
                self.max_sequences
            );
            return Err(match self.cache_bytes {
                Some(_) => Error::argument(message),
                None => Error::new(Status::OutOfMemory, message),
            });
        };
        let useful = FEW_SNAPSHOTS.max(2 * self.max_sequences as u64);
        let snapshots = (left / SNAPSHOT_SHARE / state).min(useful);
        let taken = running + snapshots * state;
        let rest = Budget {
            cache_bytes: self.cache_bytes.map(|bytes| bytes - taken),
            available: self.available.saturating_sub(taken * self.share),
            ..*self
        };
        Ok(CacheSize { layout: rest.layout(config)?, snapshots: Some(snapshots as u32) })
    }

    /// The pool's shape.
    ///
    /// Errors: `InvalidArgument` if the bytes asked for hold no block; `OutOfMemory` if the device has
    /// no room for one.
    pub fn layout(&self, config: &ModelConfig) -> Result<PageLayout> {
        let elements = PageLayout::block_elements(config.kv_heads, config.head_dim, self.block_size);
        // Without any attention there are no pages, only their numbers.
        let block = ((elements * self.element_bytes * config.page_layers()) as u64).max(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cache_bytes: Option<u64>, available: u64) -> Budget {
        Budget {
            block_size: 16,
            max_context: 100,
            element_bytes: 4,
            cache_bytes,
            available,
            share: 4,
            max_sequences: 3,
        }
    }

    fn budget(cache_bytes: Option<u64>, available: u64) -> Result<PageLayout> {
        let config = ModelConfig::from_json(
            r#"{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 10, "rms_norm_eps": 1e-5}"#,
        )?;
        of(cache_bytes, available).layout(&config)
    }

    /// 2 layers of 2 + 2 heads of 16 elements of 4 bytes, 16 tokens.
    const BLOCK: u64 = 2 * 4 * 16 * 4 * 16;

    /// As `budget`, for a hybrid model of one layer with pages and two with states, and three sequences.
    fn hybrid_budget(cache_bytes: Option<u64>, available: u64) -> Result<CacheSize> {
        let config = ModelConfig::from_json(
            r#"{"model_type": "nemotron_h", "hidden_size": 64, "hybrid_override_pattern": "M*M",
                "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 10,
                "layer_norm_epsilon": 1e-5, "max_position_embeddings": 512, "attention_bias": false,
                "mlp_bias": false, "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16,
                "n_groups": 2, "conv_kernel": 4, "mamba_proj_bias": false, "use_conv_bias": true}"#,
        )?;
        of(cache_bytes, available).sizes(&config)
    }

    /// 2 layers: 8 heads of 16 by 16, and 3 tokens of 8 * 16 + 2 * 2 * 16 channels, 4 bytes each.
    const STATE: u64 = 2 * 4 * (8 * 16 * 16 + 3 * 192);

    #[test]
    fn states_come_first_and_snapshots_get_a_quarter_of_the_rest() {
        let block = BLOCK / 2;
        for bytes in [4 * STATE, 20 * STATE, 20 * STATE + 7, 1000 * STATE] {
            let CacheSize { layout, snapshots } = hybrid_budget(Some(bytes), 0).unwrap();
            let snapshots = u64::from(snapshots.unwrap());
            assert_eq!(snapshots, ((bytes - 3 * STATE) / 4 / STATE).min(FEW_SNAPSHOTS));
            let used = (3 + snapshots) * STATE + layout.total_blocks() as u64 * block;
            assert!(used <= bytes && used + block > bytes, "{used} of {bytes}");
        }
        let e = hybrid_budget(Some(3 * STATE), u64::MAX).unwrap_err();
        assert_eq!(e.status(), Status::InvalidArgument);
        assert!(e.message().contains("recurrent states of 3 sequences"), "{e}");
        // Unasked: of a quarter of what there is.
        let size = hybrid_budget(None, 4 * 20 * STATE).unwrap();
        assert_eq!(size.snapshots, Some(4));
        assert!(size.layout.total_blocks() as u64 * block <= 13 * STATE);
        assert_eq!(hybrid_budget(None, 4 * 3 * STATE).unwrap_err().status(), Status::OutOfMemory);
    }

    #[test]
    fn bytes_asked_for_are_not_exceeded() {
        assert_eq!(budget(Some(11 * BLOCK - 1), 0).unwrap().num_blocks, 9);
        assert_eq!(budget(Some(11 * BLOCK), 0).unwrap().total_blocks(), 11);
        let e = budget(Some(BLOCK), u64::MAX).unwrap_err();
        assert_eq!(e.status(), Status::InvalidArgument);
        assert!(e.message().contains("cache"), "{e}");
    }

    #[test]
    fn unasked_a_share_of_what_is_left_up_to_a_few_contexts() {
        assert_eq!(budget(None, 4 * 6 * BLOCK).unwrap().num_blocks, 5);
        // 100 tokens are 7 blocks.
        assert_eq!(budget(None, u64::MAX / 2).unwrap().num_blocks, 28);
        assert_eq!(budget(None, 0).unwrap_err().status(), Status::OutOfMemory);
        assert!(budget(Some(u64::MAX), 0).unwrap().slots() <= i32::MAX as usize);
    }
}
