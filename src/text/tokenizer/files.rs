//! A tokenizer from the files of a model directory.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer as Inner};

use super::{SpecialTokens, contain};
use crate::error::{Error, Result, Status};

/// The largest file taken: a vocabulary of 262,144 tokens is some 35 MB.
const MAX_FILE: u64 = 1 << 30;

/// Reads `tokenizer.json` at `path` and the files beside it.
pub(super) fn load(path: &Path) -> Result<(Inner, SpecialTokens)> {
    let invalid = |e: String| Error::new(Status::TokenizerInvalid, format!("{}: {e}", path.display()));
    let bytes = read(path)?.ok_or_else(|| invalid("no such file".into()))?;
    let mut inner = contain(|| Inner::from_bytes(&bytes))
        .map_err(|e| e.within(path.display()))?
        .map_err(|e| invalid(e.to_string()))?;
    // Saved from training; the reference encodes without them too.
    inner.with_padding(None);
    inner.with_truncation(None).map_err(|e| invalid(e.to_string()))?;

    let config_path = path.with_file_name("tokenizer_config.json");
    let config = read_json(&config_path, Status::TokenizerInvalid)?.unwrap_or(Value::Null);
    add_tokens(&mut inner, &config).map_err(|e| e.within(config_path.display()))?;

    let generation = read_json(&path.with_file_name("generation_config.json"), Status::ModelInvalid)?;
    let model = read_json(&path.with_file_name("config.json"), Status::ModelInvalid)?;
    let models = [generation.unwrap_or(Value::Null), model.unwrap_or(Value::Null)];
    let by_models = |key: &str| models.iter().map(|file| ids(&file[key])).find(|ids| !ids.is_empty());
    let named = |key: &str| token_name(&config[key]).and_then(|name| inner.token_to_id(name));

    let mut eos = by_models("eos_token_id").unwrap_or_default();
    eos.extend(named("eos_token"));
    eos.sort_unstable();
    eos.dedup();
    let bos = named("bos_token").or_else(|| by_models("bos_token_id").and_then(|ids| ids.first().copied()));
    Ok((inner, SpecialTokens { bos, eos, prefix: None, suffix: None }))
}

/// Reads a file that may be absent.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let io = |e: std::io::Error| Error::new(Status::Io, format!("{}: {e}", path.display()));
    let size = match path.metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        stat => stat.map_err(io)?.len(),
    };
    if size > MAX_FILE {
        let message = format!("{}: has {size} bytes, more than {MAX_FILE}", path.display());
        return Err(Error::new(Status::TokenizerInvalid, message));
    }
    std::fs::read(path).map(Some).map_err(io)
}

fn read_json(path: &Path, malformed: Status) -> Result<Option<Value>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::new(malformed, format!("{}: {e}", path.display())))?;
    if !value.is_object() {
        return Err(Error::new(malformed, format!("{}: is not a JSON object", path.display())));
    }
    Ok(Some(value))
}

/// One id or a list of them; null, absent or anything else is none.
fn ids(value: &Value) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}

/// A token's text, given as a string or as an object with its `content`.
fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// An added token in `tokenizer_config.json`, with the defaults of Python's `AddedToken`.
#[derive(Deserialize)]
struct TokenEntry {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default = "yes")]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

fn yes() -> bool {
    true
}

/// Adds what `tokenizer_config.json` has beyond `tokenizer.json`: its added tokens, and the special
/// meaning of tokens that it names.
fn add_tokens(inner: &mut Inner, config: &Value) -> Result<()> {
    let invalid = |e: String| Error::new(Status::TokenizerInvalid, e);
    let mut entries = Vec::new();
    if let Some(map) = config["added_tokens_decoder"].as_object() {
        for (id, entry) in map {
            let field = || format!("added_tokens_decoder['{id}']");
            let number: u32 = id.parse().map_err(|_| invalid(format!("{} is not an id", field())))?;
            let entry = TokenEntry::deserialize(entry).map_err(|e| invalid(format!("{}: {e}", field())))?;
            entries.push((number, entry));
        }
    }
    entries.sort_by_key(|(id, _)| *id);
    let mut added = Vec::new();
    for (id, entry) in entries {
        let token = AddedToken {
            content: entry.content,
            single_word: entry.single_word,
            lstrip: entry.lstrip,
            rstrip: entry.rstrip,
            normalized: entry.normalized,
            special: entry.special,
        };
        if inner.get_added_vocabulary().get_added_tokens_decoder().get(&id) != Some(&token) {
            added.push((id, token));
        }
    }
    if !added.is_empty() {
        inner
            .add_tokens(added.iter().map(|(_, token)| token.clone()))
            .map_err(|e| invalid(format!("added_tokens_decoder: {e}")))?;
        for (id, AddedToken { content, .. }) in &added {
            match inner.token_to_id(content) {
                Some(given) if given == *id => {}
                given => {
                    return Err(invalid(format!(
                        "added_tokens_decoder has '{content}' as {id}, tokenizer.json as {given:?}"
                    )));
                }
            }
        }
    }
    let marks: Vec<AddedToken> = named_tokens(config)
        .filter(|name| !inner.get_added_vocabulary().is_special_token(name))
        // A token that the vocabulary lacks would get an id that the model has no row for.
        .filter_map(|name| inner.token_to_id(name).map(|id| (name, id)))
        .map(|(name, id)| {
            let known = inner.get_added_vocabulary().get_added_tokens_decoder().get(&id).cloned();
            let token = known.unwrap_or_else(|| AddedToken::from(name, true));
            AddedToken { special: true, ..token }
        })
        .collect();
    if !marks.is_empty() {
        inner.add_special_tokens(marks).map_err(|e| invalid(format!("special tokens: {e}")))?;
    }
    Ok(())
}

/// Every token that the config gives a role.
fn named_tokens(config: &Value) -> impl Iterator<Item = &str> {
    const ROLES: [&str; 7] =
        ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];
    let single = ROLES.iter().map(|role| &config[*role]);
    let listed = LISTS.iter().flat_map(|list| config[*list].as_array().into_iter().flatten());
    single.chain(listed).filter_map(token_name).filter(|name| !name.is_empty())
}
