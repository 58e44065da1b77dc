//! A step's rows in the form a forward pass wants: where each stands, where its keys go, which rows
//! attend to what.

use mlx_rs::ops;

use super::Model;
use super::layers::{Angles, Kernels};
use crate::cache::BlockId;
use crate::cache::pages::{Pages, Table};
use crate::cache::states::{StateRow, StateRows};
use crate::error::Result;
use crate::kernels::gpu::PagePlan;
use crate::mlx::{Array, Dtype, upload};
use crate::scheduler::{BlockCopy, Row, StateSave};

/// Queries attended to at a time where scores are held in memory (CPU): fewer of them below the
/// diagonal are computed for nothing, and they stay in the cache.
const CPU_QUERIES: usize = 128;

/// One step's rows.
pub struct Batch {
    /// Rows, with those that only fill up.
    pub rows: usize,
    /// What attention needs to know.
    pub plan: Plan,
    /// The rows whose logits are wanted.
    pub outputs: Outputs,
    /// How many of `outputs` matter.
    pub wanted: usize,
    /// What recurrent layers need to know; empty for a model without any.
    pub states: StateRows,
}

/// Rows whose logits are wanted.
pub enum Outputs {
    /// None.
    Nothing,
    /// All, with those that only fill up.
    All,
    /// These, filled up by repetition: `[n]`.
    Rows(Array),
}

/// A step's attention.
pub enum Plan {
    /// By MLX's operations.
    Arrays {
        /// Where each row stands.
        angles: Angles,
        /// Where each row's keys and values go.
        slots: Array,
        /// Which rows attend to what; they cover the rows that matter, in order.
        groups: Vec<Group>,
    },
    /// By our own kernels on a GPU, which write the pages themselves, and read them for the first group if that is of
    /// single tokens and short runs.
    InPlace {
        /// Where the rows stand and where their pages are ([`PagePlan`]).
        plan: Array,
        /// Which rows attend to what; they cover the rows that matter, in order.
        groups: Vec<Group>,
    },
    /// By our own CPU kernel.
    #[cfg(quire_host_op)]
    Host(std::sync::Arc<crate::kernels::host::HostStep>),
}

/// Rows that attend together.
pub struct Group {
    /// How many rows.
    pub rows: i32,
    /// The pages they read.
    pub table: Table,
    /// How many sequences: 1, whose rows follow each other, or as many as there are rows.
    pub sequences: i32,
    /// Added to the scores: 0 where a row may look, minus infinity where not. `[rows, context]`, or
    /// `[rows, 1, 1, context]` for several sequences. `None` if rows see the whole context, or if
    /// [`Group::causal`].
    pub mask: Option<Array>,
    /// Each row sees one token more than the row before it, the last sees all (for MLX's fused kernel).
    pub causal: bool,
}

impl Batch {
    /// Lays out a step's rows for a model. `copies` are block copies that kernels of ours make themselves.
    pub fn new(
        rows: &[Row],
        copies: &[BlockCopy],
        pages: &Pages,
        model: &dyn Model,
        kernels: &Kernels,
    ) -> Result<Batch> {
        let mut outputs = Vec::new();
        let mut tokens = 0;
        for row in rows {
            tokens += row.input_len();
            if row.samples {
                outputs.push(tokens as u32 - 1);
            }
        }
        let wanted = outputs.len();
        let padded = kernels.fill_up(tokens, model.ends().dense);
        if let Some(&first) = outputs.first() {
            outputs.resize(kernels.fill_up(wanted, model.ends().dense), first);
        }
        Ok(Batch {
            rows: padded,
            plan: Plan::new(rows, copies, padded, pages, model, kernels)?,
            outputs: match wanted {
                0 => Outputs::Nothing,
                _ if wanted == tokens && outputs.len() == padded => Outputs::All,
                _ => Outputs::Rows(upload(&outputs, &[outputs.len() as i32])?),
            },
            wanted,
            states: states(rows, &[], pages)?,
        })
    }

    /// The same, where recurrent states that rows pass through are kept.
    pub fn keeping(self, rows: &[Row], saves: &[StateSave], pages: &Pages) -> Result<Batch> {
        match saves {
            [] => Ok(self),
            _ => Ok(Batch { states: states(rows, saves, pages)?, ..self }),
        }
    }
}

