//! A model's vocabulary as the grammar library wants it.

use std::sync::Arc;

use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::error::Result;
use crate::text::Tokenizer;

/// A vocabulary: bytes of every token, and which ones end a text.
#[derive(Clone)]
pub(super) struct Vocabulary {
    pub env: TokEnv,
    /// Tokens of the model; a mask has a bit for each.
    pub size: usize,
}

impl Vocabulary {
    /// The tokens of a model with logits for `size` of them.
    pub fn new(tokenizer: &Tokenizer, size: usize, eos: &[u32]) -> Result<Self> {
        crate::panic::catch(|| Ok(Self::build(tokenizer, size, eos)))
    }

    fn build(tokenizer: &Tokenizer, size: usize, eos: &[u32]) -> Self {
        let mut words: Vec<Vec<u8>> = (0..size as u32).map(|id| word(tokenizer, id)).collect();
        let mut ends = eos.to_vec();
        if ends.is_empty() {
            // The library needs one. It lies outside the mask.
            ends.push(size as u32);
            words.push(marked(b"<end of text>"));
        }
        let info = TokRxInfo::new(words.len() as u32, ends[0]);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
        Vocabulary { env: Arc::new(ApproximateTokEnv::new(trie)), size }
    }

    /// Words of a mask.
    pub fn words(&self) -> usize {
        self.size.div_ceil(32)
    }
}

/// The bytes of a token; none for an id that has no text and for those the tokenizer does not have.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    if tokenizer.is_special(id) { marked(bytes) } else { bytes.to_vec() }
}

/// A special token: no text reaches it, grammars can name it.
fn marked(name: &[u8]) -> Vec<u8> {
    let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    word.extend_from_slice(name);
    word
}
