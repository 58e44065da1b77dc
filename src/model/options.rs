//! What loading a model can be told, and what it tells.

use crate::error::{Error, Result, Status};

/// How weights are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightFormat {
    /// As stored, on a GPU and where our own kernels multiply such weights on a CPU. Else as 32-bit floats,
    /// if those take at most a quarter of memory: MLX's quantized products run without SIMD on a CPU.
    #[default]
    Auto,
    /// As stored; on a CPU with scales and activations as 32-bit floats, since half precision is far
    /// slower there.
    AsStored,
    /// Every matrix as 32-bit floats.
    Float32,
}

/// Told how far the load is, in `0..=1`, and what it does; returns false to stop it.
pub type Progress<'a> = &'a mut dyn FnMut(f32, &str) -> bool;

/// What loading a model can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// The most sequences that run at a time.
    pub max_sequences: usize,
    /// Tokens a block of the page pool holds; a power of two.
    pub block_size: usize,
    /// Bytes for the page pool; `None` for what the device has left, within reason.
    pub cache_bytes: Option<u64>,
    /// The longest context, in tokens; `None`, or more than the model's own, for the model's own.
    pub max_context: Option<usize>,
    /// How weights are held.
    pub weight_format: WeightFormat,
    /// Whether to run MLX's elementary operations in place of our own kernels: slower, and what those are
    /// checked against.
    pub reference: bool,
    /// Whether to run what a GPU runs on a CPU too (slowly): how tests reach it without one.
    #[doc(hidden)]
    pub as_on_gpu: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            max_sequences: 64,
            block_size: 16,
            cache_bytes: None,
            max_context: None,
            weight_format: WeightFormat::Auto,
            reference: false,
            as_on_gpu: false,
        }
    }
}

impl LoadOptions {
    /// Refuses values outside their ranges, naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.max_sequences == 0 || self.max_sequences > 1 << 16 {
            return Err(Error::argument(format!("max_sequences is {}, want 1 to 65536", self.max_sequences)));
        }
        if !self.block_size.is_power_of_two() || self.block_size > 1024 {
            let message = format!("block_size is {}, want a power of two up to 1024", self.block_size);
            return Err(Error::argument(message));
        }
        if self.max_context == Some(0) {
            return Err(Error::argument("max_context is 0, want at least 1"));
        }
        Ok(())
    }
}

/// The error of a load that its caller stopped.
pub(crate) fn aborted() -> Error {
    Error::new(Status::Aborted, "loading was stopped by the progress callback")
}
