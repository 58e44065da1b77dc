//! What a step's kernels need to know of its tokens: where each stands, and where its pages are.

use crate::cache::{BlockId, PageLayout};

/// Positions and block tables of a step's tokens, in the form the kernels read (`page_plan.h`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePlan {
    words: Vec<u32>,
}

impl PagePlan {
    /// `tokens` are positions, each with the number of its sequence's table. Up to `filled` tokens in all, those that
    /// only fill up stand at position 0 of a table of their own, which is the spare block.
    pub fn new(layout: &PageLayout, tokens: &[(u32, u32)], tables: &[&[BlockId]], filled: usize) -> PagePlan {
        let spare = layout.spare_block();
        let width = tables.iter().map(|table| table.len()).max().unwrap_or(0).max(1);
        let filled = filled.max(tokens.len());
        let fillers = std::iter::repeat_n((0, tables.len() as u32), filled - tokens.len());
        let all = || tokens.iter().copied().chain(fillers.clone());
        let mut words = vec![layout.total_blocks() as u32, filled as u32, width as u32];
        words.extend(all().map(|(position, _)| position));
        words.extend(all().map(|(_, table)| table));
        for table in tables.iter().chain(&[&[] as &[BlockId]]) {
            words.extend(table.iter().copied().chain(std::iter::repeat_n(spare, width - table.len())));
        }
        PagePlan { words }
    }

    /// Three numbers (blocks that each head has in the pool, tokens, the tables' width), then positions, then the
    /// tokens' tables, then the tables, the spare one last.
    pub fn words(&self) -> &[u32] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_tables_follow_each_other() {
        let layout = PageLayout { kv_heads: 1, num_blocks: 4, block_size: 2, head_dim: 32 };
        let plan = PagePlan::new(&layout, &[(2, 0), (0, 1)], &[&[2, 0], &[1]], 3);
        assert_eq!(plan.words(), [5, 3, 2, 2, 0, 0, 0, 1, 2, 2, 0, 1, 4, 4, 4]);
        let none = PagePlan::new(&layout, &[], &[], 1);
        assert_eq!(none.words(), [5, 1, 1, 0, 0, 4]);
    }
}
