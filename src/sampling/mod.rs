//! How the next token is chosen: parameters (pure) and the device code that honours them, row by row.

#[cfg(feature = "mlx")]
pub mod device;
mod logprobs;
mod params;
mod row;

pub use logprobs::{LogprobRequest, MAX_TOP_LOGPROBS, PromptLogprobs, TokenLogprobs};
pub use params::{MAX_LOGIT_BIAS, Penalties, SamplingParams};
pub use row::RowSampling;
