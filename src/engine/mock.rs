//! The deterministic mock model: a [`Runner`] that needs no MLX and catches what a scheduler does wrong.
//!
//! Promises:
//! - The next token is a hash of *all* tokens of the context, read back through the row's block table
//!   from pages the mock wrote itself: one wrong page, slot or copy gives another token.
//! - A greedy row depends on its context alone. With a temperature the hash also takes the seed and
//!   `sampled_before`. [`expected_tokens`] computes the same without pages: the oracle of tests.
//! - What may not be chosen (banned tokens, a bias of minus infinity, what a grammar does not allow) is not; other
//!   settings have nothing to act on, for the mock has no probabilities. It invents log-probabilities.
//! - With a recurrent layer ([`MockOptions::snapshots`]) the token depends on a state instead, which is the same
//!   hash as long as states are restored and saved where they should be.
//! - A step that breaks the contract of [`Step`] (table too short, slot taken twice, page not written,
//!   page written by a neighbour in the same step, token not sampled) fails with an internal error.
//! - Faults happen where [`MockOptions`] says, and nowhere else.

mod model;
mod states;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::{ContextHash, Place};
pub use model::{MockOptions, expected_tokens};

use super::{Constrained, MemoryUse, Runner, Sampled};
use crate::cache::{BlockId, SnapshotId};
use crate::error::{Error, Result, Status};
use crate::sampling::{PromptLogprobs, RowSampling};
use crate::scheduler::{Row, RowInput, SequenceId, Step};
use states::State;

/// What a token slot holds before it is written. No vocabulary reaches it.
const POISON: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Slot {
    id: SequenceId,
    token: u32,
}

#[derive(Debug)]
struct InFlight {
    number: u64,
    ready: Option<Instant>,
    sampled: Vec<Sampled>,
    waiting: Vec<Waiting>,
    scored: Vec<(SequenceId, PromptLogprobs)>,
}

/// A row that waits for its grammar.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// Where its token goes.
    index: usize,
    slot: u32,
    place: Place,
}

/// The mock runner. See the module's page.
#[derive(Debug)]
pub struct MockRunner {
    options: MockOptions,
    block_size: usize,
    /// `block_size` token ids for each block.
    pages: Vec<u32>,
    /// What each slot sampled last.
    slots: Vec<Option<Slot>>,
    in_flight: VecDeque<InFlight>,
    /// Steps launched over the runner's life.
    steps: u64,
    device_free_at: Option<Instant>,
    /// For each page slot the step that wrote it last, and the index of the row.
    writers: Vec<(u64, usize)>,
    slots_taken: Vec<bool>,
    /// Those of the step collected last.
    scored: Vec<(SequenceId, PromptLogprobs)>,
    /// The recurrent state of each slot, and each snapshot.
    states: Vec<Option<State>>,
    snapshots: Vec<Option<State>>,
}

impl MockRunner {
    /// A mock of `max_sequences` slots and `num_blocks` blocks of `block_size` tokens, all poisoned.
    pub fn new(options: MockOptions, num_blocks: u32, block_size: u32, max_sequences: usize) -> Result<Self> {
        options.validate()?;
        let snapshots = options.snapshots.unwrap_or(0) as usize;
        Ok(MockRunner {
            options,
            states: vec![None; max_sequences],
            snapshots: vec![None; snapshots],
            block_size: block_size as usize,
            pages: vec![POISON; num_blocks as usize * block_size as usize],
            slots: vec![None; max_sequences],
            in_flight: VecDeque::new(),
            steps: 0,
            device_free_at: None,
            writers: vec![(0, 0); num_blocks as usize * block_size as usize],
            slots_taken: vec![false; max_sequences],
            scored: Vec::new(),
        })
    }

    /// The behaviour it was made with.
    pub fn options(&self) -> &MockOptions {
        &self.options
    }

