//! `cargo +nightly fuzz run schema`; what it does is in `tests/fuzz/schema.rs`.
#![no_main]

use std::path::{Path, PathBuf};

#[path = "../../tests/fuzz/schema.rs"]
mod target;

/// Where the tests have their tokenizers.
fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data")
}

libfuzzer_sys::fuzz_target!(
    // The fuzzer's hook ends the process at every panic; those of the grammar library are caught and become errors.
    init: drop(std::panic::take_hook()),
    |data: &[u8]| target::run(data)
);
