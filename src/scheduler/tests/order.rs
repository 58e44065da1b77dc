//! Who runs when: decode before prefill, shares of a step, preemption and its order.

use super::driver::{Driver, End, config, prompt, sequence};
use crate::sampling::SamplingParams;
use crate::scheduler::{NewSequence, RowInput, SchedulerConfig};

#[test]
fn a_long_prompt_is_read_in_chunks_beside_decode_rows() {
    let mut d = Driver::new(SchedulerConfig { max_step_tokens: 20, num_blocks: 512, ..config() });
    for id in 1..=4 {
        d.add(sequence(id, prompt(id as u32, 3), 40)).unwrap();
    }
    d.turn();
    d.add(sequence(9, prompt(9, 300), 2)).unwrap();
    d.drain();
    // The four stream a token in every step, and the long prompt gets the 16 tokens that are left.
    let chunks = d.rows_of(9);
    for (step, row) in &chunks[..18] {
        let step = &d.steps[*step];
        assert!(step.rows[..4].iter().all(|r| r.id <= 4 && r.samples), "{step:?}");
        assert_eq!((row.input_len(), row.samples), (16, false));
    }
    assert!(chunks[18].1.samples && chunks[18].1.start == 288);
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one() {
    let mut d = Driver::new(SchedulerConfig { max_step_tokens: 32, ..config() });
    d.add(sequence(1, prompt(1, 400), 2)).unwrap();
    d.add(sequence(2, prompt(2, 400), 2)).unwrap();
    d.turn();
    d.add(sequence(3, prompt(3, 10), 2)).unwrap();
    d.turn();
    assert_eq!(d.rows_of(3).len(), 1, "it starts at once");
    d.drain();
    let first_token = |id| d.rows_of(id).iter().find(|(_, r)| r.samples).unwrap().0;
    assert_eq!(first_token(3), 1);
    assert!(first_token(1) < first_token(2), "the first long prompt ends first");
    // The first keeps half of every step.
    assert!(d.rows_of(1)[..20].iter().all(|(_, r)| r.input_len() >= 16));
}

#[test]
fn priority_then_arrival() {
    let mut d = Driver::new(SchedulerConfig { max_sequences: 1, ..config() });
    for (id, priority) in [(1, 0), (2, 0), (3, 5), (4, -1), (5, 5)] {
        d.add(NewSequence { priority, ..sequence(id, prompt(id as u32, 6), 2) }).unwrap();
    }
    d.drain();
    let order: Vec<u64> = d.admitted.iter().map(|a| a.id).collect();
    assert_eq!(order, [3, 5, 1, 2, 4]);
}

#[test]
fn the_youngest_of_the_lowest_priority_gives_way_and_answers_the_same() {
    // Three sequences that grow to 10 blocks each, in a pool of 16.
    let mut d = Driver::new(SchedulerConfig { num_blocks: 16, ..config() });
    let params = SamplingParams { temperature: 1.0, seed: 11, ..Default::default() };
    for (id, priority) in [(1, 0), (2, 1), (3, 0)] {
        let new = NewSequence { priority, ..sequence(id, prompt(id as u32, 6), 34) };
        d.add_sampled(new, params.clone()).unwrap();
    }
    d.drain();
    let again: Vec<u64> = d.admitted.iter().filter(|a| a.again).map(|a| a.id).collect();
    assert!(again.contains(&3), "the youngest of the lowest priority is preempted: {again:?}");
    assert!(!again.contains(&2), "the highest priority is never preempted: {again:?}");
    assert!(d.scheduler.stats().preemptions > 0);
    // The driver has compared every token with the oracle; seeds count on across the preemption.
    assert!((1..=3).all(|id| d.how_ended(id) == Some(End::Finished)));
    // Computed again, the sequence feeds its own output from the host, and finds some of it cached.
    let recomputed = d.rows_of(3).iter().any(|(_, r)| {
        r.sampled_before > 0 && matches!(&r.input, RowInput::Tokens(t) if t.len() > 1 || !r.samples)
    });
    assert!(recomputed || d.admitted.iter().any(|a| a.id == 3 && a.again && a.cached_tokens > 6));
}

#[test]
fn admission_leaves_room_to_grow() {
    // Two prompts of 7 blocks fill 14 of 16, and each will grow by one. The third would fit as well.
    let mut d = Driver::new(SchedulerConfig { num_blocks: 16, ..config() });
    for (id, len) in [(1, 27), (2, 27), (3, 5)] {
        d.add(sequence(id, prompt(id as u32, len), 4)).unwrap();
    }
    d.drain();
    assert_eq!(d.scheduler.stats().preemptions, 0);
}

#[test]
fn whoever_only_waits_for_its_last_token_gives_its_pages_first() {
    // Both hold 3 of 6 blocks when the second needs one more; the first has nothing left to run.
    let mut d = Driver::new(SchedulerConfig { num_blocks: 6, ..config() });
    d.add(sequence(1, prompt(1, 8), 5)).unwrap();
    d.add(sequence(2, prompt(2, 8), 15)).unwrap();
    d.drain();
    assert_eq!(d.scheduler.stats().preemptions, 0);
    assert!([1, 2].iter().all(|&id| d.how_ended(id) == Some(End::Finished)));
}

#[test]
fn whoever_did_not_fit_starts_as_soon_as_there_is_room() {
    let mut d = Driver::new(SchedulerConfig { num_blocks: 16, ..config() });
    for (id, len, new) in [(1, 24, 3), (2, 24, 10), (3, 16, 3)] {
        d.add(sequence(id, prompt(id as u32, len), new)).unwrap();
    }
    d.drain();
    let first_step = |id| d.rows_of(id)[0].0;
    let last_step = |id| d.rows_of(id).last().unwrap().0;
    assert!(first_step(3) > last_step(1), "it did not fit beside the other two");
    assert!(first_step(3) <= last_step(1) + 3, "{} {}", first_step(3), last_step(1));
    assert!(first_step(3) < last_step(2));
}

#[test]
fn decode_tokens_stay_on_the_device_and_known_ones_come_from_the_host() {
    for (look_ahead, on_device) in [(1, true), (0, false)] {
        let mut d = Driver::new(config());
        d.look_ahead = look_ahead;
        d.add(sequence(1, prompt(1, 6), 9)).unwrap();
        d.drain();
        let rows = d.rows_of(1);
        assert_eq!(rows.len(), 9, "one prefill, eight decodes, none past the last token");
        assert!(rows[1..].iter().all(|(_, r)| (r.input == RowInput::Sampled) == on_device));
        assert!(rows.iter().enumerate().all(|(n, (_, r))| r.sampled_before == n as u32));
    }
}

#[test]
fn pages_never_exceed_the_tokens_and_one_block_a_sequence() {
    let mut d = Driver::new(SchedulerConfig { prefix_sharing: false, ..config() });
    for id in 0..8 {
        d.add(sequence(id, prompt(id as u32, 5 + id as usize * 9), 20)).unwrap();
    }
    let mut most = 0;
    while d.turn() {
        let held: u32 = (0..8)
            .filter(|&id| d.how_ended(id).is_none())
            .filter_map(|id| d.rows_of(id).last().map(|(_, r)| r.start + r.input_len() as u32))
            .sum();
        let counts = d.scheduler.block_counts();
        assert!(counts.in_use * 4 <= held + 8 * 3, "{counts:?} for {held} tokens");
        most = most.max(counts.in_use);
    }
    assert!(most > 50, "{most}");
}
