//! The scheduler's state, and everything between two plans.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::sequence::{Place, Rank, Sequence};
use super::{NewSequence, SchedulerConfig, SchedulerStats, SequenceId};
use super::{sharing, snapshots};
use crate::cache::{
    BlockCounts, BlockHashes, BlockId, BlockManager, BlockTable, ChainHash, Parent, SavedBlock, SnapshotId,
    blocks_for,
};
use crate::error::{Error, Result, Status};

/// Decides what runs. See the module's page.
pub struct Scheduler {
    pub(super) config: SchedulerConfig,
    pub(super) blocks: BlockManager,
    pub(super) sequences: FxHashMap<SequenceId, Sequence>,
    pub(super) waiting: BTreeMap<Rank, SequenceId>,
    /// In order of rank.
    pub(super) running: Vec<(Rank, SequenceId)>,
    pub(super) free_slots: Vec<u32>,
    /// Available blocks set aside for running sequences: the sum of theirs.
    pub(super) promised: u32,
    /// Full blocks that running prompts will compute, and who does.
    pub(super) announced: FxHashMap<ChainHash, SequenceId>,
    deadlines: BTreeSet<(Instant, SequenceId)>,
    /// The sequence that last did not fit, and when: it is not tried at every plan.
    pub(super) blocked: Option<Blocked>,
    /// Prompt tokens of a step that has decode rows, at most.
    pub(super) prefill_limit: usize,
    arrivals: u64,
    pub(super) plans: u64,
    pub(super) stats: SchedulerStats,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Blocked {
    pub id: SequenceId,
    /// Blocks that nobody was promised.
    pub spare: u32,
    pub plan: u64,
}

pub(super) fn lost(id: SequenceId) -> Error {
    Error::internal(format!("the scheduler has lost sequence {id}"))
}

impl Scheduler {
    /// An empty scheduler over an empty pool.
    pub fn new(config: SchedulerConfig) -> Result<Self> {
        config.validate()?;
        let mut blocks = BlockManager::new(config.num_blocks, config.block_size, config.prefix_sharing)?;
        if let Some(snapshots) = config.snapshots {
            blocks = blocks.with_snapshots(snapshots);
        }
        let mut scheduler = Scheduler {
            config,
            blocks,
            sequences: FxHashMap::default(),
            waiting: BTreeMap::new(),
            running: Vec::new(),
            free_slots: Vec::new(),
            promised: 0,
            announced: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            blocked: None,
            prefill_limit: usize::MAX,
            arrivals: 0,
            plans: 0,
            stats: SchedulerStats::default(),
        };
        scheduler.free_all_slots();
        Ok(scheduler)
    }

    /// The limits.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// Bounds the prompt tokens of steps that have decode rows, from the next plan on: at least one. There is
    /// no bound but `max_step_tokens` at first.
    pub fn limit_prefill(&mut self, tokens: usize) {
        self.prefill_limit = tokens.max(1);
    }

    /// Queues a sequence.
    ///
    /// Errors, with nothing changed: `InvalidArgument` (empty prompt, no tokens wanted, id in use),
    /// `PromptTooLong` (prompt and output exceed the context, or the whole pool), `QueueFull`.
    pub fn add(&mut self, new: NewSequence) -> Result<()> {
        self.refuse(&new)?;
        let NewSequence { id, prompt, max_new_tokens, priority, deadline, salt } = new;
        let root = ChainHash::root(&[&salt]);
        let mut hashes = BlockHashes::new(root);
        if self.blocks.shares_prefixes() {
            hashes.extend(&prompt, self.blocks.block_size());
        }
        self.arrivals += 1;
        let rank = Rank { priority: std::cmp::Reverse(priority), arrival: self.arrivals };
        let sequence = Sequence {
            rank,
            deadline,
            max_new_tokens,
            prompt_len: prompt.len(),
            tokens: prompt,
            sampled: 0,
            computed: 0,
            place: Place::Waiting,
            slot: 0,
            table: BlockTable::default(),
            promised: 0,
            hashes,
            tip: Parent::Root(root),
            indexed: 0,
            announced: 0..0,
            waits_for: None,
            wanted: Vec::new(),
            saved: Vec::new(),
            latest: None,
            last_row: 0,
            started: false,
        };
        self.deadlines.extend(deadline.map(|d| (d, id)));
        self.waiting.insert(rank, id);
        self.sequences.insert(id, sequence);
        Ok(())
    }

