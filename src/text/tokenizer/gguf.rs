//! A tokenizer from GGUF metadata.
//!
//! Two kinds of vocabulary: `gpt2` (byte-level BPE, text split by the patterns that
//! `tokenizer.ggml.pre` names) and `llama` (SentencePiece BPE: whole stretches of text, spaces as `▁`,
//! merges by the pieces' scores, bytes for what the vocabulary lacks). Every token that is marked
//! control or user-defined is matched in a text before anything else.

use rustc_hash::FxHashMap;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, BpeBuilder, Merges, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer as Inner};

use super::{SpecialTokens, contain};
use crate::error::{Error, Result, Status};
use crate::model::gguf::{Metadata, StringList};
use crate::text::pre_tokenizers;

/// `tokenizer.ggml.token_type`.
mod kind {
    pub const UNKNOWN: i32 = 2;
    pub const CONTROL: i32 = 3;
    pub const USER_DEFINED: i32 = 4;
    pub const UNUSED: i32 = 5;
    pub const BYTE: i32 = 6;
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const SPACE: char = '▁';

/// Builds the tokenizer; `None` if the metadata has none. Errors name the key.
pub(super) fn build(metadata: &Metadata) -> Result<Option<(Inner, SpecialTokens)>> {
    let model = match metadata.find_str("tokenizer.ggml.model")? {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some(model) => model,
    };
    let vocabulary = Vocabulary::read(metadata)?;
    let (mut inner, add_bos) = match model {
        "gpt2" => byte_level(metadata, &vocabulary)?,
        "llama" => sentence_piece(metadata, &vocabulary)?,
        other => {
            let why = "a vocabulary that is not supported (gpt2 and llama are)";
            return Err(unsupported(metadata, "tokenizer.ggml.model", other, why));
        }
    };
    let added = vocabulary.added();
    contain(|| inner.add_tokens(added))?.map_err(|e| invalid(metadata, TOKENS, e))?;
    Ok(Some((inner, special_tokens(metadata, vocabulary.tokens.len(), add_bos)?)))
}

struct Vocabulary<'a> {
    metadata: &'a Metadata,
    tokens: &'a StringList,
    kinds: Option<&'a [i32]>,
    ids: FxHashMap<&'a str, u32>,
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &'a Metadata) -> Result<Self> {
        let tokens = metadata.strings(TOKENS)?;
        let kinds = metadata.find_i32s(TOKEN_TYPE)?;
        if let Some(kinds) = kinds.filter(|kinds| kinds.len() != tokens.len()) {
            let message = format!("has {} entries for {} tokens", kinds.len(), tokens.len());
            return Err(invalid(metadata, TOKEN_TYPE, message));
        }
        let mut ids = FxHashMap::default();
        // An empty token is a hole in the vocabulary: no text gives it, and it gives none.
        for (id, token) in (0u32..).zip(tokens.iter()).filter(|(_, token)| !token.is_empty()) {
            if let Some(first) = ids.insert(token, id) {
                return Err(invalid(metadata, TOKENS, format!("tokens {first} and {id} are both '{token}'")));
            }
        }
        Ok(Vocabulary { metadata, tokens, kinds, ids })
    }

    fn kind(&self, id: u32) -> i32 {
        self.kinds.and_then(|kinds| kinds.get(id as usize)).copied().unwrap_or(1)
    }

    /// Token to id, as the crate wants it.
    fn map(&self) -> Vocab {
        self.ids.iter().map(|(token, id)| ((*token).to_owned(), *id)).collect()
    }

    /// The tokens that are matched whole in a text.
    fn added(&self) -> Vec<AddedToken> {
        (0u32..)
            .zip(self.tokens.iter())
            .filter(|(_, token)| !token.is_empty())
            .filter_map(|(id, token)| match self.kind(id) {
                kind::CONTROL | kind::UNKNOWN => Some(AddedToken::from(token, true)),
                kind::USER_DEFINED => Some(AddedToken::from(token, false).normalized(false)),
                _ => None,
            })
            .collect()
    }
}

fn byte_level(metadata: &Metadata, vocabulary: &Vocabulary<'_>) -> Result<(Inner, bool)> {
    let name = metadata.find_str("tokenizer.ggml.pre")?.unwrap_or("default");
    let Some(pre) = pre_tokenizers::by_name(name) else {
        let why = "a way of splitting text that is not known";
        return Err(unsupported(metadata, "tokenizer.ggml.pre", name, why));
    };
    let merges = read_merges(metadata, metadata.strings(MERGES)?)?;
    let model = bpe(vocabulary, merges, |builder| builder.ignore_merges(pre.ignore_merges))?;
    let mut inner = Inner::new(model);
    if pre.nfc {
        inner.with_normalizer(Some(NFC)).map_err(|e| invalid(metadata, "tokenizer.ggml.pre", e))?;
    }
    let mut steps = Vec::new();
    for pattern in pre.patterns {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map_err(|e| Error::internal(format!("the pattern of pre-tokenizer '{name}': {e}")))?;
        steps.push(PreTokenizerWrapper::Split(split));
    }
    let bytes = ByteLevel::new(false, false, false);
    steps.push(PreTokenizerWrapper::ByteLevel(bytes));
    inner.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
    inner.with_decoder(Some(bytes));
    Ok((inner, pre.add_bos))
}

