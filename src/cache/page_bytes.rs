//! A block's pages as bytes, to save and to load: all layers one after the other, in the storage's own layout.

use mlx_rs::ops::indexing;

use super::pages::{Pages, Store};
use super::{BlockId, PageLayout};
use crate::error::{Error, Result};
use crate::mlx::{self, Array};

impl Pages {
    /// The layout in words: pages of one format are no use to another.
    pub fn format(&self) -> String {
        let PageLayout { kv_heads, block_size, head_dim, .. } = *self.layout();
        let (layers, kind) = match &self.store {
            Store::Arrays(pools) => {
                (pools.len(), pools.first().map_or("none".into(), |p| format!("{:?}", p.dtype())))
            }
            Store::Host(pools) => (pools.len(), "host kernels, Float16".to_owned()),
        };
        format!("1: {layers} layers, {kv_heads} heads of {head_dim}, blocks of {block_size}, {kind}")
    }

    /// Bytes of one block, all layers together.
    pub fn block_bytes(&self) -> usize {
        self.bytes() as usize / self.layout().total_blocks()
    }

    /// A block's bytes. No operation on the pages is running.
    pub fn read_block(&self, block: BlockId) -> Result<Vec<u8>> {
        self.check_block(block)?;
        let mut bytes = Vec::with_capacity(self.block_bytes());
        match &self.store {
            Store::Arrays(pools) => {
                let (rows, width) = self.rows(block);
                for pool in pools {
                    let block = pool.reshape(&[-1, width])?.take_axis(&rows, 0)?;
                    bytes.extend(mlx::to_bytes(&block)?);
                }
            }
            Store::Host(pools) => {
                for pool in pools {
                    // SAFETY: no operation on the pages is running, by this function's contract.
                    unsafe { pool.read(block as usize, &mut bytes) }
                }
            }
        }
        Ok(bytes)
    }

    /// Fills a block with what [`Pages::read_block`] gave. No operation on the pages is running.
    pub fn write_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<()> {
        self.check_block(block)?;
        if bytes.len() != self.block_bytes() {
            return Err(Error::internal(format!(
                "{} bytes for a block of {}",
                bytes.len(),
                self.block_bytes()
            )));
        }
        let (rows, width) = self.rows(block);
        let dim = self.layout().head_dim as i32;
        match &mut self.store {
            Store::Arrays(pools) => {
                let each = bytes.len() / pools.len().max(1);
                for (pool, bytes) in pools.iter_mut().zip(bytes.chunks_exact(each.max(1))) {
                    // Bytes of a file are aligned to nothing; words of 32 bits are for every element type.
                    let words: Vec<u32> =
                        bytes.as_chunks().0.iter().map(|w| u32::from_ne_bytes(*w)).collect();
                    let update = mlx::from_words(&words, &[rows.dim(0), 1, width], pool.dtype())?;
                    let written = indexing::scatter_single(&pool.reshape(&[-1, width])?, &rows, update, 0)?;
                    *pool = written.reshape(&[-1, dim])?;
                    pool.eval()?;
                }
            }
            Store::Host(pools) => {
                let each = bytes.len() / pools.len().max(1);
                for (pool, bytes) in pools.iter().zip(bytes.chunks_exact(each.max(1))) {
                    // SAFETY: no operation on the pages is running, by this function's contract.
                    unsafe { pool.write(block as usize, bytes) }
                }
            }
        }
        Ok(())
    }

    fn check_block(&self, block: BlockId) -> Result<()> {
        if block as usize >= self.layout().num_blocks {
            return Err(Error::internal(format!("there is no block {block}")));
        }
        Ok(())
    }

    /// The rows of a pool, seen as blocks of one head each, that belong to a block; and a row's width.
    fn rows(&self, block: BlockId) -> (Array, i32) {
        let layout = self.layout();
        let rows: Vec<u32> = (0..layout.heads()).map(|head| layout.block(head, block) as u32).collect();
        (Array::from_slice(&rows, &[rows.len() as i32]), (layout.block_size * layout.head_dim) as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::Dtype;

    #[test]
    fn a_block_comes_back_and_its_neighbours_stay() {
        mlx::init().unwrap();
        let layout = PageLayout { kv_heads: 2, num_blocks: 3, block_size: 4, head_dim: 8 };
        let pages = || {
            [
                Pages::on_host(layout, 2).unwrap(),
                Pages::new(layout, 2, Dtype::Float32, false).unwrap(),
                Pages::new(layout, 2, Dtype::Bfloat16, false).unwrap(),
            ]
        };
        for mut pages in pages() {
            let bytes: Vec<u8> = (0..pages.block_bytes()).map(|i| (i % 120) as u8).collect();
            pages.write_block(1, &bytes).unwrap();
            assert_eq!(pages.read_block(1).unwrap(), bytes);
            for other in [0, 2] {
                assert!(pages.read_block(other).unwrap().iter().all(|byte| *byte == 0));
            }
            assert!(pages.read_block(3).is_err() && pages.write_block(3, &bytes).is_err());
            assert!(pages.write_block(0, &bytes[1..]).is_err());
        }
        let formats: std::collections::BTreeSet<String> = pages().iter().map(Pages::format).collect();
        assert_eq!(formats.len(), 3);
    }
}
