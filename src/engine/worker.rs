//! The engine's thread: takes commands, runs steps, sends events.
//!
//! A turn of its loop is: take commands; plan a step and launch it; collect the step before it; send what
//! that one's tokens mean while the device works on the new one. It sleeps when there is nothing to run.
//!
//! An error or a panic in a turn fails the requests in flight and starts afresh with empty pages; only if
//! that fails too is the engine dead, and then it says so to everybody.

mod choose;

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvError};
use rustc_hash::FxHashMap;

use super::active::Active;
use super::event::{Event, RequestId};
use super::handle::shut_down;
use super::options::Shutdown;
use super::pace::Pace;
use super::runner::{Runner, Sampled};
use super::shared::{Command, Shared, Submission};
use super::statistics::Statistics;
use crate::cache::BlockId;
use crate::cache::file::{self, CacheKey};
use crate::error::{Error, Result, Status};
use crate::scheduler::{NewSequence, Scheduler};
use crate::{log, panic};

pub(super) struct Worker {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    scheduler: Scheduler,
    runner: Box<dyn Runner>,
    /// Tells the model from others.
    fingerprint: [u8; 32],
    requests: FxHashMap<RequestId, Active>,
    /// Launched steps whose tokens were not collected: one between turns, two within one.
    in_flight: usize,
    pace: Pace,
    counts: Statistics,
    /// Terminal events of this turn: sent at its end, after pages and statistics are in order.
    ended: Vec<Event>,
    shutdown: Option<Stop>,
    /// Commands are taken, but no step is run.
    suspended: bool,
    /// The command that woke the thread.
    inbox: Option<Command>,
}

/// What a request's prefix can be shared by. The log-probabilities of a prompt come of computing it, so such a
/// request shares with nobody.
fn salt(submission: &Submission) -> Vec<u8> {
    let mut salt = submission.options.cache_salt.clone();
    if submission.options.logprobs.prompt {
        salt.extend_from_slice(b"\0prompt log-probabilities of ");
        salt.extend_from_slice(&submission.id.to_le_bytes());
    }
    salt
}

/// Whether the loop goes on.
enum Turn {
    More,
    Last,
}

/// When a shutdown stops waiting for requests.
#[derive(Clone, Copy)]
enum Stop {
    Now,
    At(Instant),
    WhenDone,
}

impl Stop {
    fn new(mode: Shutdown, now: Instant) -> Self {
        match mode {
            Shutdown::Cancel => Stop::Now,
            Shutdown::Drain(None) => Stop::WhenDone,
            Shutdown::Drain(Some(time)) => now.checked_add(time).map_or(Stop::WhenDone, Stop::At),
        }
    }

    /// Whichever of the two waits less.
    fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Stop::Now, _) | (_, Stop::Now) => Stop::Now,
            (Stop::At(a), Stop::At(b)) => Stop::At(a.min(b)),
            (Stop::At(a), Stop::WhenDone) | (Stop::WhenDone, Stop::At(a)) => Stop::At(a),
            (Stop::WhenDone, Stop::WhenDone) => Stop::WhenDone,
        }
    }

    fn is_due(self, now: Instant) -> bool {
        match self {
            Stop::Now => true,
            Stop::At(deadline) => now >= deadline,
            Stop::WhenDone => false,
        }
    }
}

impl Worker {
    pub fn new(
        shared: Arc<Shared>,
        commands: Receiver<Command>,
        scheduler: Scheduler,
        runner: Box<dyn Runner>,
        fingerprint: [u8; 32],
    ) -> Self {
        Worker {
            shared,
            commands,
            scheduler,
            pace: Pace::new(runner.least_prompt_tokens()),
            runner,
            fingerprint,
            requests: FxHashMap::default(),
            in_flight: 0,
            counts: Statistics::default(),
            ended: Vec::new(),
            shutdown: None,
            suspended: false,
            inbox: None,
        }
    }

    /// Runs until shut down, or dead; then every request has had its terminal event.
    pub fn run(mut self) {
        self.publish();
        loop {
            self.wait_for_work();
            match panic::catch(|| self.turn()) {
                Ok(Turn::More) => {}
                Ok(Turn::Last) => return,
                Err(error) => {
                    log::error!("a step failed: {error}");
                    if let Err(fatal) = panic::catch(|| self.start_afresh(&error)) {
                        log::error!("the engine is dead: {fatal}");
                        self.die(fatal);
                        return;
                    }
                }
            }
            self.send_ended();
        }
    }

    /// Sleeps until there is something to do.
    fn wait_for_work(&mut self) {
        let has_work = !self.is_idle() && !self.suspended;
        if has_work || self.shutdown.is_some() {
            return;
        }
        match self.commands.recv() {
            Ok(command) => self.inbox = Some(command),
            // Every sender is gone, so nobody can ask for anything any more.
            Err(RecvError) => self.shutdown = Some(Stop::Now),
        }
    }

    fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.in_flight == 0
    }

    /// Takes what commands there are, launches the next step, and settles the one before it.
    fn turn(&mut self) -> Result<Turn> {
        while let Some(command) = self.inbox.take().or_else(|| self.commands.try_recv().ok()) {
            self.execute(command)?;
        }
        if self.shutdown.is_some_and(|stop| stop.is_due(Instant::now())) {
            self.cancel_all()?;
        }
        if !self.suspended {
            self.step()?;
        }
        // The registry was closed before the shutdown was sent, and submits are sent under its lock: none
        // can follow.
        let last = self.shutdown.is_some() && self.is_idle();
        if last {
            self.send_ended();
        }
        Ok(if last { Turn::Last } else { Turn::More })
    }

    fn execute(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Submit(submission) => self.submit(*submission),
            Command::Cancel(id) => return self.cancel(id),
            Command::CancelAll => return self.cancel_all(),
            Command::Shutdown(mode) => {
                let stop = Stop::new(mode, Instant::now());
                self.shutdown = Some(self.shutdown.map_or(stop, |earlier| earlier.stricter(stop)));
                // What is to be drained has to run.
                self.suspended = false;
            }
            Command::Suspend(answer) if self.shutdown.is_some() => drop(answer.send(Err(shut_down()))),
            Command::Suspend(answer) => {
                let idle = self.settle_all();
                // Also if the step failed, for then too none is running.
                self.suspended = true;
                drop(answer.send(idle.clone()));
                return idle;
            }
            Command::Resume => self.suspended = false,
            // Who asked may have gone; then nobody wants the answer.
            Command::SaveCache(path, answer) => drop(answer.send(self.save_cache(&path))),
            Command::LoadCache(path, answer) => {
                let idle = self.settle_all();
                drop(answer.send(idle.clone().and_then(|()| self.load_cache(&path))));
                return idle;
            }
        }
        Ok(())
    }

    fn submit(&mut self, mut submission: Submission) {
        self.counts.accepted += 1;
        self.counts.prompt_tokens += submission.prompt.len() as u64;
        let mut active = Active::new(&submission, self.shared.tokenizer.as_deref(), &self.shared.eos_tokens);
        active.follow(submission.grammar.take());
        let salt = salt(&submission);
        let sequence = NewSequence {
            id: submission.id,
            prompt: submission.prompt,
            max_new_tokens: submission.options.max_tokens,
            priority: submission.options.priority,
            deadline: submission.options.timeout.and_then(|t| submission.submitted.checked_add(t)),
            salt,
        };
        match self.scheduler.add(sequence) {
            Ok(()) => {
                self.requests.insert(submission.id, active);
            }
            Err(error) => self.fail(&active, error),
        }
    }

    fn cancel(&mut self, id: RequestId) -> Result<()> {
        // A request that ended while the command was on its way is no error.
        let Some(active) = self.requests.remove(&id) else { return Ok(()) };
        self.counts.cancelled += 1;
        self.ended.push(active.cancelled(Instant::now()));
        self.scheduler.cancel(id).map(drop)
    }

    fn cancel_all(&mut self) -> Result<()> {
        let ids: Vec<RequestId> = self.requests.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.cancel(id))
    }

    fn fail(&mut self, active: &Active, error: Error) {
        self.counts.failed += 1;
        self.ended.push(active.failed(error, Instant::now()));
    }

    /// Launches the next step, if there is one, then settles the one before it.
    fn step(&mut self) -> Result<()> {
        let now = Instant::now();
        self.scheduler.limit_prefill(self.pace.prompt_tokens());
        let plan = self.scheduler.plan(now)?;
        for id in plan.expired {
            if let Some(active) = self.requests.remove(&id) {
                let error =
                    Error::new(Status::DeadlineExceeded, "the request's deadline passed before it was done");
                self.fail(&active, error);
            }
        }
        for admitted in plan.admitted {
            if let Some(active) = self.requests.get_mut(&admitted.id) {
                active.start(now, admitted.cached_tokens);
            }
        }
        let mut constrained = Vec::new();
        let launched = match plan.step {
            Some(step) => {
                constrained = self.launch(&step)?;
                self.pace.launched(&step, Instant::now());
                self.in_flight += 1;
                self.counts.steps += 1;
                true
            }
            None => false,
        };
        // With nothing new to launch there is nothing to overlap: settle what is left.
        if self.in_flight > usize::from(launched) {
            self.collect()?;
        }
        self.constrain(&constrained)
    }

    /// Fails one request; the others go on.
    fn give_up(&mut self, id: RequestId, error: Error) -> Result<()> {
        let Some(active) = self.requests.remove(&id) else { return Ok(()) };
        self.fail(&active, error);
        self.scheduler.cancel(id).map(drop)
    }

    /// Waits for the oldest launched step and takes its tokens.
    fn collect(&mut self) -> Result<()> {
        let sampled = self.runner.collect()?;
        self.pace.collected(Instant::now());
        self.in_flight -= 1;
        for (id, scored) in self.runner.take_prompt_logprobs() {
            if let Some(active) = self.requests.get_mut(&id) {
                active.score_prompt(scored);
            }
        }
        self.settle(sampled)
    }

    fn cache_key(&self) -> CacheKey {
        let mut model = blake3::Hasher::new();
        model.update(&self.fingerprint).update(self.runner.page_format().as_bytes());
        CacheKey {
            model: *model.finalize().as_bytes(),
            block_size: self.shared.info.block_size,
            block_bytes: self.runner.block_bytes() as u64,
            state_bytes: self.runner.state_bytes() as u64,
        }
    }

    fn save_cache(&mut self, path: &Path) -> Result<u64> {
        let key = self.cache_key();
        let (ids, blocks): (Vec<_>, Vec<_>) = self.scheduler.saved_blocks().into_iter().unzip();
        file::save(path, &key, &blocks, &mut |i| {
            let mut bytes = self.runner.read_block(ids[i])?;
            if let Some(snapshot) = self.scheduler.snapshot_of(ids[i]) {
                bytes.extend(self.runner.read_state(snapshot)?);
            }
            Ok(bytes)
        })?;
        Ok(blocks.len() as u64)
    }

    /// Waits for every launched step.
    fn settle_all(&mut self) -> Result<()> {
        while self.in_flight > 0 {
            self.collect()?;
        }
        Ok(())
    }

    /// No step is in flight.
    fn load_cache(&mut self, path: &Path) -> Result<u64> {
        let mut saved = file::load(path, &self.cache_key())?;
        let places = self.scheduler.restore_blocks(&saved.blocks)?;
        let mut count = 0;
        for place in places {
            let pages = saved.next_pages();
            let Some(block) = place else { continue };
            if let Err(error) = pages.and_then(|pages| self.fill_block(block, &pages)) {
                // The index now names pages that nobody filled.
                self.scheduler.drop_cached_prefixes()?;
                return Err(error);
            }
            count += 1;
        }
        Ok(count)
    }

    /// Fills a block just entered into the index with its pages, and the state behind them if there is one.
    fn fill_block(&mut self, block: BlockId, saved: &[u8]) -> Result<()> {
        let (pages, state) = saved.split_at_checked(self.runner.block_bytes()).unwrap_or((saved, &[]));
        self.runner.write_block(block, pages)?;
        if state.is_empty() {
            return Ok(());
        }
        match self.scheduler.restore_state(block)? {
            Some(snapshot) => self.runner.write_state(snapshot, state),
            None => Ok(()),
        }
    }

    /// Takes the tokens of a collected step.
    fn settle(&mut self, sampled: Vec<Sampled>) -> Result<()> {
        let now = Instant::now();
        let mut deltas = Vec::with_capacity(sampled.len());
        let mut pieces = Vec::new();
        for sampled in sampled {
            let id = sampled.id;
            // The look-ahead of a sequence that has ended meanwhile is dropped here.
            let Some(active) = self.requests.get_mut(&id) else { continue };
            if !self.scheduler.on_sampled(id, sampled.token)? {
                continue;
            }
            self.counts.generated_tokens += 1;
            let end = match active.accept(sampled, &self.shared.eos_tokens, now, &mut pieces) {
                Ok(end) => end,
                Err(error) => {
                    self.give_up(id, error)?;
                    continue;
                }
            };
            deltas.extend(pieces.drain(..).map(|piece| active.delta(piece)));
            if let Some(reason) = end {
                self.ended.push(active.finished(reason, now));
                self.counts.finished += 1;
                self.scheduler.finish(id)?;
                self.requests.remove(&id);
            }
        }
        self.shared.queue.push(deltas);
        Ok(())
    }

    /// Sends the terminal events of this turn; by now the pages are free and the counters right.
    fn send_ended(&mut self) {
        self.publish();
        self.end_requests();
    }

    fn end_requests(&mut self) {
        for event in &self.ended {
            self.shared.registry.end(event.request);
        }
        self.shared.queue.push(self.ended.drain(..));
    }

    fn publish(&mut self) {
        let pages = self.scheduler.stats();
        let statistics = Statistics {
            running: pages.running as u64,
            waiting: pages.waiting as u64,
            cached_tokens: pages.prefix_tokens,
            prefix_hits: pages.prefix_hits,
            preemptions: pages.preemptions,
            blocks_total: u64::from(pages.blocks.total),
            blocks_free: u64::from(pages.blocks.free),
            blocks_cached: u64::from(pages.blocks.cached),
            blocks_in_use: u64::from(pages.blocks.in_use),
            blocks_allocated: pages.blocks.allocated,
            blocks_shared: pages.shared_blocks,
            blocks_evicted: pages.blocks.evicted,
            memory: self.runner.memory(),
            ..self.counts
        };
        *self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner) = statistics;
    }

    /// After a failed step nothing on the device can be trusted: fails every request that has pages or a
    /// token in flight, forgets all pages, and goes on with those that were waiting.
    fn start_afresh(&mut self, error: &Error) -> Result<()> {
        self.in_flight = 0;
        self.pace.forget_in_flight();
        for id in self.scheduler.reset() {
            if let Some(active) = self.requests.remove(&id) {
                self.fail(&active, error.clone());
            }
        }
        self.runner.reset()
    }

    /// Nothing can go on: everybody is told.
    fn die(&mut self, error: Error) {
        self.end_requests();
        self.shared.fail_all(&error);
    }
}
