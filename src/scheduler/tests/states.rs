//! Models with recurrent layers: a prefix is shared where a state was kept, and the mock answers wrongly for every
//! wrong state.

use super::driver::{Driver, config, prompt, sequence};
use crate::scheduler::SchedulerConfig;

fn recurrent(snapshots: u32) -> SchedulerConfig {
    SchedulerConfig { snapshots: Some(snapshots), ..config() }
}

#[test]
fn an_equal_prompt_goes_on_from_the_last_full_block_before_its_last_token() {
    // Blocks of 4: the last token is computed again, so a state after all of 8 tokens is no use.
    for (len, cached) in [(30, 28), (8, 4), (9, 8), (4, 0), (1, 0)] {
        let mut d = Driver::new(recurrent(8));
        for id in [1, 2] {
            d.add(sequence(id, prompt(1, len), 5)).unwrap();
            d.drain();
        }
        assert_eq!((d.cached_tokens(1), d.cached_tokens(2)), (0, cached), "{len} tokens");
        assert!(d.steps.iter().all(|step| step.copies.is_empty()), "no part of a block is shared");
        let restores: usize = d.steps.iter().map(|step| step.restores.len()).sum();
        assert_eq!(restores, usize::from(cached > 0));
    }
}

#[test]
fn a_state_is_kept_inside_a_chunk_without_cutting_it() {
    let mut d = Driver::new(recurrent(8));
    d.add(sequence(1, prompt(1, 30), 1)).unwrap();
    d.drain();
    let rows = d.rows_of(1);
    assert_eq!(rows.len(), 1);
    let saves: Vec<u32> = d.steps[rows[0].0].saves.iter().map(|save| save.tokens).collect();
    assert_eq!(saves, [28]);
}

#[test]
fn without_snapshots_or_sharing_nothing_is_shared_and_nobody_waits() {
    let off = SchedulerConfig { prefix_sharing: false, ..recurrent(8) };
    for config in [recurrent(0), off] {
        let mut d = Driver::new(config);
        d.add(sequence(1, prompt(1, 50), 5)).unwrap();
        d.add(sequence(2, prompt(1, 50), 5)).unwrap();
        d.turn();
        assert!(!d.rows_of(2).is_empty(), "there is nothing to wait for");
        d.drain();
        assert_eq!(d.cached_tokens(2), 0);
        assert!(d.steps.iter().all(|step| step.saves.is_empty()));
    }
}

#[test]
fn two_equal_prompts_submitted_together_compute_the_prefix_once() {
    let mut d = Driver::new(SchedulerConfig { max_step_tokens: 32, ..recurrent(8) });
    d.add(sequence(1, prompt(1, 130), 5)).unwrap();
    d.add(sequence(2, prompt(1, 130), 5)).unwrap();
    d.drain();
    assert_eq!((d.cached_tokens(1), d.cached_tokens(2)), (0, 128));
    assert_eq!(d.output(1), d.output(2));
    assert_eq!(d.scheduler.stats().prefill_tokens, 132);
}

#[test]
fn twenty_requests_compute_their_system_prompt_once() {
    let mut d = Driver::new(SchedulerConfig { num_blocks: 512, max_sequences: 20, ..recurrent(32) });
    let system = prompt(1, 70);
    for id in 0..20u32 {
        let own = prompt(100 + id, 10 + id as usize);
        d.add(sequence(u64::from(id), [system.clone(), own].concat(), 5)).unwrap();
    }
    d.drain();
    let stats = d.scheduler.stats();
    assert_eq!(stats.prefix_hits, 19);
    assert_eq!(
        stats.prefix_tokens,
        19 * 68,
        "the first is asked to keep its state where the others leave it"
    );
}

#[test]
fn the_second_to_leave_a_prefix_keeps_the_state_for_the_third() {
    let mut d = Driver::new(recurrent(8));
    let system = prompt(1, 50);
    for id in 0..3u32 {
        d.add(sequence(u64::from(id), [system.clone(), prompt(10 + id, 20)].concat(), 3)).unwrap();
        d.drain();
    }
    assert_eq!([0, 1, 2].map(|id| d.cached_tokens(id)), [0, 0, 48]);
}

#[test]
fn a_conversation_goes_on_from_near_the_end_of_the_answer() {
    let mut d = Driver::new(recurrent(8));
    d.add(sequence(1, prompt(1, 30), 300)).unwrap();
    d.drain();
    d.add(sequence(2, [d.conversation(1, 300), prompt(2, 10)].concat(), 3)).unwrap();
    d.drain();
    assert_eq!(d.cached_tokens(2), 320, "states are kept at multiples of 64 tokens");
    // Each took the place of the one before: those of two prompts and the last of the answer are left.
    let kept = |at: usize| {
        let mut again = d.conversation(1, 300);
        again.truncate(at + 1);
        again
    };
    let (early, start) = (kept(256), kept(28));
    for (id, text, cached) in [(3, early, 28), (4, start, 28)] {
        d.add(sequence(id, text, 1)).unwrap();
        d.drain();
        assert_eq!(d.cached_tokens(id), cached);
    }
}

#[test]
fn a_preempted_sequence_goes_on_from_its_last_state() {
    let config = SchedulerConfig { num_blocks: 60, max_sequences: 2, ..recurrent(8) };
    let mut d = Driver::new(config);
    d.add(sequence(1, prompt(1, 20), 140)).unwrap();
    d.add(sequence(2, prompt(2, 20), 140)).unwrap();
    d.drain();
    assert!(d.scheduler.stats().preemptions > 0);
    let again = d.admitted.iter().find(|a| a.again).expect("it was preempted");
    assert!(again.cached_tokens >= 16, "{again:?}");
}

#[test]
fn the_least_recently_used_state_goes_first_and_evicted_blocks_free_theirs() {
    let mut d = Driver::new(recurrent(2));
    for (id, text) in [(1, 1), (2, 2), (3, 1), (4, 3), (5, 1), (6, 2)] {
        d.add(sequence(id, prompt(text, 21), 2)).unwrap();
        d.drain();
    }
    // The third text took the state of the second, which had been used before the first's.
    assert_eq!([3, 4, 5, 6].map(|id| d.cached_tokens(id)), [20, 0, 20, 0]);

    let mut d = Driver::new(SchedulerConfig { num_blocks: 12, ..recurrent(8) });
    for id in 1..40u32 {
        d.add(sequence(u64::from(id), prompt(id, 37), 2)).unwrap();
        d.drain();
    }
    assert!(d.scheduler.stats().blocks.evicted > 300);
    d.scheduler.drop_cached_prefixes().unwrap();
    d.scheduler.check().unwrap();
}
