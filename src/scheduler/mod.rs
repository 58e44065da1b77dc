//! What runs in the next step: admission, chunked prefill, preemption. Knows ids and counts, no MLX.
//!
//! Promises:
//! - A step is decode rows first, then prompt chunks, within `max_step_tokens`; beside decode rows also
//!   within what [`Scheduler::limit_prefill`] allows. Every sequence that can decode does, in every step.
//! - Order is priority, then arrival; nothing is overtaken for good within a priority (`share.rs` says
//!   how prompts share a step). A waiting sequence that does not fit is not passed by others; what runs
//!   is not stopped for what waits, whatever its priority.
//! - A sequence that fits alone is never failed for want of pages: when they run out, the last in order
//!   (lowest priority, youngest) gives up its own and is computed again later, with the same output.
//! - A block can be matched from the plan after the one that writes it. A prompt whose next block is
//!   being computed by a running sequence waits for it instead of computing it too.
//! - A model with recurrent layers shares a prefix only where a state was kept (`snapshots.rs` says where that
//!   is); a row begins at 0, where its sequence's last row ended, or at a state restored in the same step.
//! - Admission sets the pages of the whole prompt aside and leaves one more block for each running
//!   sequence, so that what was just admitted is not preempted at once. Pages are taken only as rows
//!   fill them: never more than the tokens held and one block a sequence.
//!
//! # Protocol
//!
//! The engine's loop, with one step of look-ahead:
//!
//! ```text
//! loop {
//!     take commands:    add, cancel                     // between plans only
//!     let plan = scheduler.plan(now)?                   // step n; report plan.expired
//!     runner.launch(plan.step)?                         // reads what steps before it write
//!     for s in runner.collect() of step n - 1 {
//!         if scheduler.on_sampled(s.id, s.token)? {     // false: ended meanwhile, drop the token
//!             emit s.token
//!             if it is the last one { scheduler.finish(s.id)? }
//!         }
//!     }
//! }
//! ```
//!
//! - `plan` takes the step as launched: launch it before the next call, steps in the order of their
//!   plans. The device must run them in that order.
//! - A token sampled by step `n` may be reported any time later; the next row of its sequence then
//!   takes it from the device ([`RowInput::Sampled`]). The engine ends a sequence with `finish` when its
//!   last token is known; the row already planned after it is dropped with its token.
//! - `cancel` and `finish` free the pages at once, even with steps in flight: those write before any
//!   later step that is given the same pages.
//! - After an error of the runner, or of the scheduler itself: `Runner::reset`, then
//!   [`Scheduler::reset`], and fail the sequences it names.
//! - `plan` without a step while nothing is in flight means: nothing to do until `add`, or until
//!   [`Scheduler::next_deadline`].

mod config;
mod plan;
mod sequence;
mod share;
mod sharing;
mod snapshots;
mod state;
mod stats;
mod step;
#[cfg(test)]
mod tests;

pub use crate::cache::{BlockCopy, StateCopy, StateSave};
pub use config::SchedulerConfig;
pub use plan::{Admitted, Plan};
pub use sequence::NewSequence;
pub use state::Scheduler;
pub use stats::SchedulerStats;
pub use step::{Row, RowInput, SequenceId, Step};