fn states(rows: &[Row], saves: &[StateSave], pages: &Pages) -> Result<StateRows> {
    let row = |row: &Row| StateRow { slot: row.slot, start: row.start, tokens: row.input_len() as u32 };
    pages.states().rows(&rows.iter().map(row).collect::<Vec<_>>(), saves)
}

impl Plan {
    fn new(
        rows: &[Row],
        copies: &[BlockCopy],
        padded: usize,
        pages: &Pages,
        model: &dyn Model,
        kernels: &Kernels,
    ) -> Result<Plan> {
        let (rope, dtype) = (&model.ends().rope, model.ends().dtype);
        if kernels.pages().is_some() {
            return Plan::in_place(rows, padded, pages, kernels);
        }
        #[cfg(quire_host_op)]
        if let Kernels::Host(_) = kernels {
            return Ok(Plan::host(rows, copies, model));
        }
        let _ = copies;
        let spare = [pages.layout().spare_block()];
        let mut tokens: Vec<(usize, &[BlockId])> = Vec::with_capacity(padded);
        for row in rows {
            let start = row.start as usize;
            tokens.extend((start..start + row.input_len()).map(|position| (position, &*row.blocks)));
        }
        tokens.resize(padded, (0, &spare));

        let decode = rows.iter().take_while(|row| row.input_len() == 1).count();
        let mut groups = Vec::new();
        let (singles, chunks) = if decode > 1 { rows.split_at(decode) } else { rows.split_at(0) };
        if !singles.is_empty() {
            // On a GPU a few rows more cost less than joining zeros to the others.
            let filled = if chunks.is_empty() && kernels.on_gpu() { padded } else { singles.len() };
            groups.push(many(singles, filled, pages, dtype)?);
        }
        for row in chunks {
            one(row, pages, dtype, kernels.on_gpu(), &mut groups)?;
        }
        let positions: Vec<u32> = tokens.iter().map(|(position, _)| *position as u32).collect();
        Ok(Plan::Arrays { angles: rope.angles(&positions)?, slots: pages.slots(tokens.into_iter())?, groups })
    }

    fn in_place(rows: &[Row], padded: usize, pages: &Pages, kernels: &Kernels) -> Result<Plan> {
        let mut tokens = Vec::with_capacity(padded);
        let tables: Vec<&[BlockId]> = rows.iter().map(|row| used(row, pages)).collect();
        for (i, row) in rows.iter().enumerate() {
            tokens
                .extend((row.start..row.start + row.input_len() as u32).map(|position| (position, i as u32)));
        }
        let plan = PagePlan::new(pages.layout(), &tokens, &tables, padded).array(pages.after())?;

        let small = small_rows(rows, kernels.most_in_place());
        let mut groups = Vec::new();
        if small > 0 {
            // Rows that only fill up cost less than joining zeros to the others.
            let queries: usize = rows[..small].iter().map(Row::input_len).sum();
            let rows = if small == rows.len() { padded } else { queries } as i32;
            groups.push(Group { rows, table: Table::InPlace, sequences: rows, mask: None, causal: false });
        }
        for (row, table) in rows.iter().zip(&tables).skip(small) {
            let queries = row.input_len();
            groups.push(Group {
                rows: queries as i32,
                table: pages.tables(&[table], row.start as usize + queries)?,
                sequences: 1,
                mask: None,
                causal: queries > 1,
            });
        }
        Ok(Plan::InPlace { plan, groups })
    }

    #[cfg(quire_host_op)]
    fn host(rows: &[Row], copies: &[BlockCopy], model: &dyn Model) -> Plan {
        use crate::kernels::host::{HostRow, HostStep};

        let mut positions = Vec::new();
        let mut own = Vec::with_capacity(rows.len());
        for row in rows {
            let first = positions.len();
            positions.extend(row.start..row.start + row.input_len() as u32);
            let (tokens, start) = (first..positions.len(), row.start as usize);
            own.push(HostRow { tokens, start, blocks: row.blocks.clone() });
        }
        let (cos, sin) = model.ends().rope.tables(&positions);
        Plan::Host(std::sync::Arc::new(HostStep { rows: own, copies: copies.to_vec(), cos, sin }))
    }
}