fn sentence_piece(metadata: &Metadata, vocabulary: &Vocabulary<'_>) -> Result<(Inner, bool)> {
    let merges = match metadata.find_strings(MERGES)? {
        Some(merges) => read_merges(metadata, merges)?,
        None => merges_by_score(vocabulary, metadata.f32s(SCORES)?)?,
    };
    let unknown = metadata.find_u64("tokenizer.ggml.unknown_token_id")?.unwrap_or(0);
    let unknown = usize::try_from(unknown).ok().and_then(|id| vocabulary.tokens.get(id));
    let model = bpe(vocabulary, merges, |builder| {
        let builder = builder.byte_fallback(true).fuse_unk(true);
        match unknown {
            Some(token) => builder.unk_token(token.to_owned()),
            None => builder,
        }
    })?;
    let mut inner = Inner::new(model);
    let fail = |e: tokenizers::Error| Error::internal(format!("building the SentencePiece steps: {e}"));
    let space = SPACE.to_string();
    let to_space = NormalizerWrapper::Replace(Replace::new(" ", space.as_str()).map_err(fail)?);
    let from_space = DecoderWrapper::Replace(Replace::new(space.as_str(), " ").map_err(fail)?);
    let mut decoders = vec![
        from_space,
        DecoderWrapper::ByteFallback(ByteFallback::new()),
        DecoderWrapper::Fuse(Fuse::new()),
    ];
    let mut normalizers = vec![to_space];
    if metadata.find_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        normalizers.insert(0, NormalizerWrapper::Prepend(Prepend::new(space)));
        decoders.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
    }
    inner.with_normalizer(Some(Normalizers::new(normalizers))).map_err(fail)?;
    inner.with_decoder(Some(Decoders::new(decoders)));
    Ok((inner, true))
}

/// The byte-pair model. Merges are checked here, where the crate would panic on some.
fn bpe(
    vocabulary: &Vocabulary<'_>,
    merges: Merges,
    configure: impl FnOnce(BpeBuilder) -> BpeBuilder,
) -> Result<BPE> {
    let mut whole = String::new();
    for (left, right) in &merges {
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        if let Some(part) =
            [left, right, &whole].into_iter().find(|part| !vocabulary.ids.contains_key(part.as_str()))
        {
            return Err(invalid(
                vocabulary.metadata,
                MERGES,
                format!("the merge '{left} {right}' needs a token '{part}'"),
            ));
        }
    }
    let builder = configure(BPE::builder().vocab_and_merges(vocabulary.map(), merges));
    contain(|| builder.build())?.map_err(|e| invalid(vocabulary.metadata, TOKENS, e))
}

/// Merges as written: two tokens with a space between. A token may begin with a space, as a whole.
fn read_merges(metadata: &Metadata, list: &StringList) -> Result<Merges> {
    let mut merges = Merges::new();
    for (index, merge) in list.iter().enumerate() {
        let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let (left, right) = at.map(|at| (&merge[..at], &merge[at + 1..])).ok_or_else(|| {
            invalid(metadata, MERGES, format!("entry {index}, '{merge}', is no pair of tokens"))
        })?;
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

/// The merges that SentencePiece makes without listing them: any two pieces whose concatenation is a
/// piece, that with the best score first. Equal scores go as in `transformers`: longer left, then
/// longer right pieces first.
fn merges_by_score(vocabulary: &Vocabulary<'_>, scores: &[f32]) -> Result<Merges> {
    if scores.len() != vocabulary.tokens.len() {
        let message = format!("has {} entries for {} tokens", scores.len(), vocabulary.tokens.len());
        return Err(invalid(vocabulary.metadata, SCORES, message));
    }
    struct Merge<'a> {
        score: f32,
        left: &'a str,
        right: &'a str,
        lengths: (usize, usize),
        ids: (u32, u32),
    }
    let mut merges = Vec::new();
    for ((id, token), &score) in (0u32..).zip(vocabulary.tokens.iter()).zip(scores) {
        if matches!(vocabulary.kind(id), kind::UNKNOWN | kind::CONTROL | kind::BYTE | kind::UNUSED) {
            continue;
        }
        let length = token.chars().count();
        for (before, (at, _)) in token.char_indices().enumerate().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(&l), Some(&r)) = (vocabulary.ids.get(left), vocabulary.ids.get(right)) {
                merges.push(Merge { score, left, right, lengths: (before, length - before), ids: (l, r) });
            }
        }
    }
    merges.sort_by(|a, b| {
        let by_score = b.score.total_cmp(&a.score);
        by_score.then(b.lengths.cmp(&a.lengths)).then(a.ids.cmp(&b.ids))
    });
    Ok(merges.into_iter().map(|m| (m.left.to_owned(), m.right.to_owned())).collect())
}

fn special_tokens(metadata: &Metadata, tokens: usize, add_bos: bool) -> Result<SpecialTokens> {
    // Out of range means none, as in llama.cpp: models exist that have it so.
    let id = |key: &str| -> Result<Option<u32>> {
        let id = metadata.find_u64(&format!("tokenizer.ggml.{key}_token_id"))?;
        Ok(id.and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < tokens))
    };
    let mut eos: Vec<u32> = [id("eos")?, id("eot")?, id("eom")?].into_iter().flatten().collect();
    eos.sort_unstable();
    eos.dedup();
    let bos = id("bos")?;
    let add_bos = metadata.find_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos);
    let add_eos = metadata.find_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let suffix = if add_eos { id("eos")? } else { None };
    Ok(SpecialTokens { bos, eos, prefix: bos.filter(|_| add_bos), suffix })
}

fn invalid(metadata: &Metadata, key: &str, e: impl std::fmt::Display) -> Error {
    let message = format!("{}: metadata key '{key}': {e}", metadata.file());
    Error::new(Status::TokenizerInvalid, message)
}

fn unsupported(metadata: &Metadata, key: &str, value: &str, why: &str) -> Error {
    Error::unsupported(format!("{}: metadata key '{key}' is '{value}', {why}", metadata.file()))
}
