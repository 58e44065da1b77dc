//! Planning one step.

use std::time::Instant;

use super::sequence::Place;
use super::share::{Want, share};
use super::state::{Blocked, Scheduler, lost};
use super::{Row, RowInput, SequenceId, StateCopy, Step, sharing, snapshots};
use crate::cache::{BlockTable, blocks_for};
use crate::error::{Error, Result};

/// How many waiting sequences beyond `max_sequences` a plan looks at, past those that wait for blocks
/// others are computing.
const MAX_PASSED: usize = 64;

/// A sequence that did not fit is tried again after this many plans even if no block was freed: blocks
/// it can share may have been indexed.
const RETRY_AFTER: u64 = 8;

/// A step, and what happened on the way to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The step to launch, if there is anything to run.
    pub step: Option<Step>,
    /// Sequences that got pages and a slot.
    pub admitted: Vec<Admitted>,
    /// Sequences whose deadline has passed; they are gone.
    pub expired: Vec<SequenceId>,
}

/// A sequence that begins to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// The sequence.
    pub id: SequenceId,
    /// Its leading tokens that were found in the cache and are not computed.
    pub cached_tokens: u32,
    /// It had been admitted before, and preempted.
    pub again: bool,
}

enum Admission {
    Admitted(Admitted),
    /// Another sequence is computing what it needs.
    Waits,
    NoRoom,
}

impl Scheduler {
    /// Plans the next step and takes it as launched. See the module's page for the protocol.
    ///
    /// An error is a defect of this library: [`Scheduler::reset`] makes the scheduler usable again.
    pub fn plan(&mut self, now: Instant) -> Result<Plan> {
        self.plans += 1;
        let mut plan = Plan { expired: self.expire(now)?, ..Plan::default() };
        let mut step = Step { rows: Vec::with_capacity(self.running.len()), ..Step::default() };
        self.plan_decode(&mut step)?;
        self.admit(&mut step, &mut plan.admitted)?;
        self.plan_prefill(&mut step)?;
        self.blocks.end_plan()?;
        if !step.rows.is_empty() {
            self.stats.steps += 1;
            plan.step = Some(step);
        } else if !step.copies.is_empty() || !step.restores.is_empty() {
            return Err(Error::internal("a step was planned with copies or states and without rows"));
        }
        Ok(plan)
    }

    /// One row for every sequence that has only its latest token left to run. Pages for the rows are
    /// taken in order, so whoever is preempted has no row in this step yet.
    fn plan_decode(&mut self, step: &mut Step) -> Result<()> {
        let mut next = 0;
        while let Some(&(rank, id)) = self.running.get(next) {
            next += 1;
            let s = self.sequences.get(&id).ok_or_else(|| lost(id))?;
            if !s.is_decoding() || s.is_drained() {
                continue;
            }
            let (full, promised) = (s.computed == s.table.len() * self.blocks.block_size(), s.promised);
            let generated = self.want_generated(id)?;
            if promised > 0 {
                // All but the last of its tokens were computed before it was preempted.
                self.claim(id, 1)?;
            } else if full {
                let got_block = self.grow(id)?;
                // Preemption may have taken sequences out before this one, too.
                next = self.running.partition_point(|r| r.0 <= rank);
                if !got_block {
                    continue;
                }
            }
            let start = self.push_row(step, id, 1)?;
            self.save_states(step, id, start, generated)?;
            self.stats.decode_tokens += 1;
        }
        Ok(())
    }

    /// Gives a decoding sequence one more block, preempting others for it. `false` if it was itself the
    /// last in order, and has been preempted.
    fn grow(&mut self, id: SequenceId) -> Result<bool> {
        while self.spare() == 0 {
            let victim = self.victim()?;
            self.preempt(victim)?;
            if victim == id {
                return Ok(false);
            }
        }
        self.push_block(id)?;
        Ok(true)
    }

    fn push_block(&mut self, id: SequenceId) -> Result<()> {
        let block =
            self.blocks.allocate()?.ok_or_else(|| Error::internal("a promised block is not there"))?;
        self.sequences.get_mut(&id).ok_or_else(|| lost(id))?.table.push(block);
        Ok(())
    }

    /// Gives a sequence in its prompt the blocks for its next `tokens` tokens, out of those promised.
    fn claim(&mut self, id: SequenceId, tokens: usize) -> Result<()> {
        let size = self.blocks.block_size();
        let s = self.sequences.get_mut(&id).ok_or_else(|| lost(id))?;
        let more = blocks_for(s.computed + tokens, size).saturating_sub(s.table.len());
        let short = || Error::internal(format!("sequence {id} needs {more} blocks, more than promised"));
        s.promised = s.promised.checked_sub(more as u32).ok_or_else(short)?;
        self.promised -= more as u32;
        (0..more).try_for_each(|_| self.push_block(id))
    }

    /// Whose pages go first: a sequence with nothing left to run (in this step neither), else the last in
    /// order.
    fn victim(&self) -> Result<SequenceId> {
        let drained = |id: &SequenceId| {
            self.sequences.get(id).is_some_and(|s| s.is_drained() && s.last_row < self.plans)
        };
        let mut youngest_first = self.running.iter().rev().map(|r| r.1);
        let last = self.running.last().map(|r| r.1);
        youngest_first
            .find(drained)
            .or(last)
            .ok_or_else(|| Error::internal("every block is in use and no sequence holds any"))
    }