    fn refuse(&self, new: &NewSequence) -> Result<()> {
        let (prompt, output) = (new.prompt.len(), new.max_new_tokens as usize);
        if self.sequences.contains_key(&new.id) {
            return Err(Error::argument(format!("sequence id {} is in use", new.id)));
        }
        if prompt == 0 {
            return Err(Error::argument("the prompt is empty"));
        }
        if output == 0 {
            return Err(Error::argument("max_new_tokens is 0, want at least 1"));
        }
        if prompt + output > self.config.max_context {
            return Err(Error::new(
                Status::PromptTooLong,
                format!(
                    "the prompt has {prompt} tokens and {output} more are wanted, but the context holds {}",
                    self.config.max_context
                ),
            ));
        }
        // The last token sampled is never run, so it needs no slot.
        let (need, have) =
            (blocks_for(prompt + output - 1, self.blocks.block_size()), self.config.num_blocks);
        if need > have as usize {
            return Err(Error::new(
                Status::PromptTooLong,
                format!(
                    "the prompt has {prompt} tokens and {output} more are wanted: {need} cache blocks of {} \
                     tokens, but the cache has {have}",
                    self.config.block_size
                ),
            ));
        }
        if self.waiting.len() >= self.config.max_waiting {
            return Err(Error::new(
                Status::QueueFull,
                format!("{} requests are waiting, which is the limit", self.waiting.len()),
            ));
        }
        Ok(())
    }

    /// Reports a token sampled for this sequence by a step in flight. `false` if the sequence has ended
    /// meanwhile: the token is to be dropped.
    pub fn on_sampled(&mut self, id: SequenceId, token: u32) -> Result<bool> {
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(false) };
        if sequence.in_flight() == 0 {
            return Err(Error::internal(format!(
                "a token of sequence {id} was sampled that was not planned"
            )));
        }
        sequence.tokens.push(token);
        sharing::index_ready(&mut self.blocks, &mut self.announced, id, sequence)?;
        Ok(true)
    }

    /// Ends a sequence whose last token is known, and frees its pages. `false` if there is none.
    pub fn finish(&mut self, id: SequenceId) -> Result<bool> {
        self.drop_sequence(id)
    }

    /// Ends a sequence in any state, and frees its pages. `false` if there is none.
    pub fn cancel(&mut self, id: SequenceId) -> Result<bool> {
        self.drop_sequence(id)
    }

    /// The prompt of a sequence and every sampled token that was reported.
    pub fn tokens(&self, id: SequenceId) -> Option<&[u32]> {
        self.sequences.get(&id).map(|s| s.tokens.as_slice())
    }

    /// Whether the sequence is known (waiting, running or preempted).
    pub fn contains(&self, id: SequenceId) -> bool {
        self.sequences.contains_key(&id)
    }

