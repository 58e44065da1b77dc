//! How each row of a step gets its token: with the step, or, where a grammar has to see the token before, after it.

use super::Worker;
use crate::engine::event::RequestId;
use crate::engine::runner::Constrained;
use crate::error::Result;
use crate::sampling::RowSampling;
use crate::scheduler::{Row, Step};

/// A launched row whose token is still to be chosen.
pub(super) struct Waiting {
    id: RequestId,
    sampled_before: u32,
}

impl Waiting {
    fn of(row: &Row) -> Self {
        Waiting { id: row.id, sampled_before: row.sampled_before }
    }
}

impl Worker {
    /// Starts a step. Returns its rows whose tokens are chosen when the step before it has been collected.
    pub(super) fn launch(&mut self, step: &Step) -> Result<Vec<Waiting>> {
        let how = step.rows.iter().map(|row| {
            let active = self.requests.get(&row.id)?;
            let tokens = self.scheduler.tokens(row.id)?;
            let scores = active.scores_prompt(row.start);
            let how = (row.samples || scores).then(|| active.how(row.sampled_before, tokens))?;
            if !scores {
                return Some(how);
            }
            let first = row.start as usize + 1;
            let end = (first + row.input_len()).min(how.prompt_len);
            Some(RowSampling { scored: &tokens[first..end], ..how })
        });
        let how: Vec<_> = how.collect();
        self.runner.launch(step, &how)?;
        let waits = |how: &Option<RowSampling<'_>>| how.is_some_and(|how| how.constrained);
        let waiting = step.rows.iter().zip(&how).filter(|(row, how)| row.samples && waits(how));
        Ok(waiting.map(|(row, _)| Waiting::of(row)).collect())
    }

    /// Chooses the tokens of rows with a grammar: all tokens before them are known now. The device computes the
    /// step meanwhile.
    pub(super) fn constrain(&mut self, waiting: &[Waiting]) -> Result<()> {
        if waiting.is_empty() {
            return Ok(());
        }
        for row in waiting {
            let Some(active) = self.requests.get_mut(&row.id) else { continue };
            if let Err(error) = active.find_allowed(row.sampled_before, &self.shared.eos_tokens) {
                self.give_up(row.id, error)?;
            }
        }
        let rows = waiting.iter().map(|row| {
            let ended = Constrained { how: None, allowed: &[] };
            let Some(active) = self.requests.get(&row.id) else { return ended };
            let how = self.scheduler.tokens(row.id).map(|tokens| active.how(row.sampled_before, tokens));
            Constrained { how, allowed: active.allowed() }
        });
        let rows: Vec<_> = rows.collect();
        self.runner.constrain(&rows)
    }
}