/// How many rows, from the first on, have one token or at most so many pairs of a query and a key.
fn small_rows(rows: &[Row], most: usize) -> usize {
    let is_small = |row: &&Row| {
        let (queries, context) = (row.input_len(), row.start as usize + row.input_len());
        queries == 1 || queries * context <= most
    };
    rows.iter().take_while(is_small).count()
}

/// The blocks that a row's context is in.
fn used<'a>(row: &'a Row, pages: &Pages) -> &'a [BlockId] {
    let blocks = (row.start as usize + row.input_len()).div_ceil(pages.layout().block_size);
    &row.blocks[..blocks.min(row.blocks.len())]
}

/// One token each of several sequences; `filled` rows with those that only fill up, which see the longest
/// context in the spare block.
fn many(rows: &[Row], filled: usize, pages: &Pages, dtype: Dtype) -> Result<Group> {
    let mut contexts: Vec<usize> = rows.iter().map(|row| row.start as usize + 1).collect();
    let longest = contexts.iter().copied().max().unwrap_or(1);
    let mut tables: Vec<&[BlockId]> = rows.iter().map(|row| &*row.blocks).collect();
    contexts.resize(filled, longest);
    tables.resize(filled, &[]);
    let mask = if contexts.iter().all(|&context| context == longest) {
        None
    } else {
        let mut mask = Vec::with_capacity(filled * longest);
        for &context in &contexts {
            mask.extend((0..longest).map(|key| if key < context { 0.0 } else { f32::NEG_INFINITY }));
        }
        let mask = Array::from_slice(&mask, &[filled as i32, 1, 1, longest as i32]);
        Some(mask.as_dtype(dtype)?)
    };
    let rows = filled as i32;
    Ok(Group { rows, table: pages.tables(&tables, longest)?, sequences: rows, mask, causal: false })
}

/// A run of tokens of one sequence.
fn one(row: &Row, pages: &Pages, dtype: Dtype, fused: bool, groups: &mut Vec<Group>) -> Result<()> {
    let (start, end) = (row.start as usize, row.start as usize + row.input_len());
    let at_once = if fused { row.input_len() } else { CPU_QUERIES };
    let mut first = start;
    while first < end {
        let context = end.min(first + at_once);
        let queries = context - first;
        let mask = match queries {
            1 => None,
            _ if fused => None,
            _ => Some(causal_mask(first, queries, dtype)?),
        };
        groups.push(Group {
            rows: queries as i32,
            table: pages.table(&row.blocks, context)?,
            sequences: 1,
            mask,
            causal: queries > 1 && fused,
        });
        first = context;
    }
    Ok(())
}

/// `[queries, first + queries]`: query `i` sees keys up to `first + i`.
fn causal_mask(first: usize, queries: usize, dtype: Dtype) -> Result<Array> {
    let positions: Vec<i32> = (0..(first + queries) as i32).collect();
    let keys = Array::from_slice(&positions, &[1, positions.len() as i32]);
    let own = Array::from_slice(&positions[first..], &[queries as i32, 1]);
    let sees = ops::ge(&own, &keys)?;
    let mask = ops::select(sees, Array::from_f32(0.0), Array::from_f32(f32::NEG_INFINITY))?;
    Ok(mask.as_dtype(dtype)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::RowInput;

    fn row(start: u32, tokens: usize) -> Row {
        Row {
            id: 0,
            slot: 0,
            input: RowInput::Tokens(vec![0; tokens]),
            start,
            blocks: Vec::new().into(),
            samples: true,
            sampled_before: 0,
        }
    }

    #[test]
    fn small_rows_end_at_the_first_large_one() {
        let rows = [row(5000, 1), row(0, 1), row(0, 10), row(30, 10), row(0, 21), row(0, 2)];
        assert_eq!(small_rows(&rows, 0), 2);
        assert_eq!(small_rows(&rows, 100), 3);
        assert_eq!(small_rows(&rows, 400), 4);
        assert_eq!(small_rows(&rows, 441), 6);
        assert_eq!(small_rows(&[], 441), 0);
    }
}
