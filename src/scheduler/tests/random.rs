//! Random traffic: every answer equals the oracle's, whatever ran beside it, and nothing is left behind.

use proptest::prelude::*;

use super::driver::{Driver, config, sequence};
use crate::engine::mock::MockOptions;
use crate::error::Status;
use crate::sampling::SamplingParams;
use crate::scheduler::{NewSequence, SchedulerConfig};

#[derive(Debug, Clone)]
enum Op {
    /// A prompt of the first `len` tokens of one of a few texts, then `own` tokens of its own.
    Add {
        text: u32,
        len: usize,
        own: usize,
        new: u32,
        priority: i32,
        salt: u8,
        deadline: Option<u64>,
        seed: u64,
    },
    /// The n-th request's prompt and the beginning of its answer, which may still be in the making.
    Continue {
        n: usize,
        answer: usize,
        own: usize,
        new: u32,
    },
    /// Cancels the n-th request ever made, alive or not.
    Cancel(usize),
    Turns(usize),
    Wait(u64),
    DropCached,
}

fn op() -> impl Strategy<Value = Op> {
    let add = (
        0u32..3,
        1usize..50,
        prop_oneof![2 => Just(0usize), 1 => 1usize..20],
        1u32..30,
        -1i32..2,
        0u8..2,
        prop_oneof![4 => Just(None), 1 => (0u64..60).prop_map(Some)],
        0u64..3,
    )
        .prop_map(|(text, len, own, new, priority, salt, deadline, seed)| Op::Add {
            text,
            len,
            own,
            new,
            priority,
            salt,
            deadline,
            seed,
        });
    prop_oneof![
        40 => add,
        20 => (0usize..64, 0usize..40, 0usize..3, 1u32..30)
            .prop_map(|(n, answer, own, new)| Op::Continue { n, answer, own, new }),
        10 => any::<prop::sample::Index>().prop_map(|i| Op::Cancel(i.index(64))),
        50 => (1usize..6).prop_map(Op::Turns),
        10 => (1u64..10).prop_map(Op::Wait),
        1 => Just(Op::DropCached),
    ]
}

fn any_config() -> impl Strategy<Value = SchedulerConfig> {
    (0u32..5, 6u32..60, 1usize..7, 1usize..40, 1usize..40, any::<bool>()).prop_map(
        |(log_size, blocks, max_sequences, spare, max_prefill_chunk, prefix_sharing)| SchedulerConfig {
            max_sequences,
            max_waiting: 12,
            max_step_tokens: max_sequences + spare,
            max_prefill_chunk,
            block_size: 1 << log_size,
            num_blocks: blocks,
            prefix_sharing,
            ..config()
        },
    )
}

fn add(driver: &mut Driver, next: &mut u64, new: NewSequence, params: SamplingParams) {
    match driver.add_sampled(new, params) {
        Ok(()) => *next += 1,
        Err(e) => assert!(
            matches!(e.status(), Status::QueueFull | Status::PromptTooLong),
            "unexpected refusal: {e}"
        ),
    }
}

