//! The streaming detokenizer. The first byte says which vocabulary and whether special tokens count; the rest are
//! token ids. Every delta is whole characters, and together they are what decoding everything at once gives.

use std::sync::OnceLock;

use quire::text::{Detokenizer, Tokenizer};

const NAMES: [&str; 3] = ["byte-level-bpe", "sentencepiece", "byte-tokenizer"];

/// Our tokenizers, and the library's own.
fn tokenizers() -> &'static [(Tokenizer, tokenizers::Tokenizer)] {
    static TOKENIZERS: OnceLock<Vec<(Tokenizer, tokenizers::Tokenizer)>> = OnceLock::new();
    let load = |name| {
        let path = super::data_dir().join(name).join("tokenizer.json");
        let reference = tokenizers::Tokenizer::from_file(&path).expect("a tokenizer");
        (Tokenizer::from_file(&path).expect("a tokenizer"), reference)
    };
    TOKENIZERS.get_or_init(|| NAMES.into_iter().map(load).collect())
}

/// Takes one input; panics if something does not hold.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let (tokenizer, reference) = &tokenizers()[usize::from(*first) % NAMES.len()];
    let skip_special = first & 0x80 != 0;
    let id = |pair: &[u8]| pair.iter().fold(0, |id, b| id << 8 | u32::from(*b)) % 700;
    let ids: Vec<u32> = rest.chunks(2).map(id).collect();
    let mut streamed = String::new();
    let mut detokenizer = Detokenizer::new(tokenizer, skip_special);
    for &id in &ids {
        detokenizer.push(id, &mut streamed);
    }
    detokenizer.finish(&mut streamed);
    assert_eq!(streamed, tokenizer.decode(&ids, skip_special));
    assert_eq!(streamed, reference.decode(&ids, skip_special).expect("a text"));
}