    /// Admits waiting sequences in order, as slots and pages allow.
    fn admit(&mut self, step: &mut Step, admitted: &mut Vec<Admitted>) -> Result<()> {
        if self.waiting.is_empty() || self.free_slots.is_empty() {
            return Ok(());
        }
        let looked_at = self.config.max_sequences + MAX_PASSED;
        let candidates: Vec<SequenceId> = self.waiting.values().take(looked_at).copied().collect();
        for id in candidates {
            if self.free_slots.is_empty() {
                break;
            }
            match self.try_admit(step, id)? {
                Admission::Admitted(one) => admitted.push(one),
                Admission::Waits => {}
                Admission::NoRoom => break,
            }
        }
        Ok(())
    }

    fn try_admit(&mut self, step: &mut Step, id: SequenceId) -> Result<Admission> {
        let s = self.sequences.get(&id).ok_or_else(|| lost(id))?;
        if s.in_flight() > 0 || self.is_still_blocked(id) {
            return Ok(Admission::NoRoom);
        }
        if self.still_waits(s) {
            return Ok(Admission::Waits);
        }
        let size = self.blocks.block_size();
        let found = self.blocks.match_prefix(&s.hashes, &s.tokens);
        let (root, tokens) = (s.hashes.root(), s.tokens.len());
        let wait = match self.blocks.needs_states() {
            false => self.worth_waiting_for(s, found.blocks.len()),
            true => self.state_worth_waiting_for(id, found.blocks.len()),
        };
        let s = self.sequences.get_mut(&id).ok_or_else(|| lost(id))?;
        s.waits_for = wait;
        if wait.is_some() {
            return Ok(Admission::Waits);
        }
        // One block for each running sequence to grow by. When nothing runs, everything is there.
        let reserve = self.promised + self.running.len() as u32;
        let Some(pages) = self.blocks.allocate_for(root, &found, tokens, reserve)? else {
            self.blocked = Some(Blocked { id, spare: self.spare(), plan: self.plans });
            return Ok(Admission::NoRoom);
        };

        s.place = Place::Running;
        s.slot = self.free_slots.pop().ok_or_else(|| Error::internal("no slot is free"))?;
        s.table = BlockTable::new(pages.blocks);
        s.promised = pages.promised;
        self.promised += pages.promised;
        s.computed = pages.cached_tokens;
        s.indexed = found.blocks.len();
        s.tip = pages.tip;
        s.last_row = self.plans - 1;
        let again = std::mem::replace(&mut s.started, true);
        sharing::announce(&mut self.announced, id, s);
        snapshots::want(&self.blocks, s, &found);
        step.restores.extend(found.snapshot.map(|snapshot| StateCopy { snapshot, slot: s.slot }));
        let rank = s.rank;
        self.waiting.remove(&rank);
        self.running.insert(self.running.partition_point(|r| r.0 < rank), (rank, id));
        step.copies.extend(pages.copy);

        debug_assert!(pages.cached_tokens < tokens && found.blocks.len() * size <= pages.cached_tokens);
        let stats = &mut self.stats;
        stats.copied_blocks += u64::from(pages.copy.is_some());
        if !again {
            stats.prefix_queries += 1;
            stats.prefix_hits += u64::from(pages.cached_tokens > 0);
            stats.prefix_tokens += pages.cached_tokens as u64;
            stats.shared_blocks += found.blocks.len() as u64;
        }
        Ok(Admission::Admitted(Admitted { id, cached_tokens: pages.cached_tokens as u32, again }))
    }

    fn is_still_blocked(&self, id: SequenceId) -> bool {
        !self.running.is_empty()
            && self
                .blocked
                .is_some_and(|b| b.id == id && self.spare() <= b.spare && self.plans < b.plan + RETRY_AFTER)
    }

    /// Chunks of prompts (and of sequences being computed again) for what is left of the budget. Indexes
    /// what they complete: this plan matches nothing any more.
    fn plan_prefill(&mut self, step: &mut Step) -> Result<()> {
        let (mut ids, mut wants) = (Vec::new(), Vec::new());
        for &(rank, id) in &self.running {
            let s = self.sequences.get(&id).ok_or_else(|| lost(id))?;
            if s.last_row < self.plans && !s.is_drained() {
                ids.push(id);
                wants.push(Want { priority: rank.priority.0, left: s.left() });
            }
        }
        let mut budget = self.config.max_step_tokens - step.rows.len();
        if !step.rows.is_empty() {
            budget = budget.min(self.prefill_limit);
        }
        let chunks = share(budget, self.config.max_prefill_chunk, &wants);
        for (id, chunk) in ids.into_iter().zip(chunks) {
            if chunk == 0 {
                continue;
            }
            self.claim(id, chunk)?;
            let start = self.push_row(step, id, chunk)?;
            self.save_states(step, id, start, false)?;
            self.stats.prefill_tokens += chunk as u64;
            let s = self.sequences.get_mut(&id).ok_or_else(|| lost(id))?;
            sharing::index_ready(&mut self.blocks, &mut self.announced, id, s)?;
            if s.left() == 1 {
                sharing::index_tail(&mut self.blocks, s)?;
            }
        }
        Ok(())
    }

    /// Appends a row of the sequence's next `tokens` tokens. Returns the position of the first.
    fn push_row(&mut self, step: &mut Step, id: SequenceId, tokens: usize) -> Result<usize> {
        let s = self.sequences.get_mut(&id).ok_or_else(|| lost(id))?;
        let input = if s.in_flight() > 0 {
            RowInput::Sampled
        } else {
            RowInput::Tokens(s.tokens[s.computed..s.computed + tokens].to_vec())
        };
        let samples = tokens == s.left();
        step.rows.push(Row {
            id,
            slot: s.slot,
            input,
            start: s.computed as u32,
            blocks: s.table.snapshot(),
            samples,
            sampled_before: s.sampled,
        });
        let start = s.computed;
        s.computed += tokens;
        s.sampled += u32::from(samples);
        s.last_row = self.plans;
        Ok(start)
    }
}