    /// Where position `position` of a sequence with this table lies in the page store.
    fn place(&self, row: &Row, position: usize) -> Result<usize> {
        let block = row.blocks.get(position / self.block_size).copied();
        let place = block.map(|b| b as usize * self.block_size + position % self.block_size);
        place.filter(|&p| p < self.pages.len()).ok_or_else(|| {
            broken(row, format_args!("position {position} is not in the pages of its table {:?}", row.blocks))
        })
    }

    fn copy_blocks(&mut self, step: &Step) -> Result<()> {
        let (block_size, slots) = (self.block_size, self.pages.len());
        let block_at = |block: BlockId| {
            let at = block as usize * block_size;
            if at >= slots {
                return Err(Error::internal(format!(
                    "mock: a copy names block {block}, which does not exist"
                )));
            }
            Ok(at)
        };
        for (i, copy) in step.copies.iter().enumerate() {
            let (from, to, tokens) = (block_at(copy.from)?, block_at(copy.to)?, copy.tokens as usize);
            let clash =
                |c: &crate::cache::BlockCopy| c.to == copy.to || c.from == copy.to || c.to == copy.from;
            if copy.from == copy.to || tokens > self.block_size || step.copies[..i].iter().any(clash) {
                return Err(Error::internal(format!("mock: {copy:?} is malformed or clashes with another")));
            }
            if self.pages[from..from + tokens].contains(&POISON) {
                return Err(Error::internal(format!("mock: {copy:?} reads slots that were never written")));
            }
            // What the copy does not cover must not be read before it is written.
            self.pages[to..to + self.block_size].fill(POISON);
            self.pages.copy_within(from..from + tokens, to);
        }
        Ok(())
    }

    /// The row's input tokens, with what comes from the device filled in.
    fn input<'a>(&self, row: &'a Row, buffer: &'a mut [u32; 1]) -> Result<&'a [u32]> {
        match &row.input {
            RowInput::Tokens(tokens) if tokens.is_empty() => Err(broken(row, "its input is empty")),
            RowInput::Tokens(tokens) => match tokens.iter().find(|&&t| t >= self.options.vocab_size) {
                Some(token) => Err(broken(row, format_args!("token {token} is outside the vocabulary"))),
                None => Ok(tokens),
            },
            RowInput::Sampled => match self.slots[row.slot as usize] {
                Some(slot) if slot.id == row.id => {
                    buffer[0] = slot.token;
                    Ok(buffer)
                }
                _ => Err(broken(row, "its slot has not sampled a token for it")),
            },
        }
    }

    /// Checks slots and writes every row's input into the pages.
    fn write_rows(&mut self, step: &Step) -> Result<()> {
        self.slots_taken.fill(false);
        for (index, row) in step.rows.iter().enumerate() {
            match self.slots_taken.get_mut(row.slot as usize) {
                Some(taken) if !*taken => *taken = true,
                _ => return Err(broken(row, "its slot does not exist or is taken twice")),
            }
            let mut buffer = [0];
            let input = self.input(row, &mut buffer)?;
            let start = row.start as usize;
            let places = (start..start + input.len()).map(|p| self.place(row, p));
            let places = places.collect::<Result<Vec<usize>>>()?;
            for (place, &token) in places.into_iter().zip(input) {
                self.pages[place] = token;
                let before = std::mem::replace(&mut self.writers[place], (self.steps, index));
                if before.0 == self.steps {
                    return Err(broken(row, "another row writes the same page slot"));
                }
            }
        }
        Ok(())
    }

    /// Reads the row's context back through its table.
    fn context(&self, index: usize, row: &Row) -> Result<ContextHash> {
        let mut context = ContextHash::new();
        let end = row.start as usize + row.input_len();
        for begin in (0..end).step_by(self.block_size) {
            let at = self.place(row, begin)?;
            let slots = at..at + self.block_size.min(end - begin);
            for (i, (&token, writer)) in
                self.pages[slots.clone()].iter().zip(&self.writers[slots]).enumerate()
            {
                let position = begin + i;
                if token == POISON {
                    return Err(broken(row, format_args!("position {position} was never written")));
                }
                if writer.0 == self.steps && writer.1 != index {
                    return Err(broken(row, format_args!("position {position} is written by another row")));
                }
                context.feed(token);
            }
        }
        Ok(context)
    }

