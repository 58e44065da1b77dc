//! What each token is in text, worked out once per model.
//!
//! A tokenizer's decoder is a chain of steps over the strings of all tokens. Most steps look at one
//! token at a time, so they are done here, once per vocabulary entry, by the `tokenizers` crate itself.
//! What remains for decoding is how neighbours join ([`Joining`]), which needs a few bytes of state.

use rustc_hash::FxHashSet;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::{Decoder, Tokenizer as Inner};

use crate::error::{Error, Result, Status};

/// The highest token id taken, so that a damaged file cannot ask for a huge table.
const MAX_TOKENS: usize = 1 << 22;

/// How the pieces of neighbouring tokens become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joining {
    /// Pieces are bytes; what is not UTF-8 in their concatenation becomes U+FFFD, as many times as
    /// [`String::from_utf8_lossy`] has it. (Byte-level vocabularies.)
    Bytes,
    /// Pieces are text, except for byte tokens: a run of these is text if it is UTF-8 as a whole, and
    /// one U+FFFD for each byte otherwise. (SentencePiece vocabularies with byte fall-back.)
    Runs,
}

/// The vocabulary as decoding sees it.
#[derive(Debug)]
pub(super) struct TokenTable {
    /// Every token's piece at any place but the first.
    pieces: Pieces,
    /// Every token's piece at the first place, where that differs.
    first_pieces: Option<Pieces>,
    kinds: Vec<Kind>,
    pub(super) joining: Joining,
    /// Up to so many of this character are dropped from the start of the text.
    pub(super) strip: Option<(char, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// No token has this id.
    Absent,
    Normal,
    Special,
    /// A byte of [`Joining::Runs`].
    Byte,
    SpecialByte,
}

/// One token's place in the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) bytes: &'a [u8],
    /// Whether it is a byte token of [`Joining::Runs`].
    pub(super) is_byte: bool,
    pub(super) is_special: bool,
}

/// Byte strings in two allocations.
#[derive(Debug, Default)]
struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Pieces {
    fn push(&mut self, piece: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(piece);
        let end = u32::try_from(self.bytes.len());
        self.ends.push(end.map_err(|_| invalid("the vocabulary's text is larger than 4 GiB"))?);
        Ok(())
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(&self.bytes[start..end])
    }
}

impl TokenTable {
    /// Builds the table of a tokenizer.
    ///
    /// # Errors
    /// [`Status::ModelUnsupported`] for a decoder that cannot be streamed, [`Status::TokenizerInvalid`]
    /// for ids beyond any vocabulary.
    pub(super) fn new(tokenizer: &Inner) -> Result<Self> {
        let plan = Plan::new(tokenizer.get_decoder())?;
        let ids: FxHashSet<u32> = tokenizer.get_vocab(true).into_values().collect();
        let len = ids.iter().max().map_or(0, |&id| id as usize + 1);
        if len > MAX_TOKENS {
            return Err(invalid(format!("a token has id {}, beyond any vocabulary", len - 1)));
        }
        let mut table = TokenTable {
            pieces: Pieces::default(),
            first_pieces: plan.first_differs().then(Pieces::default),
            kinds: Vec::with_capacity(len),
            joining: plan.joining,
            strip: plan.strip,
        };
        for id in 0..len as u32 {
            let token = tokenizer.id_to_token(id);
            let special =
                token.as_deref().is_some_and(|t| tokenizer.get_added_vocabulary().is_special_token(t));
            table.push(&plan, token, special)?;
        }
        Ok(table)
    }

    fn push(&mut self, plan: &Plan<'_>, token: Option<String>, special: bool) -> Result<()> {
        let Some(token) = token else {
            self.kinds.push(Kind::Absent);
            self.pieces.push(&[])?;
            return self.first_pieces.as_mut().map_or(Ok(()), |first| first.push(&[]));
        };
        let piece = plan.piece(token.clone(), false)?;
        self.kinds.push(match (&piece, special) {
            (Piece::Bytes(_), false) => Kind::Normal,
            (Piece::Bytes(_), true) => Kind::Special,
            (Piece::Byte(_), false) => Kind::Byte,
            (Piece::Byte(_), true) => Kind::SpecialByte,
        });
        self.pieces.push(piece.as_bytes())?;
        match &mut self.first_pieces {
            Some(first) => first.push(plan.piece(token, true)?.as_bytes()),
            None => Ok(()),
        }
    }

