//! Shared prefixes: exact, between running sequences too, and never across salts or parents.

use super::driver::{Driver, config, prompt, sequence};
use crate::scheduler::{NewSequence, SchedulerConfig};

#[test]
fn two_equal_prompts_submitted_together_compute_the_prefix_once() {
    let mut d = Driver::new(SchedulerConfig { max_step_tokens: 32, ..config() });
    let text = prompt(1, 130);
    d.add(sequence(1, text.clone(), 5)).unwrap();
    d.add(sequence(2, text.clone(), 5)).unwrap();
    d.drain();
    assert_eq!(d.cached_tokens(1), 0);
    assert_eq!(d.cached_tokens(2), 128, "all full blocks");
    assert_eq!(d.output(1), d.output(2));
    assert_eq!(d.scheduler.stats().prefill_tokens, 132);
}

#[test]
fn twenty_requests_compute_their_system_prompt_once() {
    let mut d = Driver::new(SchedulerConfig { num_blocks: 512, max_sequences: 20, ..config() });
    let system = prompt(1, 70);
    for id in 0..20u32 {
        let own = prompt(100 + id, 10 + id as usize);
        d.add(sequence(u64::from(id), [system.clone(), own].concat(), 5)).unwrap();
    }
    d.drain();
    let stats = d.scheduler.stats();
    assert_eq!(stats.prefix_hits, 19);
    assert!(stats.prefix_tokens >= 19 * 68, "{stats:?}");
    assert!(d.admitted.iter().skip(1).all(|a| a.cached_tokens >= 68));
}

#[test]
fn whoever_waits_for_a_cancelled_sequence_computes_by_itself() {
    let mut d = Driver::new(SchedulerConfig { max_step_tokens: 16, ..config() });
    d.add(sequence(1, prompt(1, 100), 5)).unwrap();
    d.add(sequence(2, prompt(1, 100), 5)).unwrap();
    d.turn();
    d.turn();
    assert!(d.rows_of(2).is_empty());
    d.cancel(1);
    d.drain();
    assert_eq!(d.cached_tokens(2), 32, "what the cancelled one had computed is kept");
}

#[test]
fn a_waiting_sequence_does_not_hold_up_others() {
    let mut d = Driver::new(SchedulerConfig { max_step_tokens: 16, ..config() });
    d.add(sequence(1, prompt(1, 100), 5)).unwrap();
    d.add(sequence(2, prompt(1, 100), 5)).unwrap();
    d.add(sequence(3, prompt(3, 5), 5)).unwrap();
    d.turn();
    assert!(d.rows_of(2).is_empty() && d.rows_of(3).len() == 1);
    d.drain();
}

#[test]
fn an_exact_multiple_of_blocks_feeds_the_last_token_once() {
    for len in [4, 8, 32] {
        let mut d = Driver::new(config());
        d.add(sequence(1, prompt(1, len), 3)).unwrap();
        d.drain();
        d.add(sequence(2, prompt(1, len), 3)).unwrap();
        d.drain();
        assert_eq!(d.cached_tokens(2), len - 1);
        let rows = d.rows_of(2);
        let (step, first) = rows[0];
        assert_eq!((first.start as usize, first.input_len(), first.samples), (len - 1, 1, true));
        assert_eq!(rows.iter().filter(|(_, r)| (r.start as usize) < len).count(), 1);
        // The last block is a private copy.
        let copy = d.steps[step].copies[0];
        assert_eq!(Some(&copy.to), first.blocks.last());
        assert_eq!((copy.tokens, d.steps[step].copies.len()), (3, 1));
        assert!(!d.rows_of(1).iter().any(|(_, r)| r.blocks.contains(&copy.to)));
    }
}

#[test]
fn short_prompts_and_answers_are_reused_to_the_token() {
    let mut d = Driver::new(SchedulerConfig { block_size: 16, ..config() });
    // Shorter than a block.
    d.add(sequence(1, prompt(1, 15), 2)).unwrap();
    d.drain();
    d.add(sequence(2, prompt(1, 15), 2)).unwrap();
    d.drain();
    assert_eq!(d.cached_tokens(2), 14);
    // A conversation goes on: prompt, answer, next turn. The last token of the answer was never run.
    let answer = d.output(2).to_vec();
    d.add(sequence(3, [prompt(1, 15), answer, prompt(5, 20)].concat(), 9)).unwrap();
    d.drain();
    assert_eq!(d.cached_tokens(3), 16);
    // Another turn after the same beginning shares what is the same, to the token.
    d.add(sequence(4, [prompt(1, 11), prompt(6, 20)].concat(), 2)).unwrap();
    d.drain();
    assert_eq!(d.cached_tokens(4), 11);
}

#[test]
fn the_tail_of_a_running_prompt_is_shared() {
    let mut d = Driver::new(SchedulerConfig { block_size: 16, ..config() });
    d.add(sequence(1, prompt(1, 20), 30)).unwrap();
    for _ in 0..5 {
        d.turn();
    }
    d.add(sequence(2, prompt(1, 20), 30)).unwrap();
    d.drain();
    assert_eq!(d.cached_tokens(2), 19);
}

#[test]
fn two_salts_share_nothing() {
    let mut d = Driver::new(config());
    for (id, salt) in [(1, b"alice".to_vec()), (2, b"bob".to_vec()), (3, Vec::new()), (4, b"alice".to_vec())]
    {
        d.add(NewSequence { salt, ..sequence(id, prompt(1, 50), 3) }).unwrap();
        d.drain();
    }
    assert_eq!([1, 2, 3, 4].map(|id| d.cached_tokens(id)), [0, 0, 0, 49]);
}

