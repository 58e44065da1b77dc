//! How the next token is chosen: parameters (pure) and the device code that honours them, row by row.

#[cfg(feature = "mlx")]
pub mod device;
mod params;

pub use params::SamplingParams;