    /// The token with this id, at the first place of the text or a later one.
    #[inline]
    pub(super) fn get(&self, id: u32, first: bool) -> Option<Entry<'_>> {
        let index = id as usize;
        let kind = *self.kinds.get(index)?;
        if kind == Kind::Absent {
            return None;
        }
        let pieces = match &self.first_pieces {
            Some(pieces) if first => pieces,
            _ => &self.pieces,
        };
        Some(Entry {
            bytes: pieces.get(index)?,
            is_byte: matches!(kind, Kind::Byte | Kind::SpecialByte),
            is_special: matches!(kind, Kind::Special | Kind::SpecialByte),
        })
    }

    /// One more than the highest id.
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }
}

enum Piece {
    Bytes(Vec<u8>),
    Byte(u8),
}

impl Piece {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Byte(byte) => std::slice::from_ref(byte),
        }
    }
}

/// What a decoder does, taken apart: steps for each token alone, then one that joins.
struct Plan<'a> {
    /// Done to each token alone, in this order.
    each: Vec<&'a DecoderWrapper>,
    main: Main<'a>,
    joining: Joining,
    strip: Option<(char, usize)>,
}

/// The step that looks beyond one token.
enum Main<'a> {
    /// None: tokens follow each other.
    Concatenate,
    /// No decoder at all: spaces between tokens.
    Spaces,
    /// Treats the first token of a text and all later ones differently.
    ByPlace(&'a DecoderWrapper),
    /// Characters stand for bytes.
    ByteLevel,
    /// Tokens like `<0x0A>` stand for bytes.
    ByteFallback,
}

impl<'a> Plan<'a> {
    fn new(decoder: Option<&'a DecoderWrapper>) -> Result<Self> {
        let mut plan = Plan { each: vec![], main: Main::Concatenate, joining: Joining::Runs, strip: None };
        let Some(decoder) = decoder else {
            plan.main = Main::Spaces;
            return Ok(plan);
        };
        let mut steps = Vec::new();
        flatten(decoder, &mut steps);
        let mut steps = steps.into_iter().peekable();
        // These look at one token at a time until tokens have been fused. A `Strip` from the end of
        // an empty token is out of bounds in the crate.
        while let Some(step) = steps.next_if(|s| match s {
            DecoderWrapper::Replace(_) => true,
            DecoderWrapper::Strip(strip) => strip.stop == 0,
            _ => false,
        }) {
            plan.each.push(step);
        }
        match steps.next_if(|s| {
            use DecoderWrapper::{ByteFallback, ByteLevel, Metaspace, WordPiece};
            matches!(s, ByteLevel(_) | ByteFallback(_) | Metaspace(_) | WordPiece(_))
        }) {
            Some(DecoderWrapper::ByteLevel(_)) => {
                plan.main = Main::ByteLevel;
                plan.joining = Joining::Bytes;
            }
            Some(DecoderWrapper::ByteFallback(_)) => plan.main = Main::ByteFallback,
            Some(step) => plan.main = Main::ByPlace(step),
            None => {}
        }
        // `ByteLevel` gives one string for all tokens; the others need a `Fuse` for that.
        let fuse = steps.next_if(|s| matches!(s, DecoderWrapper::Fuse(_)));
        let fused = fuse.is_some() || plan.joining == Joining::Bytes;
        if let Some(DecoderWrapper::Strip(strip)) =
            steps.next_if(|s| fused && matches!(s, DecoderWrapper::Strip(strip) if strip.stop == 0))
        {
            plan.strip = Some((strip.content, strip.start));
        }
        match steps.next() {
            None => Ok(plan),
            Some(step) => Err(Error::unsupported(format!(
                "the decoder has a step '{}' that cannot be streamed, here or at all",
                name(step)
            ))),
        }
    }

    fn first_differs(&self) -> bool {
        matches!(self.main, Main::Spaces | Main::ByPlace(_))
    }

