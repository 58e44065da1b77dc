//! Text to tokens, on the caller's thread.
//!
//! Promises:
//! - Token ids equal those of the reference, the `tokenizers` library on the model's `tokenizer.json`;
//!   for a GGUF file, on the `tokenizer.json` that it was converted from. (`transformers` 5 sets that
//!   file's rules aside for classes like `LlamaTokenizer`; a text that begins with a space, or follows
//!   a special token, differs there.)
//! - Special tokens written out in a text (`<|im_start|>`) become those tokens, as in the reference.
//! - A [`Tokenizer`] is shared between threads without a lock. (For speed the crate keeps up to 10,000
//!   words per thread and tokenizer, until the thread ends.)
//! - Broken files give [`Status::TokenizerInvalid`] with file and position, also where the
//!   `tokenizers` crate panics on them.

mod files;
mod gguf;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use tokenizers::Tokenizer as Inner;

use super::detokenizer::Detokenizer;
use super::table::TokenTable;
use crate::error::{Error, Result, Status};
use crate::model::gguf::Gguf;
use crate::model::locate::{ModelDirectory, ModelFiles};

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: Inner,
    table: Arc<TokenTable>,
    special: SpecialTokens,
}

/// The ids with a meaning of their own.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct SpecialTokens {
    bos: Option<u32>,
    /// Sorted, without duplicates.
    eos: Vec<u32>,
    /// Put before an encoded text with special tokens, where the inner tokenizer does not do that.
    prefix: Option<u32>,
    /// Put behind it.
    suffix: Option<u32>,
}

impl Tokenizer {
    /// Loads a model's tokenizer; `None` if the model has none.
    ///
    /// # Errors
    /// As [`from_directory`](Self::from_directory) and [`from_gguf`](Self::from_gguf), and those of
    /// [`Gguf::open`].
    pub fn load(files: &ModelFiles) -> Result<Option<Self>> {
        match files {
            ModelFiles::Directory(directory) => Self::from_directory(directory),
            ModelFiles::Gguf(path) => Self::from_gguf(&Gguf::open(path)?),
        }
    }

    /// Loads the tokenizer of a model directory; `None` without a `tokenizer.json`.
    ///
    /// # Errors
    /// See [`from_file`](Self::from_file).
    pub fn from_directory(directory: &ModelDirectory) -> Result<Option<Self>> {
        directory.tokenizer.as_deref().map(Self::from_file).transpose()
    }

    /// Loads a `tokenizer.json`, with the `tokenizer_config.json`, `generation_config.json` and
    /// `config.json` beside it where they exist.
    ///
    /// End of text is any of these, as in mlx-lm: the `eos_token_id` (one or a list) of
    /// `generation_config.json`, else of `config.json`; and the `eos_token` of `tokenizer_config.json`.
    /// The beginning is the `bos_token` of `tokenizer_config.json`, else `bos_token_id` in the same order.
    /// Whether a text is encoded with it is for `tokenizer.json` to say: beside it, `add_bos_token` in
    /// `tokenizer_config.json` counts for nothing, as in `transformers`. Tokens that
    /// `tokenizer_config.json` gives a role are special, if the vocabulary has them.
    ///
    /// # Errors
    /// [`Status::TokenizerInvalid`] or [`Status::ModelInvalid`] for a malformed file, with its name and
    /// the position; [`Status::ModelUnsupported`] for a decoder that cannot be streamed;
    /// [`Status::Io`].
    pub fn from_file(tokenizer_json: &Path) -> Result<Self> {
        let (inner, special) = files::load(tokenizer_json)?;
        Self::new(inner, special).map_err(|e| e.within(tokenizer_json.display()))
    }

    /// Builds the tokenizer that a GGUF file's metadata describes; `None` if it describes none.
    ///
    /// End of text is any of `eos_token_id`, `eot_token_id` and `eom_token_id`.
    ///
    /// # Errors
    /// [`Status::ModelUnsupported`] for a kind of vocabulary (`tokenizer.ggml.model`) or pre-tokenizer
    /// (`tokenizer.ggml.pre`) that is not known, [`Status::TokenizerInvalid`] or
    /// [`Status::ModelInvalid`] for inconsistent metadata, naming file and key.
    pub fn from_gguf(file: &Gguf) -> Result<Option<Self>> {
        let within = |e: Error| e.within(file.path().display());
        let Some((inner, special)) = gguf::build(file.metadata())? else { return Ok(None) };
        Self::new(inner, special).map(Some).map_err(within)
    }

    fn new(inner: Inner, special: SpecialTokens) -> Result<Self> {
        let table = Arc::new(contain(|| TokenTable::new(&inner))??);
        Ok(Tokenizer { inner, table, special })
    }

    /// The ids of a text. With `add_special`, also the tokens that the model wants around a text (BOS).
    ///
    /// Time and memory are linear in the text but for a byte-pair merge of a long stretch without a
    /// break (n log n).
    ///
    /// # Errors
    /// [`Status::TokenizerInvalid`] if the tokenizer's own rules fail on this text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = contain(|| self.inner.encode_fast(text, add_special))?
            .map_err(|e| Error::new(Status::TokenizerInvalid, format!("encoding the text: {e}")))?;
        let ids = encoding.get_ids();
        if !add_special {
            return Ok(ids.to_vec());
        }
        let SpecialTokens { prefix, suffix, .. } = self.special;
        Ok(prefix.into_iter().chain(ids.iter().copied()).chain(suffix).collect())
    }

    /// The text of a token sequence; what is not UTF-8 becomes U+FFFD. With `skip_special` special
    /// tokens leave no text. An id that the vocabulary does not have leaves none either.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut text = String::new();
        let mut detokenizer = Detokenizer::new(self, skip_special);
        ids.iter().for_each(|&id| detokenizer.push(id, &mut text));
        detokenizer.finish(&mut text);
        text
    }

    /// The tokens that end a text, sorted.
    pub fn eos_ids(&self) -> &[u32] {
        &self.special.eos
    }

    /// The token that begins a text, if the model has one.
    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos
    }

    /// One more than the highest id, added tokens included. (A model may have more rows, as padding.)
    pub fn vocab_size(&self) -> usize {
        self.table.len()
    }

    /// The id of a token by its text in the vocabulary, as in `<|im_end|>` or `Ġthe`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The bytes that a token adds to a text, beyond its start; `None` for an id without a token. They
    /// need not be UTF-8 alone.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.table.get(id, false).map(|entry| entry.bytes)
    }

    /// Whether a token is special: a mark of structure rather than text.
    pub fn is_special(&self, id: u32) -> bool {
        self.table.get(id, false).is_some_and(|entry| entry.is_special)
    }

    /// What the `tokenizers` crate makes of a sequence: as [`Tokenizer::decode`], many times slower.
    pub fn reference_decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        contain(|| self.inner.decode(ids, skip_special))?
            .map_err(|e| Error::internal(format!("the tokenizer's own decoder: {e}")))
    }

    pub(super) fn table(&self) -> &Arc<TokenTable> {
        &self.table
    }
}

/// Runs code of the `tokenizers` crate: a panic there becomes an error.
fn contain<T>(code: impl FnOnce() -> T) -> Result<T> {
    // What the code can have left half done is dropped with it, or is a cache per thread.
    crate::panic::catch(|| Ok(code())).map_err(|panic| {
        Error::new(Status::TokenizerInvalid, format!("the tokenizer cannot be used: {}", panic.message()))
    })
}
