//! Pages: block pool, block tables, prefix index (pure) and page storage (MLX).

mod layout;
#[cfg(feature = "mlx")]
pub mod pages;

pub use layout::{PageLayout, contiguous};

/// Names one block of the page pool, in `0..total`.
pub type BlockId = u32;
