//! Grammars of every kind. The first byte says which kind; the rest is its text. What compiles is followed for some
//! tokens.

use std::sync::OnceLock;

use quire::error::Status;
use quire::grammar::{Grammar, GrammarKind, Grammars};
use quire::text::Tokenizer;

const KINDS: [GrammarKind; 5] = [
    GrammarKind::JsonSchema,
    GrammarKind::Regex,
    GrammarKind::Lark,
    GrammarKind::Choice,
    GrammarKind::JsonObject,
];

fn grammars() -> &'static Grammars {
    static GRAMMARS: OnceLock<Grammars> = OnceLock::new();
    GRAMMARS.get_or_init(|| {
        let path = super::data_dir().join("byte-level-bpe/tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path).expect("a tokenizer");
        Grammars::new(&tokenizer, tokenizer.vocab_size(), tokenizer.eos_ids()).expect("a vocabulary")
    })
}

/// Takes one input; panics if something does not hold.
pub fn run(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let grammar = Grammar { kind: KINDS[*kind as usize % KINDS.len()], text: text.to_owned() };
    let mut state = match grammars().start(&grammar) {
        Ok(state) => state,
        Err(error) => {
            assert_eq!(error.status(), Status::GrammarInvalid, "{error}");
            return;
        }
    };
    for step in 0..16 {
        let Ok(mask) = state.mask(std::iter::empty()) else { return };
        let allowed: Vec<u32> =
            (0..mask.len() as u32 * 32).filter(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1).collect();
        let token = allowed[(usize::from(*kind) + step * 31) % allowed.len()];
        if !matches!(state.accept(token), Ok(false)) {
            return;
        }
    }
}