    fn run(&mut self, step: &Step, how: &[Option<RowSampling<'_>>]) -> Result<(Vec<Sampled>, Vec<Waiting>)> {
        if how.len() != step.rows.len() {
            let (given, rows) = (how.len(), step.rows.len());
            return Err(Error::internal(format!("mock: {given} params for {rows} rows")));
        }
        if self.in_flight.back().is_some_and(|step| !step.waiting.is_empty()) {
            return Err(Error::internal("mock: a step is launched while rows of the last one wait"));
        }
        self.copy_blocks(step)?;
        self.restore_states(step)?;
        self.write_rows(step)?;
        let (mut sampled, mut waiting) = (Vec::with_capacity(step.rows.len()), Vec::new());
        for (index, (row, how)) in step.rows.iter().zip(how).enumerate() {
            let mut context = self.context(index, row)?;
            if self.options.snapshots.is_some() {
                context = self.advance(row, &step.saves)?;
            }
            let place = Place { context, sampled_before: row.sampled_before };
            self.slots[row.slot as usize] = None;
            match (row.samples, how) {
                (true, Some(how)) if how.constrained => {
                    waiting.push(Waiting { index: sampled.len(), slot: row.slot, place });
                    sampled.push(Sampled::new(row.id, POISON));
                }
                (true, Some(how)) => {
                    let token = self.options.next_token(&place, how, None);
                    self.slots[row.slot as usize] = Some(Slot { id: row.id, token });
                    sampled.push(self.options.sampled(row.id, token, how));
                }
                (false, None) => {}
                (false, Some(how)) if !how.scored.is_empty() => {}
                _ => return Err(broken(row, "it has params and does not sample, or the other way round")),
            }
        }
        Ok((sampled, waiting))
    }

    fn score(&self, step: &Step, how: &[Option<RowSampling<'_>>]) -> Vec<(SequenceId, PromptLogprobs)> {
        let rows = step.rows.iter().zip(how).filter_map(|(row, how)| Some((row, how.as_ref()?)));
        let scored = rows.filter(|(_, how)| !how.scored.is_empty()).map(|(row, how)| {
            let tokens = how.scored.iter().map(|&token| self.options.logprobs(token, how)).collect();
            (row.id, PromptLogprobs { start: row.start as usize + 1, tokens })
        });
        scored.collect()
    }

    fn choose(&mut self, rows: &[Constrained<'_>]) -> Result<()> {
        let step = self.in_flight.back_mut().ok_or_else(|| Error::internal("mock: no step is in flight"))?;
        let waiting = std::mem::take(&mut step.waiting);
        if waiting.is_empty() || waiting.len() != rows.len() {
            let (given, waiting) = (rows.len(), waiting.len());
            return Err(Error::internal(format!("mock: {given} grammars for {waiting} rows")));
        }
        for (row, waiting) in rows.iter().zip(waiting) {
            let sampled = &mut step.sampled[waiting.index];
            let id = sampled.id;
            *sampled = match &row.how {
                Some(how) => {
                    let token = self.options.next_token(&waiting.place, how, Some(row.allowed));
                    self.options.sampled(id, token, how)
                }
                None => Sampled::new(id, 0),
            };
            self.slots[waiting.slot as usize] = Some(Slot { id, token: sampled.token });
        }
        Ok(())
    }
}

impl MockRunner {
    /// The slots of a block.
    fn page(&self, block: BlockId) -> Result<std::ops::Range<usize>> {
        let at = block as usize * self.block_size;
        if at + self.block_size > self.pages.len() {
            return Err(Error::internal(format!("mock: there is no block {block}")));
        }
        Ok(at..at + self.block_size)
    }
}

fn broken(row: &Row, what: impl std::fmt::Display) -> Error {
    Error::internal(format!("mock: row of sequence {}, start {}: {what}", row.id, row.start))
}

fn injected(what: &str, step: u64) -> Error {
    Error::new(Status::DeviceError, format!("the mock device failed as told, {what} step {step}"))
}

impl Runner for MockRunner {
    fn launch(&mut self, step: &Step, how: &[Option<RowSampling<'_>>]) -> Result<()> {
        self.steps += 1;
        let number = self.steps;
        if number == self.options.panic_at_step {
            panic!("the mock panics as told, launching step {number}");
        }
        if number == self.options.fail_at_step {
            return Err(injected("launching", number));
        }
        let (sampled, waiting) = self.run(step, how)?;
        let scored = self.score(step, how);
        let ready = (self.options.step_micros > 0).then(|| {
            let now = Instant::now();
            let begin = self.device_free_at.map_or(now, |free| free.max(now));
            begin + Duration::from_micros(self.options.step_micros)
        });
        self.device_free_at = ready;
        self.in_flight.push_back(InFlight { number, ready, sampled, waiting, scored });
        Ok(())
    }

    fn constrain(&mut self, rows: &[Constrained<'_>]) -> Result<()> {
        self.choose(rows)
    }

    fn collect(&mut self) -> Result<Vec<Sampled>> {
        let step = self.in_flight.pop_front();
        let step = step.ok_or_else(|| Error::internal("mock: collect without a step in flight"))?;
        if let Some(ready) = step.ready {
            std::thread::sleep(ready.saturating_duration_since(Instant::now()));
        }
        if step.number == self.options.fail_collect_at_step {
            return Err(injected("collecting", step.number));
        }
        if !step.waiting.is_empty() {
            return Err(Error::internal("mock: a step was collected whose rows wait for their grammars"));
        }
        self.scored = step.scored;
        Ok(step.sampled)
    }

    fn take_prompt_logprobs(&mut self) -> Vec<(SequenceId, PromptLogprobs)> {
        std::mem::take(&mut self.scored)
    }

    fn reset(&mut self) -> Result<()> {
        self.in_flight.clear();
        self.pages.fill(POISON);
        self.slots.fill(None);
        self.states.fill(None);
        self.snapshots.fill(None);
        self.writers.fill((0, 0));
        self.device_free_at = None;
        Ok(())
    }

    fn page_format(&self) -> String {
        "mock: token ids".to_owned()
    }

    fn block_bytes(&self) -> usize {
        self.block_size * size_of::<u32>()
    }

    fn read_block(&mut self, block: BlockId) -> Result<Vec<u8>> {
        let at = self.page(block)?;
        Ok(self.pages[at].iter().flat_map(|token| token.to_le_bytes()).collect())
    }

    fn write_block(&mut self, block: BlockId, pages: &[u8]) -> Result<()> {
        let at = self.page(block)?;
        let (tokens, rest) = pages.as_chunks();
        if tokens.len() != at.len() || !rest.is_empty() {
            return Err(Error::internal(format!(
                "mock: {} bytes for a block of {} tokens",
                pages.len(),
                at.len()
            )));
        }
        for (slot, token) in self.pages[at].iter_mut().zip(tokens) {
            *slot = u32::from_le_bytes(*token);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        if self.options.snapshots.is_some() { 16 } else { 0 }
    }

    fn read_state(&mut self, snapshot: SnapshotId) -> Result<Vec<u8>> {
        self.state_to_bytes(snapshot)
    }

    fn write_state(&mut self, snapshot: SnapshotId, state: &[u8]) -> Result<()> {
        self.state_from_bytes(snapshot, state)
    }

    fn memory(&self) -> MemoryUse {
        let pages = std::mem::size_of_val(self.pages.as_slice()) as u64;
        MemoryUse { weights: 0, pages, peak: pages }
    }
}
