//! The fuzz targets (`fuzz/`, `make fuzz`) without a fuzzer, so that every test run has a short one: the seeds in
//! `fuzz/seeds`, then inputs made from them by the same changes every time.
#![cfg(not(feature = "mlx"))]

mod answer;
mod detokenizer;
mod mutate;
mod schema;
mod template;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mutate::Mutator;

/// Where the tests have their tokenizers.
fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A target's seeds, in order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<PathBuf> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Every seed as it is, then `rounds` inputs made from them with the help of `words`.
fn fuzz(target: &str, run: fn(&[u8]), words: &[&str], rounds: usize) {
    let seeds = seeds(target);
    assert!(seeds.len() >= 5, "{target} has too few seeds");
    let mut mutator = Mutator::new(words, 0x51_1e5);
    for round in 0..seeds.len() + rounds {
        let input = match seeds.get(round) {
            Some(seed) => seed.clone(),
            None => mutator.from(&seeds),
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&input)));
        assert!(outcome.is_ok(), "{target} failed on {:?} ({input:?})", String::from_utf8_lossy(&input));
    }
}

#[test]
fn answers() {
    let words = [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "{\"name\": \"f\"",
        "<function=",
    ];
    fuzz("answer", answer::run, &words, 100_000);
}

#[test]
fn detokenizers() {
    fuzz("detokenizer", detokenizer::run, &["\0\x10", "\x01\0", "\0\u{7f}"], 40_000);
}

#[test]
fn schemas() {
    let words =
        ["{\"type\":", "\"$ref\":\"#/", "\"items\":", "\"anyOf\":[", "start:", "{0,9}", "(?:", "|", "null}"];
    fuzz("schema", schema::run, &words, 3_000);
}

#[test]
fn templates() {
    let words = [
        "{{ ",
        " }}",
        "{% for x in ",
        "{% endfor %}",
        "{% set x = x + x %}",
        "messages",
        "|tojson",
        "range(",
    ];
    fuzz("template", template::run, &words, 10_000);
}

#[test]
#[should_panic(expected = "answer failed on")]
fn what_does_not_hold_is_noticed() {
    fuzz("answer", |input| assert!(input.len() < 200), &["more"], 1_000);
}
