//! `cargo +nightly fuzz run template`; what it does is in `tests/fuzz/template.rs`.
#![no_main]

#[path = "../../tests/fuzz/template.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
