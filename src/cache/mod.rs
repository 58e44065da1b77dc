//! Pages: block pool, block tables, prefix index (pure) and page storage (MLX).

/// Names one block of the page pool, in `0..total`.
pub type BlockId = u32;