fn run(config: SchedulerConfig, options: MockOptions, look_ahead: usize, ops: &[Op]) -> Driver {
    let mut driver = Driver::with_options(config, options);
    driver.look_ahead = look_ahead;
    let (mut next, mut millis) = (0, 0);
    for op in ops {
        match *op {
            Op::Add { text, len, own, new, priority, salt, deadline, seed } => {
                let mut prompt: Vec<u32> = (0..len as u32).map(|i| (text * 7 + i * i) % 50).collect();
                prompt.extend((0..own as u32).map(|i| (next as u32 * 31 + i) % 50));
                let deadline = deadline.map(|d| driver.at(millis + d));
                let salt = vec![salt];
                let new = NewSequence { id: next, prompt, max_new_tokens: new, priority, deadline, salt };
                let params = SamplingParams { temperature: seed as f32, seed, ..Default::default() };
                add(&mut driver, &mut next, new, params);
            }
            Op::Continue { n, answer, own, new } => {
                if next > 0 {
                    let mut prompt = driver.conversation(n as u64 % next, answer);
                    prompt.extend((0..own as u32).map(|i| (next as u32 * 31 + i) % 50));
                    let new = NewSequence { salt: vec![0], ..sequence(next, prompt, new) };
                    add(&mut driver, &mut next, new, SamplingParams::default());
                }
            }
            Op::Cancel(n) => {
                if next > 0 {
                    driver.cancel(n as u64 % next);
                }
            }
            Op::Turns(n) => {
                for _ in 0..n {
                    driver.turn();
                }
            }
            Op::DropCached => {
                driver.scheduler.drop_cached_prefixes().unwrap();
                driver.scheduler.check().unwrap();
            }
            Op::Wait(n) => {
                millis += n;
                driver.now = driver.at(millis);
            }
        }
    }
    driver.drain();
    driver
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn answers_do_not_depend_on_neighbours(
        config in any_config(),
        eos_every in prop_oneof![Just(0u32), Just(10)],
        look_ahead in 0usize..3,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        run(config, MockOptions { vocab_size: 50, eos_every, ..MockOptions::default() }, look_ahead, &ops);
    }

    #[test]
    fn a_failing_device_fails_what_is_in_flight_and_nothing_else(
        config in any_config(),
        fail_at_step in 1u64..30,
        in_collect: bool,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let (launch, collect) = if in_collect { (0, fail_at_step) } else { (fail_at_step, 0) };
        let options = MockOptions {
            vocab_size: 50,
            fail_at_step: launch,
            fail_collect_at_step: collect,
            ..MockOptions::default()
        };
        run(config, options, 1, &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn answers_of_a_recurrent_model_do_not_depend_on_neighbours(
        config in any_config(),
        snapshots in 0u32..8,
        eos_every in prop_oneof![Just(0u32), Just(10)],
        look_ahead in 0usize..3,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let config = SchedulerConfig { snapshots: Some(snapshots), ..config };
        run(config, MockOptions { vocab_size: 50, eos_every, ..MockOptions::default() }, look_ahead, &ops);
    }

    #[test]
    fn a_failing_device_takes_the_recurrent_states_along(
        config in any_config(),
        fail_at_step in 1u64..30,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let config = SchedulerConfig { snapshots: Some(4), ..config };
        run(config, MockOptions { vocab_size: 50, fail_at_step, ..MockOptions::default() }, 1, &ops);
    }
}

/// The random traffic above is worth nothing if it never meets the hard cases.
#[test]
fn random_traffic_meets_the_hard_cases() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, TestRunner};
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let (mut preemptions, mut evictions, mut copies, mut hits, mut restored) = (0, 0, 0, 0, 0);
    for _ in 0..60 {
        let ops = prop::collection::vec(op(), 60).new_tree(&mut runner).unwrap().current();
        let config =
            SchedulerConfig { prefix_sharing: true, ..any_config().new_tree(&mut runner).unwrap().current() };
        let options = MockOptions { vocab_size: 50, ..MockOptions::default() };
        let stats = run(config, options, 1, &ops).scheduler.stats();
        preemptions += stats.preemptions;
        evictions += stats.blocks.evicted;
        copies += stats.copied_blocks;
        hits += stats.prefix_hits;
    }
    println!("preemptions {preemptions}, evictions {evictions}, copies {copies}, hits {hits}");
    assert!(preemptions > 50 && evictions > 500 && copies > 100 && hits > 300);

    preemptions = 0;
    for _ in 0..60 {
        let ops = prop::collection::vec(op(), 60).new_tree(&mut runner).unwrap().current();
        let config = any_config().new_tree(&mut runner).unwrap().current();
        let config = SchedulerConfig { prefix_sharing: true, snapshots: Some(6), ..config };
        let options = MockOptions { vocab_size: 50, ..MockOptions::default() };
        let driver = run(config, options, 1, &ops);
        restored += driver.steps.iter().map(|step| step.restores.len()).sum::<usize>();
        preemptions += driver.scheduler.stats().preemptions;
    }
    println!("recurrent: preemptions {preemptions}, states restored {restored}");
    assert!(preemptions > 50 && restored > 200);
}

/// A thousand requests in one go: arrivals, cancels and deadlines at random, a pool for a few of them.
#[test]
fn a_thousand_requests_each_end_once_and_leave_nothing() {
    let config = SchedulerConfig {
        max_sequences: 16,
        max_waiting: 1000,
        max_step_tokens: 96,
        max_prefill_chunk: 64,
        block_size: 8,
        num_blocks: 70,
        ..config()
    };
    let mut ops = Vec::new();
    let mut state = 7u64;
    let mut random = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    for i in 0..1000 {
        ops.push(Op::Add {
            text: random(3) as u32,
            len: 1 + random(80) as usize,
            own: random(20) as usize,
            new: 1 + random(120) as u32,
            priority: random(3) as i32 - 1,
            salt: random(2) as u8,
            deadline: (random(10) == 0).then(|| random(60)),
            seed: random(3),
        });
        match random(10) {
            0 => ops.push(Op::Cancel(random(i + 1) as usize)),
            1 => ops.push(Op::Wait(random(10))),
            _ => ops.push(Op::Turns(random(8) as usize)),
        }
    }
    let driver =
        run(config, MockOptions { vocab_size: 50, eos_every: 80, ..MockOptions::default() }, 1, &ops);
    let stats = driver.scheduler.stats();
    assert!(stats.prefix_queries > 600 && stats.preemptions > 20, "{stats:?}");
    assert_eq!((stats.waiting, stats.running), (0, 0));
}
