//! What runs in the next step: admission, chunked prefill, preemption. Knows ids and counts, no MLX.

mod step;

pub use step::{BlockCopy, Row, RowInput, SequenceId, Step};
