//! `cargo +nightly fuzz run detokenizer`; what it does is in `tests/fuzz/detokenizer.rs`.
#![no_main]

use std::path::{Path, PathBuf};

#[path = "../../tests/fuzz/detokenizer.rs"]
mod target;

/// Where the tests have their tokenizers.
fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data")
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
