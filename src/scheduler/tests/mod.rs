//! The scheduler over the mock runner, which answers wrongly for every wrong page.

mod driver;
mod limits;
mod order;
mod random;
mod sharing;
mod states;
