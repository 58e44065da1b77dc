//! How the next token is chosen: parameters (pure) and the device code that honours them, row by row.

mod params;

pub use params::SamplingParams;
