//! Micro-benchmarks of the scheduler: `cargo bench --no-default-features --bench scheduler`.
//!
//! Expected: planning a step with 256 running requests under 50 us; plan, mock step and bookkeeping of a
//! decode step with 64 rows under 100 us.

use std::cell::RefCell;
use std::time::Instant;

use divan::{Bencher, black_box};
use quire::engine::Runner;
use quire::engine::mock::{MockOptions, MockRunner};
use quire::sampling::{RowSampling, SamplingParams};
use quire::scheduler::{NewSequence, Scheduler, SchedulerConfig, Step};

fn main() {
    divan::main();
}

/// A scheduler whose `rows` sequences of `context` tokens all decode, and its clock.
struct Decoding {
    scheduler: Scheduler,
    now: Instant,
    /// The step in flight.
    step: Step,
}

impl Decoding {
    fn new(rows: usize, context: usize) -> Self {
        let config = SchedulerConfig {
            max_sequences: rows,
            max_step_tokens: 8192 + rows,
            max_prefill_chunk: 8192,
            num_blocks: (rows * (context.div_ceil(16) + 1024)) as u32,
            max_context: context + 20_000,
            ..SchedulerConfig::default()
        };
        let mut scheduler = Scheduler::new(config).unwrap();
        for id in 0..rows as u64 {
            let prompt = (0..context as u64).map(|i| ((i * 31 + id * 7919) % 900) as u32).collect();
            let new = NewSequence {
                id,
                prompt,
                max_new_tokens: 10_000,
                priority: 0,
                deadline: None,
                salt: id.to_le_bytes().to_vec(),
            };
            scheduler.add(new).unwrap();
        }
        let mut this = Decoding { scheduler, now: Instant::now(), step: Step::default() };
        while this.step.rows.len() < rows || this.step.rows.iter().any(|r| r.sampled_before == 0) {
            this.plan();
            this.sampled();
        }
        this.plan();
        this
    }

    fn plan(&mut self) {
        self.step = self.scheduler.plan(self.now).unwrap().step.unwrap();
    }

    /// Reports the tokens of the step in flight.
    fn sampled(&mut self) {
        for row in self.step.rows.iter().filter(|r| r.samples) {
            self.scheduler.on_sampled(row.id, row.sampled_before % 900).unwrap();
        }
    }
}

/// Planning alone, of a step in which every sequence decodes.
#[divan::bench(args = [(64, 1000), (256, 1000), (256, 8000)], sample_size = 1, sample_count = 1000)]
fn plan(bencher: Bencher, (rows, context): (usize, usize)) {
    let state = RefCell::new(Decoding::new(rows, context));
    bencher.with_inputs(|| state.borrow_mut().sampled()).bench_local_values(|()| state.borrow_mut().plan());
}

/// Taking in the tokens of such a step, and planning the next.
#[divan::bench(args = [(64, 1000), (256, 1000)], sample_size = 1, sample_count = 1000)]
fn sampled_and_plan(bencher: Bencher, (rows, context): (usize, usize)) {
    let mut state = Decoding::new(rows, context);
    bencher.bench_local(|| {
        state.sampled();
        state.plan();
    });
}

/// A whole turn of the loop on the mock runner, 64 rows of 100 tokens; the mock reads every context
/// token back, which is most of it.
#[divan::bench(sample_size = 1, sample_count = 1000)]
fn turn_on_the_mock(bencher: Bencher) {
    let config = SchedulerConfig { max_sequences: 64, num_blocks: 16_384, ..SchedulerConfig::default() };
    let (blocks, size) = (config.num_blocks, config.block_size);
    let mut scheduler = Scheduler::new(config).unwrap();
    let mut runner = MockRunner::new(MockOptions::default(), blocks, size, 64).unwrap();
    for id in 0..64u32 {
        let prompt = (0..100).map(|i| (i * 31 + id * 79) % 900).collect();
        let (id, max_new_tokens) = (u64::from(id), 3000);
        let salt = Vec::new();
        scheduler.add(NewSequence { id, prompt, max_new_tokens, priority: 0, deadline: None, salt }).unwrap();
    }
    let (now, greedy) = (Instant::now(), SamplingParams::default());
    let mut turn = |collect: bool| {
        let step = scheduler.plan(now).unwrap().step.unwrap();
        let params: Vec<_> = step.rows.iter().map(|r| r.samples.then(|| RowSampling::new(&greedy))).collect();
        runner.launch(black_box(&step), &params).unwrap();
        for sampled in if collect { runner.collect().unwrap() } else { Vec::new() } {
            scheduler.on_sampled(sampled.id, sampled.token).unwrap();
        }
    };
    turn(false);
    (0..10).for_each(|_| turn(true));
    bencher.bench_local(|| turn(true));
}
