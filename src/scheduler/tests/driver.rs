//! A small engine for tests: the loop of the protocol over the mock runner, one step of look-ahead, the
//! integrity check after every operation, every token compared with the oracle.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::engine::Runner;
use crate::engine::mock::{MockOptions, MockRunner, expected_tokens};
use crate::error::{Result, Status};
use crate::sampling::{RowSampling, SamplingParams};
use crate::scheduler::{Admitted, NewSequence, Row, RowInput, Scheduler, SchedulerConfig, SequenceId, Step};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Finished,
    Cancelled,
    Expired,
    Failed,
}

struct Request {
    prompt: Vec<u32>,
    params: SamplingParams,
    expected: Vec<u32>,
    output: Vec<u32>,
    end: Option<End>,
}

pub struct Driver {
    pub scheduler: Scheduler,
    pub options: MockOptions,
    pub admitted: Vec<Admitted>,
    /// Every step launched, with the number of its decode rows checked.
    pub steps: Vec<Step>,
    /// Steps in flight before the loop waits: 1 is the engine's look-ahead, 0 none.
    pub look_ahead: usize,
    runner: MockRunner,
    requests: BTreeMap<SequenceId, Request>,
    in_flight: VecDeque<u64>,
    start: Instant,
    pub now: Instant,
}

pub fn config() -> SchedulerConfig {
    SchedulerConfig {
        max_sequences: 8,
        max_waiting: 1000,
        max_step_tokens: 64,
        max_prefill_chunk: 64,
        block_size: 4,
        num_blocks: 256,
        max_context: 4096,
        prefix_sharing: true,
        snapshots: None,
    }
}

/// A prompt of `len` tokens that has nothing in common with one of another seed.
pub fn prompt(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (seed * 131 + 7 + i * 17 + (i / 7) * seed) % 1000).collect()
}

pub fn sequence(id: SequenceId, prompt: Vec<u32>, max_new_tokens: u32) -> NewSequence {
    NewSequence { id, prompt, max_new_tokens, priority: 0, deadline: None, salt: Vec::new() }
}

impl Driver {
    pub fn new(config: SchedulerConfig) -> Self {
        Self::with_options(config, MockOptions::default())
    }

    pub fn with_options(config: SchedulerConfig, options: MockOptions) -> Self {
        let options = MockOptions { snapshots: config.snapshots, ..options };
        let runner =
            MockRunner::new(options.clone(), config.num_blocks, config.block_size, config.max_sequences);
        let now = Instant::now();
        Driver {
            scheduler: Scheduler::new(config).unwrap(),
            options,
            admitted: Vec::new(),
            steps: Vec::new(),
            look_ahead: 1,
            runner: runner.unwrap(),
            requests: BTreeMap::new(),
            in_flight: VecDeque::new(),
            start: now,
            now,
        }
    }

    pub fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    pub fn add(&mut self, new: NewSequence) -> Result<()> {
        self.add_sampled(new, SamplingParams::default())
    }

    pub fn add_sampled(&mut self, new: NewSequence, params: SamplingParams) -> Result<()> {
        let (id, count) = (new.id, new.max_new_tokens as usize);
        let mut expected = expected_tokens(&self.options, &new.prompt, &params, count);
        if let Some(eos) = expected.iter().position(|&t| t == self.options.eos_token) {
            expected.truncate(eos + 1);
        }
        let prompt = new.prompt.clone();
        self.scheduler.add(new)?;
        self.scheduler.check().unwrap();
        self.requests.insert(id, Request { prompt, params, expected, output: Vec::new(), end: None });
        Ok(())
    }

    pub fn cancel(&mut self, id: SequenceId) {
        let live = self.requests.get(&id).is_some_and(|r| r.end.is_none());
        assert_eq!(self.scheduler.cancel(id).unwrap(), live);
        self.scheduler.check().unwrap();
        if live {
            self.end(id, End::Cancelled);
        }
    }

    fn end(&mut self, id: SequenceId, end: End) {
        let request = self.requests.get_mut(&id).unwrap();
        assert_eq!(request.end.replace(end), None, "sequence {id} ended twice");
        assert!(!self.scheduler.contains(id));
        if end == End::Finished {
            assert_eq!(request.output, request.expected, "sequence {id}");
        }
        assert!(request.expected.starts_with(&request.output));
    }

