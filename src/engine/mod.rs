//! The owner thread, its commands and events, its life cycle and statistics.
//!
//! - One thread owns the model. [`Engine`]'s methods check, send it a message and return; they are safe
//!   from any thread.
//! - Every accepted request gets exactly one terminal event, when its pages are free; also at shutdown, and
//!   when the engine itself fails.
//! - A cancelled request takes part in no step planned after the cancel was taken, prefill chunks included.
//! - What computes stands behind [`Runner`]: MLX, or a deterministic mock.
//!
//! | file | what it holds |
//! |---|---|
//! | `handle` | [`Engine`], the outside |
//! | `launch` | loading, on the thread that will own the model |
//! | `load` | a model's files into a runner |
//! | `worker` | the step loop |
//! | `pace` | how much of a prompt rides along with streams |
//! | `active` | one request: tokens in, events out |
//! | `output` | its tokens to text, cut off before a stop string, taken apart |
//! | `registry` | which requests are live |
//! | `queue`, `dispatcher` | the way of events to the application |

mod active;
mod dispatcher;
mod event;
mod handle;
mod launch;
pub mod load;
#[cfg(feature = "mlx")]
pub mod mlx_runner;
pub mod mock;
mod options;
mod output;
mod pace;
mod queue;
mod registry;
mod runner;
mod shared;
mod statistics;
mod worker;

pub use dispatcher::EventHandler;
pub use event::{Delta, DeltaKind, Event, EventKind, FinishReason, RequestId, Usage};
pub use handle::Engine;
pub use options::{DEFAULT_MAX_TOKENS, EngineOptions, MAX_ANSWERS, Prompt, RequestOptions, Shutdown};
pub use runner::{Constrained, MemoryUse, Runner, Sampled};
pub use statistics::Statistics;