    fn piece(&self, mut token: String, first: bool) -> Result<Piece> {
        for step in &self.each {
            token = only(step.decode_chain(vec![token]))?;
        }
        let text = match &self.main {
            Main::Concatenate => token,
            Main::Spaces if first => token,
            Main::Spaces => format!(" {token}"),
            Main::ByPlace(step) if first => only(step.decode_chain(vec![token]))?,
            Main::ByPlace(step) => {
                let mut two = step.decode_chain(vec![String::new(), token]).map_err(decoder_error)?;
                two.pop().ok_or_else(|| decoder_error("no output".into()))?
            }
            Main::ByteLevel => return Ok(Piece::Bytes(byte_level(&token))),
            Main::ByteFallback => match byte_token(&token) {
                Some(byte) => return Ok(Piece::Byte(byte)),
                None => token,
            },
        };
        Ok(Piece::Bytes(text.into_bytes()))
    }
}

/// The steps of nested sequences, in order.
fn flatten<'a>(decoder: &'a DecoderWrapper, steps: &mut Vec<&'a DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().for_each(|step| flatten(step, steps));
        }
        step => steps.push(step),
    }
}

fn name(step: &DecoderWrapper) -> &'static str {
    match step {
        DecoderWrapper::BPE(_) => "BPEDecoder",
        DecoderWrapper::ByteLevel(_) => "ByteLevel",
        DecoderWrapper::WordPiece(_) => "WordPiece",
        DecoderWrapper::Metaspace(_) => "Metaspace",
        DecoderWrapper::CTC(_) => "CTC",
        DecoderWrapper::Sequence(_) => "Sequence",
        DecoderWrapper::Replace(_) => "Replace",
        DecoderWrapper::Fuse(_) => "Fuse",
        DecoderWrapper::Strip(_) => "Strip",
        DecoderWrapper::ByteFallback(_) => "ByteFallback",
    }
}

/// The one output of a step over one token.
fn only(output: tokenizers::Result<Vec<String>>) -> Result<String> {
    output.map_err(decoder_error)?.pop().ok_or_else(|| decoder_error("no output".into()))
}

fn decoder_error(e: tokenizers::Error) -> Error {
    invalid(format!("the decoder fails: {e}"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Status::TokenizerInvalid, message)
}

/// The bytes that a byte-level token stands for; a token with any other character (an added one)
/// stands for itself.
fn byte_level(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of_char).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// GPT-2's map, by the character's code: printable Latin-1 characters stand for their own code, and
/// those from U+0100 on, in order, for the other 68 bytes.
const BYTES_OF_CHARS: [Option<u8>; 0x144] = {
    let mut map = [None; 0x144];
    let (mut byte, mut next) = (0, 0x100);
    while byte < 0x100 {
        if matches!(byte as u8, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            map[byte] = Some(byte as u8);
        } else {
            map[next] = Some(byte as u8);
            next += 1;
        }
        byte += 1;
    }
    map
};

fn byte_of_char(c: char) -> Option<u8> {
    BYTES_OF_CHARS.get(c as usize).copied().flatten()
}

/// The byte that a token like `<0x0A>` stands for.
fn byte_token(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    // By length in bytes, and with a sign allowed, as the crate has it.
    if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_of_bytes_is_the_crates() {
        let chars = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        assert_eq!(chars.len(), 256);
        let bytes: std::collections::BTreeSet<u8> = chars.into_iter().filter_map(byte_of_char).collect();
        assert_eq!(bytes.len(), 256);
        assert_eq!(byte_level("Ġa"), b" a");
        assert_eq!(byte_level("Ċ"), b"\n");
        assert_eq!(byte_level("<｜x｜>Ġ"), "<｜x｜>Ġ".as_bytes());
        assert_eq!(byte_of_char('\u{143}'), Some(0xad));
        assert_eq!(byte_of_char('\u{144}'), None);
    }

    #[test]
    fn byte_tokens() {
        assert_eq!(byte_token("<0x0A>"), Some(10));
        assert_eq!(byte_token("<0xff>"), Some(255));
        for no in ["<0x0>", "<0x0AB>", "<0xé>", "0x0A", "<0xGG>", "a<0x0A>", ""] {
            assert_eq!(byte_token(no), None, "{no}");
        }
    }
}
