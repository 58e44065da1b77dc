//! Tokenizers of published models, against the reference's ids. `cargo xtask text-data` fetches them; without
//! them these tests have nothing to compare, and those on the small tokenizers of `tests/data` must do.

use std::path::{Path, PathBuf};

use quire::text::{Detokenizer, Tokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    plain: Vec<u32>,
    special: Vec<u32>,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn json<T: for<'a> Deserialize<'a>>(path: &Path) -> T {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Compares ids and streamed text over the corpus, if the tokenizer is there.
fn check(name: &str) -> Option<Tokenizer> {
    let path = root().join(".models/tokenizers").join(name).join("tokenizer.json");
    if !path.is_file() {
        return None;
    }
    let tokenizer = Tokenizer::from_file(&path).unwrap();
    let data = root().join("tests/data/tokenizers");
    let corpus: Vec<String> = json(&data.join("corpus.json"));
    let expected: Vec<Expected> = json(&data.join(format!("{name}.json")));
    assert_eq!(corpus.len(), expected.len());
    for (text, expected) in corpus.iter().zip(expected) {
        assert_eq!(tokenizer.encode(text, false).unwrap(), expected.plain, "{text:?}");
        assert_eq!(tokenizer.encode(text, true).unwrap(), expected.special, "{text:?}");
        let mut streamed = String::new();
        let mut detokenizer = Detokenizer::new(&tokenizer, true);
        for &id in &expected.plain {
            detokenizer.push(id, &mut streamed);
        }
        detokenizer.finish(&mut streamed);
        assert_eq!(streamed, expected.text, "{text:?}");
    }
    Some(tokenizer)
}

#[test]
fn qwen3s_tokenizer_is_the_references() {
    if let Some(tokenizer) = check("qwen3") {
        assert_eq!(tokenizer.eos_ids(), [tokenizer.token_id("<|im_end|>").unwrap()]);
        assert_eq!(tokenizer.bos_id(), None);
    }
}

#[test]
fn llama3s_tokenizer_is_the_references() {
    if let Some(tokenizer) = check("llama3_1") {
        assert_eq!(tokenizer.bos_id(), tokenizer.token_id("<|begin_of_text|>"));
        assert!(tokenizer.bos_id().is_some());
    }
}
