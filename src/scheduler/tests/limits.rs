//! What is refused, and what happens at the limits.

use super::driver::{Driver, End, config, prompt, sequence};
use crate::engine::mock::MockOptions;
use crate::error::Status;
use crate::scheduler::{NewSequence, Scheduler, SchedulerConfig};

#[test]
fn a_full_queue_refuses_and_recovers() {
    let mut d = Driver::new(SchedulerConfig { max_waiting: 2, ..config() });
    d.add(sequence(1, prompt(1, 5), 3)).unwrap();
    d.add(sequence(2, prompt(2, 5), 3)).unwrap();
    let refused = d.add(sequence(3, prompt(3, 5), 3)).unwrap_err();
    assert_eq!(refused.status(), Status::QueueFull);
    assert!(refused.message().contains('2'), "{refused}");
    d.turn();
    d.add(sequence(3, prompt(3, 5), 3)).unwrap();
    d.drain();
    assert_eq!(d.how_ended(3), Some(End::Finished));
}

#[test]
fn what_cannot_fit_alone_is_refused_with_the_numbers() {
    let small = SchedulerConfig { num_blocks: 4, max_context: 30, ..config() };
    let mut d = Driver::new(small);
    // 16 slots: the prompt and all sampled tokens but the last.
    let refused = d.add(sequence(1, prompt(1, 10), 8)).unwrap_err();
    assert_eq!(refused.status(), Status::PromptTooLong);
    for number in ["10 tokens", "8 more", "5 cache blocks", "has 4"] {
        assert!(refused.message().contains(number), "{refused}");
    }
    let refused = d.add(sequence(1, prompt(1, 10), 21)).unwrap_err();
    assert_eq!(refused.status(), Status::PromptTooLong);
    assert!(refused.message().contains("context holds 30"), "{refused}");

    d.add(sequence(1, prompt(1, 10), 7)).unwrap();
    d.drain();
    assert_eq!(d.how_ended(1), Some(End::Finished));
}

#[test]
fn the_whole_pool_serves_one_sequence_again_and_again() {
    let mut d = Driver::new(SchedulerConfig { num_blocks: 4, ..config() });
    for (id, new) in [(1, 1), (2, 1), (3, 5), (4, 1)] {
        d.add(sequence(id, prompt(9, 17 - new), new as u32)).unwrap();
        d.drain();
        assert_eq!(d.how_ended(id), Some(End::Finished));
    }
}

#[test]
fn nonsense_is_an_invalid_argument() {
    let mut s = Scheduler::new(config()).unwrap();
    s.add(sequence(1, prompt(1, 5), 3)).unwrap();
    for new in [sequence(1, prompt(1, 5), 3), sequence(2, Vec::new(), 3), sequence(2, prompt(1, 5), 0)] {
        assert_eq!(s.add(new).unwrap_err().status(), Status::InvalidArgument);
    }
    let bad = [
        (SchedulerConfig { max_sequences: 0, ..config() }, "max_sequences"),
        (SchedulerConfig { max_waiting: 0, ..config() }, "max_waiting"),
        (SchedulerConfig { max_step_tokens: 8, ..config() }, "max_step_tokens"),
        (SchedulerConfig { max_prefill_chunk: 0, ..config() }, "max_prefill_chunk"),
        (SchedulerConfig { block_size: 12, ..config() }, "block_size"),
        (SchedulerConfig { block_size: 0, ..config() }, "block_size"),
        (SchedulerConfig { block_size: 512, ..config() }, "block_size"),
        (SchedulerConfig { num_blocks: 0, ..config() }, "num_blocks"),
        (SchedulerConfig { max_context: 1, ..config() }, "max_context"),
    ];
    for (config, field) in bad {
        let e = Scheduler::new(config).err().expect(field);
        assert_eq!(e.status(), Status::InvalidArgument);
        assert!(e.message().starts_with(field), "{e}");
    }
}

#[test]
fn tokens_of_strangers_are_dropped_and_unplanned_ones_are_errors() {
    let mut s = Scheduler::new(config()).unwrap();
    assert!(!s.on_sampled(7, 1).unwrap());
    assert!(!s.finish(7).unwrap());
    assert!(!s.cancel(7).unwrap());
    s.add(sequence(7, prompt(1, 5), 3)).unwrap();
    assert_eq!(s.on_sampled(7, 1).unwrap_err().status(), Status::Internal);
}

#[test]
fn cancel_works_in_every_state() {
    let mut d = Driver::new(SchedulerConfig { max_sequences: 2, max_step_tokens: 8, ..config() });
    d.add(sequence(1, prompt(1, 4), 50)).unwrap(); // will decode
    d.add(sequence(2, prompt(2, 100), 5)).unwrap(); // will be in the middle of its prompt
    d.add(sequence(3, prompt(3, 4), 5)).unwrap(); // will wait
    for _ in 0..5 {
        d.turn();
    }
    assert!(!d.output(1).is_empty() && d.output(2).is_empty() && !d.rows_of(2).is_empty());
    assert!(d.rows_of(3).is_empty());
    for id in [1, 2, 3, 3, 99] {
        d.cancel(id);
    }
    assert_eq!(d.scheduler.block_counts().in_use, 0);
    d.drain();

    // Its last token is in flight.
    d.add(sequence(4, prompt(4, 4), 1)).unwrap();
    d.turn();
    d.cancel(4);
    d.drain();
    assert_eq!(d.how_ended(4), Some(End::Cancelled));
}

#[test]
fn deadlines_end_waiting_and_running_sequences() {
    let mut d = Driver::new(SchedulerConfig { max_sequences: 1, ..config() });
    let until = |d: &Driver, id, millis| NewSequence {
        deadline: Some(d.at(millis)),
        ..sequence(id, prompt(id as u32, 5), 50)
    };
    for (id, millis) in [(1, 10), (2, 5), (3, 20)] {
        d.add(until(&d, id, millis)).unwrap();
    }
    d.add(sequence(4, prompt(4, 5), 3)).unwrap();
    d.turn();
    assert_eq!(d.scheduler.next_deadline(), Some(d.at(5)));
    d.now = d.at(10);
    d.turn();
    assert_eq!((d.how_ended(1), d.how_ended(2)), (Some(End::Expired), Some(End::Expired)));
    assert_eq!(d.how_ended(3), None);
    d.drain();
    assert_eq!((d.how_ended(3), d.how_ended(4)), (Some(End::Finished), Some(End::Finished)));
    assert_eq!(d.scheduler.next_deadline(), None);
}

#[test]
fn a_device_error_spares_those_that_only_wait() {
    let options = MockOptions { fail_at_step: 3, ..MockOptions::default() };
    let mut d = Driver::with_options(SchedulerConfig { max_sequences: 1, ..config() }, options);
    d.add(sequence(1, prompt(1, 5), 10)).unwrap();
    d.add(sequence(2, prompt(1, 5), 10)).unwrap();
    d.drain();
    assert_eq!((d.how_ended(1), d.how_ended(2)), (Some(End::Failed), Some(End::Finished)));
}
