//! The streaming detokenizer: `cargo +nightly fuzz run detokenizer`. The first byte says which vocabulary and whether
//! special tokens count; the rest are token ids. Deltas are together what decoding everything at once gives.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use quire::text::{Detokenizer, Tokenizer};

const NAMES: [&str; 3] = ["byte-level-bpe", "sentencepiece", "byte-tokenizer"];

fn tokenizers() -> &'static [Tokenizer] {
    static TOKENIZERS: OnceLock<Vec<Tokenizer>> = OnceLock::new();
    TOKENIZERS.get_or_init(|| {
        let path = |name| format!("{}/../tests/data/{name}/tokenizer.json", env!("CARGO_MANIFEST_DIR"));
        NAMES.iter().map(|name| Tokenizer::from_file(path(name).as_ref()).expect("a tokenizer")).collect()
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let tokenizer = &tokenizers()[usize::from(*first) % NAMES.len()];
    let skip_special = first & 0x80 != 0;
    let ids: Vec<u32> = rest.chunks(2).map(|pair| pair.iter().fold(0, |id, b| id << 8 | u32::from(*b)) % 700).collect();
    let mut streamed = String::new();
    let mut detokenizer = Detokenizer::new(tokenizer, skip_special);
    for &id in &ids {
        detokenizer.push(id, &mut streamed);
    }
    detokenizer.finish(&mut streamed);
    assert_eq!(streamed, tokenizer.decode(&ids, skip_special));
});