    /// One turn of the loop. `false` if there was nothing to do.
    pub fn turn(&mut self) -> bool {
        let plan = self.scheduler.plan(self.now).unwrap();
        self.scheduler.check().unwrap();
        plan.expired.iter().for_each(|&id| self.end(id, End::Expired));
        self.admitted.extend(&plan.admitted);
        let launched = plan.step.is_some();
        if let Some(step) = plan.step {
            self.check_step(&step);
            let how = |r: &Row| r.samples.then(|| RowSampling::new(&self.requests[&r.id].params));
            let params: Vec<Option<RowSampling<'_>>> = step.rows.iter().map(how).collect();
            if let Err(e) = self.runner.launch(&step, &params) {
                // Anything else is the mock's verdict on a wrong step.
                assert_eq!(e.status(), Status::DeviceError, "{e}: {step:?}");
                self.fail();
                return true;
            }
            self.in_flight.push_back(self.steps.len() as u64);
            self.steps.push(step);
        }
        let keep = if launched { self.look_ahead } else { 0 };
        let mut collected = false;
        while self.in_flight.len() > keep {
            self.in_flight.pop_front();
            collected = true;
            match self.runner.collect() {
                Ok(sampled) => sampled.into_iter().for_each(|s| self.take(s.id, s.token)),
                Err(e) => {
                    assert_eq!(e.status(), Status::DeviceError, "{e}");
                    self.fail();
                    return true;
                }
            }
        }
        launched || collected
    }

    fn take(&mut self, id: SequenceId, token: u32) {
        let alive = self.requests[&id].end.is_none();
        assert_eq!(self.scheduler.on_sampled(id, token).unwrap(), alive);
        if !alive {
            return;
        }
        let request = self.requests.get_mut(&id).unwrap();
        request.output.push(token);
        if request.output.len() == request.expected.len() {
            assert!(self.scheduler.finish(id).unwrap());
            self.end(id, End::Finished);
        }
        self.scheduler.check().unwrap();
    }

    fn fail(&mut self) {
        self.runner.reset().unwrap();
        self.in_flight.clear();
        for id in self.scheduler.reset() {
            self.end(id, End::Failed);
        }
        self.scheduler.check().unwrap();
        assert_eq!(self.scheduler.block_counts().in_use, 0);
        assert_eq!(self.scheduler.block_counts().cached, 0);
    }

    fn check_step(&self, step: &Step) {
        let config = self.scheduler.config();
        assert!(step.rows.len() <= config.max_sequences);
        assert!(step.rows.iter().map(Row::input_len).sum::<usize>() <= config.max_step_tokens);
        let decodes = |r: &Row| r.sampled_before > 0 && r.samples && r.input_len() == 1;
        let first_prefill = step.rows.iter().position(|r| !decodes(r)).unwrap_or(step.rows.len());
        for row in &step.rows[first_prefill..] {
            assert!(row.input != RowInput::Sampled, "decode rows come first");
            assert!(row.input_len() <= config.max_prefill_chunk);
        }
    }

    /// Runs until every request has ended, and checks that nothing is left behind.
    pub fn drain(&mut self) {
        let mut turns = 0;
        while self.turn() {
            turns += 1;
            assert!(turns < 100_000, "the loop does not come to an end: {:?}", self.scheduler.stats());
        }
        assert!(self.scheduler.is_empty(), "parked with work: {:?}", self.scheduler.stats());
        for (id, request) in &self.requests {
            assert!(request.end.is_some(), "sequence {id} never ended");
        }
        let counts = self.scheduler.block_counts();
        assert_eq!(counts.in_use, 0, "{counts:?}");
        assert_eq!(counts.free + counts.cached, counts.total);
    }

    pub fn how_ended(&self, id: SequenceId) -> Option<End> {
        self.requests[&id].end
    }

    /// The sequence's prompt and the first `n` tokens of its answer, given or still to come.
    pub fn conversation(&self, id: SequenceId, n: usize) -> Vec<u32> {
        let request = &self.requests[&id];
        request.prompt.iter().chain(request.expected.iter().take(n)).copied().collect()
    }

    pub fn output(&self, id: SequenceId) -> &[u32] {
        &self.requests[&id].output
    }

    /// Leading tokens found in the cache when the sequence was first admitted.
    pub fn cached_tokens(&self, id: SequenceId) -> usize {
        let admitted = self.admitted.iter().find(|a| a.id == id && !a.again);
        admitted.expect("it has been admitted").cached_tokens as usize
    }

    /// The sequence's rows in all steps, with the step's number.
    pub fn rows_of(&self, id: SequenceId) -> Vec<(usize, &Row)> {
        let rows = self.steps.iter().enumerate();
        rows.flat_map(|(n, step)| step.rows.iter().filter(move |r| r.id == id).map(move |r| (n, r))).collect()
    }
}