#[test]
fn the_same_block_under_another_parent_is_not_reused() {
    let mut d = Driver::new(config());
    let shared = prompt(3, 8);
    d.add(sequence(1, [prompt(1, 8), shared.clone()].concat(), 3)).unwrap();
    d.drain();
    d.add(sequence(2, [prompt(2, 8), shared.clone()].concat(), 3)).unwrap();
    d.drain();
    assert_eq!(d.cached_tokens(2), 0);
    d.add(sequence(3, [shared, prompt(1, 8)].concat(), 3)).unwrap();
    d.drain();
    assert_eq!(d.cached_tokens(3), 0);
}

#[test]
fn without_sharing_nothing_is_found_and_answers_are_the_same() {
    let mut outputs = Vec::new();
    for prefix_sharing in [true, false] {
        let mut d = Driver::new(SchedulerConfig { prefix_sharing, ..config() });
        for id in 0..4 {
            d.add(sequence(id, prompt(1, 40), 6)).unwrap();
        }
        d.drain();
        assert_eq!(d.scheduler.stats().prefix_tokens, if prefix_sharing { 3 * 39 } else { 0 });
        assert_eq!(d.scheduler.block_counts().cached > 0, prefix_sharing);
        outputs.push((0..4).map(|id| d.output(id).to_vec()).collect::<Vec<_>>());
    }
    assert_eq!(outputs[0], outputs[1]);
}

#[test]
fn eviction_takes_the_least_recently_used_prefix_first() {
    // Each finished request leaves 10 blocks cached, in a pool of 32.
    let mut d = Driver::new(SchedulerConfig { num_blocks: 32, ..config() });
    for (id, text) in [(1, 1), (2, 2), (3, 3), (4, 1)] {
        d.add(sequence(id, prompt(text, 38), 2)).unwrap();
        d.drain();
    }
    assert_eq!(d.cached_tokens(4), 37);
    d.add(sequence(5, prompt(5, 38), 2)).unwrap();
    d.drain();
    // Text 2 has gone, at least from its end; 1 and 3 were used later.
    for (id, text) in [(6, 3), (7, 1)] {
        d.add(sequence(id, prompt(text, 38), 2)).unwrap();
        d.drain();
        assert!(d.cached_tokens(id) >= 36, "text {text}: {}", d.cached_tokens(id));
    }
    d.add(sequence(8, prompt(2, 38), 2)).unwrap();
    d.drain();
    assert!(d.cached_tokens(8) < 20, "{}", d.cached_tokens(8));
}

/// A sequence that shares all with one that gets no budget for a while: was it admitted meanwhile?
fn starts_over_beside_a_stalled_one(priority: i32) -> (bool, Driver) {
    let mut d = Driver::new(SchedulerConfig { max_step_tokens: 12, num_blocks: 512, ..config() });
    d.add(NewSequence { priority: 9, ..sequence(1, prompt(1, 800), 1) }).unwrap();
    d.add(sequence(2, prompt(2, 100), 1)).unwrap();
    d.turn();
    d.add(NewSequence { priority, ..sequence(3, prompt(2, 100), 1) }).unwrap();
    // Short prompts take all that the first one leaves.
    for id in 10..22u32 {
        d.add(NewSequence { priority: 9, ..sequence(u64::from(id), prompt(id, 9), 1) }).unwrap();
        d.turn();
    }
    assert!(d.rows_of(2).len() <= 1, "it has not got on");
    (d.admitted.iter().any(|a| a.id == 3), d)
}

#[test]
fn an_equal_prompt_waits_however_long_its_leader_takes() {
    let (started, mut d) = starts_over_beside_a_stalled_one(0);
    assert!(!started);
    d.drain();
    assert_eq!(d.cached_tokens(3), 99);
}

#[test]
fn a_more_urgent_prompt_does_not_wait_for_a_stalled_one() {
    let (started, mut d) = starts_over_beside_a_stalled_one(5);
    assert!(started, "it starts over");
    d.drain();
}

#[test]
fn a_sequence_indexes_its_own_blocks_when_the_equal_ones_are_evicted() {
    let mut d = Driver::new(SchedulerConfig { num_blocks: 40, ..config() });
    // Equal prompts, hence equal answers: the blocks of the first stand for those of the second.
    d.add(sequence(1, prompt(1, 8), 20)).unwrap();
    d.add(sequence(2, prompt(1, 8), 60)).unwrap();
    while d.how_ended(1).is_none() {
        d.turn();
    }
    // Everything that is only cached has to go.
    d.add(sequence(3, prompt(3, 96), 1)).unwrap();
    d.drain();
    d.add(sequence(4, d.conversation(2, 60), 1)).unwrap();
    d.drain();
    assert_eq!(d.cached_tokens(4), 67);
}

#[test]
fn what_a_step_writes_is_not_read_in_the_same_step() {
    // Without look-ahead a decode row's token is known when it is planned. Whenever a request comes that
    // goes on where the other is just writing, it must not read what that very step writes.
    for answered in 0..12 {
        let mut d = Driver::new(config());
        d.look_ahead = 0;
        d.add(sequence(1, prompt(1, 6), 40)).unwrap();
        (0..=answered).for_each(|_| assert!(d.turn()));
        d.add(sequence(2, d.conversation(1, 30), 3)).unwrap();
        d.turn();
        assert!(d.cached_tokens(2) <= d.rows_of(1).last().unwrap().1.start as usize);
        d.drain();
    }
}
