//! Tokens back to text, one at a time.

use std::sync::Arc;

use super::Tokenizer;
use super::table::{Joining, TokenTable};

const REPLACEMENT: &str = "\u{fffd}";

/// One request's way from tokens to text.
///
/// Promises:
/// - [`push`](Self::push) appends whole UTF-8 only: a character whose bytes come in several tokens
///   appears with the last of them.
/// - What all pushes and [`finish`](Self::finish) append is, byte for byte, what the reference (the
///   `tokenizers` crate's `decode`) gives for the whole sequence, with the same U+FFFD.
/// - A push costs time linear in its token's bytes, and creation a few stores: the table of tokens is
///   the [`Tokenizer`]'s own, shared. (In a SentencePiece vocabulary the reference lets one bad byte
///   spoil a whole run of byte tokens, so a run, usually three or four tokens, is held until it ends.)
///
/// A token that the vocabulary does not have is passed over, as in the reference.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    table: Arc<TokenTable>,
    skip_special: bool,
    state: State,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// A token has counted.
    started: bool,
    /// How many leading characters have been stripped; `usize::MAX` when that is over.
    stripped: usize,
    /// Bytes that are not text yet: an unfinished character, or a run of byte tokens.
    held: Vec<u8>,
}

/// Where text goes: the output, less what the decoder strips from the start of the whole text.
struct Sink<'a> {
    out: &'a mut String,
    stripped: &'a mut usize,
    strip: Option<(char, usize)>,
}

impl Detokenizer {
    /// Starts a text. With `skip_special` special tokens (`<|im_end|>`) leave no text.
    pub fn new(tokenizer: &Tokenizer, skip_special: bool) -> Self {
        Detokenizer { table: Arc::clone(tokenizer.table()), skip_special, state: State::default() }
    }

    /// Takes a token and appends to `out` the text that is now certain.
    pub fn push(&mut self, token: u32, out: &mut String) {
        let Some(entry) = self.table.get(token, !self.state.started) else { return };
        if self.skip_special && entry.is_special {
            return;
        }
        let State { started, stripped, held } = &mut self.state;
        *started = true;
        let mut sink = Sink { out, stripped, strip: self.table.strip };
        match self.table.joining {
            Joining::Bytes => push_bytes(held, entry.bytes, &mut sink),
            Joining::Runs if entry.is_byte => held.extend_from_slice(entry.bytes),
            Joining::Runs => {
                end_run(held, &mut sink);
                // Always text; lossless.
                sink.emit(&String::from_utf8_lossy(entry.bytes));
            }
        }
    }

    /// Ends the text: what is held becomes text, or U+FFFD. The next token starts a new text.
    pub fn finish(&mut self, out: &mut String) {
        let State { stripped, held, .. } = &mut self.state;
        let mut sink = Sink { out, stripped, strip: self.table.strip };
        match self.table.joining {
            Joining::Bytes if held.is_empty() => {}
            Joining::Bytes => sink.emit(REPLACEMENT),
            Joining::Runs => end_run(held, &mut sink),
        }
        self.reset();
    }

    /// Forgets all tokens so far, for a new text.
    pub fn reset(&mut self) {
        self.state.held.clear();
        self.state.started = false;
        self.state.stripped = 0;
    }

    /// Whether tokens have been pushed whose text is still to come.
    pub fn is_holding(&self) -> bool {
        !self.state.held.is_empty()
    }
}

impl Sink<'_> {
    fn emit(&mut self, mut text: &str) {
        if let Some((character, limit)) = self.strip {
            while *self.stripped < limit && !text.is_empty() {
                match text.strip_prefix(character) {
                    Some(rest) => {
                        text = rest;
                        *self.stripped += 1;
                    }
                    None => *self.stripped = usize::MAX,
                }
            }
        }
        self.out.push_str(text);
    }
}

/// Bytes of a stream: text as far as it goes, U+FFFD for each maximal bad sequence; an unfinished
/// character at the end is held.
fn push_bytes(held: &mut Vec<u8>, mut bytes: &[u8], sink: &mut Sink<'_>) {
    while let (false, Some((&byte, rest))) = (held.is_empty(), bytes.split_first()) {
        held.push(byte);
        match std::str::from_utf8(held) {
            Ok(character) => sink.emit(character),
            Err(e) if e.error_len().is_none() => {
                bytes = rest;
                continue;
            }
            Err(_) => {
                // The byte does not go on with the character: that one is bad, the byte may be good.
                held.clear();
                sink.emit(REPLACEMENT);
                continue;
            }
        }
        held.clear();
        bytes = rest;
    }
    while !bytes.is_empty() {
        match std::str::from_utf8(bytes) {
            Ok(text) => return sink.emit(text),
            Err(e) => {
                let (text, rest) = bytes.split_at(e.valid_up_to());
                // Valid, by the error's word; lossless.
                sink.emit(&String::from_utf8_lossy(text));
                let Some(bad) = e.error_len() else { return held.extend_from_slice(rest) };
                sink.emit(REPLACEMENT);
                bytes = &rest[bad..];
            }
        }
    }
}

/// A run of byte tokens has ended.
fn end_run(held: &mut Vec<u8>, sink: &mut Sink<'_>) {
    match std::str::from_utf8(held) {
        Ok(text) => sink.emit(text),
        Err(_) => held.iter().for_each(|_| sink.emit(REPLACEMENT)),
    }
    held.clear();
}

#[cfg(test)]
mod tests;