    /// Whether any sequence is.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// The earliest deadline there is.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Drops the sequences whose deadline has come, and names them.
    pub(super) fn expire(&mut self, now: Instant) -> Result<Vec<SequenceId>> {
        let mut expired = Vec::new();
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.drop_sequence(id)?;
            expired.push(id);
        }
        Ok(expired)
    }

    fn drop_sequence(&mut self, id: SequenceId) -> Result<bool> {
        let Some(sequence) = self.sequences.get(&id) else { return Ok(false) };
        match sequence.place {
            Place::Running => self.give_up_pages(id)?,
            Place::Waiting => {
                self.waiting.remove(&sequence.rank);
            }
            Place::Drained => {}
        }
        let sequence = self.sequences.remove(&id);
        if let Some(deadline) = sequence.and_then(|s| s.deadline) {
            self.deadlines.remove(&(deadline, id));
        }
        Ok(true)
    }

    /// Takes a running sequence's pages and slot away. What it has computed stays findable until evicted.
    fn give_up_pages(&mut self, id: SequenceId) -> Result<()> {
        let sequence = self.sequences.get_mut(&id).ok_or_else(|| lost(id))?;
        sharing::index_ready(&mut self.blocks, &mut self.announced, id, sequence)?;
        sharing::index_tail(&mut self.blocks, sequence)?;
        sharing::withdraw(&mut self.announced, id, sequence, usize::MAX);
        snapshots::withdraw(&mut self.blocks, sequence)?;
        self.blocks.release(sequence.table.as_slice())?;
        sequence.table = BlockTable::default();
        self.promised -= std::mem::take(&mut sequence.promised);
        (sequence.indexed, sequence.computed) = (0, 0);
        sequence.tip = Parent::Root(sequence.hashes.root());
        self.free_slots.push(sequence.slot);
        let at = self.running.binary_search_by_key(&sequence.rank, |r| r.0).map_err(|_| lost(id))?;
        self.running.remove(at);
        Ok(())
    }

    /// Blocks that can be allocated and are not promised to anyone.
    pub(super) fn spare(&self) -> u32 {
        self.blocks.available().saturating_sub(self.promised)
    }

    /// Takes a running sequence's pages for others. It goes back to the queue, to be computed again from
    /// its prompt and output so far.
    pub(super) fn preempt(&mut self, id: SequenceId) -> Result<()> {
        self.give_up_pages(id)?;
        let sequence = self.sequences.get_mut(&id).ok_or_else(|| lost(id))?;
        if sequence.is_drained() {
            sequence.place = Place::Drained;
        } else {
            sequence.place = Place::Waiting;
            self.waiting.insert(sequence.rank, id);
            self.stats.preemptions += 1;
        }
        Ok(())
    }

    /// Every full block of the prefix index, to be saved. See [`BlockManager::saved_blocks`].
    pub fn saved_blocks(&self) -> Vec<(BlockId, SavedBlock)> {
        self.blocks.saved_blocks()
    }

    /// Enters saved blocks into the prefix index. See [`BlockManager::restore`].
    pub fn restore_blocks(&mut self, saved: &[SavedBlock]) -> Result<Vec<Option<BlockId>>> {
        self.blocks.restore(saved)
    }

    /// The snapshot of the recurrent state at a block's end.
    pub fn snapshot_of(&self, block: BlockId) -> Option<SnapshotId> {
        self.blocks.snapshot_of(block)
    }

    /// A snapshot for the state of a block just restored. See [`BlockManager::restore_state`].
    pub fn restore_state(&mut self, block: BlockId) -> Result<Option<SnapshotId>> {
        self.blocks.restore_state(block)
    }

    /// Forgets the prefixes that no running sequence holds.
    pub fn drop_cached_prefixes(&mut self) -> Result<()> {
        self.blocks.drop_cached()
    }

    /// Forgets every page and prefix, after an error. Sequences that had pages or a token in flight are
    /// dropped and named, in order; the others still wait.
    pub fn reset(&mut self) -> Vec<SequenceId> {
        self.blocks.reset();
        self.announced.clear();
        self.running.clear();
        self.promised = 0;
        self.free_all_slots();
        self.blocked = None;
        let mut dropped: Vec<(Rank, SequenceId)> = Vec::new();
        for (&id, sequence) in &mut self.sequences {
            sequence.waits_for = None;
            if sequence.place != Place::Waiting || sequence.in_flight() > 0 {
                dropped.push((sequence.rank, id));
            }
        }
        dropped.sort_unstable();
        for &(rank, id) in &dropped {
            self.waiting.remove(&rank);
            self.sequences.remove(&id);
        }
        self.deadlines.retain(|(_, id)| self.sequences.contains_key(id));
        dropped.into_iter().map(|(_, id)| id).collect()
    }

    fn free_all_slots(&mut self) {
        self.free_slots = (0..self.config.max_sequences as u32).rev().collect();
    }

    /// Counts, and what there is now.
    pub fn stats(&self) -> SchedulerStats {
        SchedulerStats {
            waiting: self.waiting.len(),
            running: self.running.len(),
            steps: self.stats.steps,
            blocks: self.blocks.counts(),
            ..self.stats
        }
    }

    /// Blocks by state.
    pub fn block_counts(&self) -> BlockCounts {
        self.blocks.counts()
    }

    /// Verifies everything there is to verify, in time linear in pool and sequences: the pool, the
    /// index, every table's references, and that each sequence is in exactly one place.
    pub fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::internal(format!("scheduler: {what}")));
        self.blocks.check(self.sequences.values().map(|s| s.table.as_slice()))?;
        self.blocks
            .check_snapshots(self.sequences.values().flat_map(|s| &s.saved).map(|saved| saved.snapshot))?;
        if !self.running.is_sorted() || self.running.len() > self.config.max_sequences {
            return fail("the running sequences are out of order or too many".into());
        }
        let mut slots: Vec<u32> = self.free_slots.clone();
        let (mut waiting, mut running, mut promised) = (0, 0, 0);
        for (id, s) in &self.sequences {
            let pages = s.table.len();
            let sound = match s.place {
                Place::Waiting => {
                    waiting += 1;
                    pages == 0
                        && s.saved.is_empty()
                        && !s.is_drained()
                        && self.waiting.get(&s.rank) == Some(id)
                }
                Place::Running => {
                    running += 1;
                    slots.push(s.slot);
                    promised += s.promised;
                    let least = blocks_for(s.computed, self.blocks.block_size());
                    let admitted_for = blocks_for(s.tokens.len(), self.blocks.block_size());
                    self.running.contains(&(s.rank, *id))
                        && s.computed <= s.prompt_len + s.sampled as usize
                        && pages == least
                        && (s.promised == 0 || pages + s.promised as usize == admitted_for)
                }
                Place::Drained => pages == 0 && s.is_drained(),
            };
            if !sound || s.sampled > s.max_new_tokens {
                return fail(format!("sequence {id} is unsound: {s:?}"));
            }
        }
        slots.sort_unstable();
        let every_slot = slots.iter().copied().eq(0..self.config.max_sequences as u32);
        if waiting != self.waiting.len() || running != self.running.len() || !every_slot {
            return fail(format!("{waiting} sequences wait, {running} run, slots are {slots:?}"));
        }
        if promised != self.promised || promised > self.blocks.available() {
            return fail(format!("{promised} blocks are promised, {} recorded", self.promised));
        }
        if let Some((_, id)) = self.announced.iter().find(|(_, id)| !self.sequences.contains_key(id)) {
            return fail(format!("sequence {id} has ended and still announces blocks"));
        }
        Ok(())
    }
}
