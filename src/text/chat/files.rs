//! Where a model's files keep chat templates, and the special tokens that these speak of.

use std::path::Path;

use serde_json::Value;

use super::Source;
use crate::error::{Error, Result, Status};
use crate::model::gguf::Metadata;
use crate::model::locate::ModelDirectory;

/// The largest template taken; those of models have some kilobytes.
const MAX_TEMPLATE: usize = 1 << 20;
/// The largest `tokenizer_config.json` taken: one lists a vocabulary's special tokens, a megabyte of them.
const MAX_CONFIG: u64 = 64 << 20;

const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What is found: templates, and special tokens by their role.
type Found = (Vec<Source>, Vec<(String, String)>);

/// A directory's templates: `chat_template.jinja`, else what `tokenizer_config.json` has.
pub(super) fn of_directory(directory: &ModelDirectory) -> Result<Found> {
    let mut sources = Vec::new();
    let mut special_tokens = Vec::new();
    if let Some(path) = &directory.tokenizer_config {
        let invalid = |e: String| Error::new(Status::TokenizerInvalid, format!("{}: {e}", path.display()));
        let config: Value =
            serde_json::from_str(&read(path, MAX_CONFIG)?).map_err(|e| invalid(e.to_string()))?;
        sources = of_config(path, &config["chat_template"])?;
        special_tokens = ROLES
            .iter()
            .filter_map(|role| {
                let token = config[*role].as_str().or_else(|| config[*role]["content"].as_str())?;
                Some(((*role).to_owned(), token.to_owned()))
            })
            .collect();
    }
    if let Some(path) = &directory.chat_template {
        let place = path.display().to_string();
        sources.retain(|source| source.purpose != "default");
        sources.push(Source { purpose: "default".into(), place, text: read(path, MAX_TEMPLATE as u64)? });
    }
    sources.iter().try_for_each(check_size)?;
    Ok((sources, special_tokens))
}

/// One template, or a list of them with names.
fn of_config(path: &Path, value: &Value) -> Result<Vec<Source>> {
    let place = |field: String| format!("{}: {field}", path.display());
    let source = |purpose: &str, field: String, text: &str| Source {
        purpose: purpose.to_owned(),
        place: place(field),
        text: text.to_owned(),
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![source("default", "chat_template".into(), text)]),
        Value::Array(list) => {
            let named = list.iter().enumerate().map(|(i, entry)| {
                let field = format!("chat_template[{i}]");
                match (entry["name"].as_str(), entry["template"].as_str()) {
                    (Some(name), Some(text)) => Ok(source(name, field, text)),
                    _ => Err(Error::new(
                        Status::TokenizerInvalid,
                        format!("{} has no 'name' and 'template'", place(field)),
                    )),
                }
            });
            named.collect()
        }
        _ => Err(Error::new(
            Status::TokenizerInvalid,
            format!("{} is neither a string nor a list", place("chat_template".into())),
        )),
    }
}

/// A GGUF file's templates: `tokenizer.chat_template`, and with a name behind it the one for tools.
pub(super) fn of_gguf(metadata: &Metadata) -> Result<Found> {
    const KEY: &str = "tokenizer.chat_template";
    let mut sources = Vec::new();
    for (purpose, key) in [("default", KEY.to_owned()), ("tool_use", format!("{KEY}.tool_use"))] {
        if let Some(text) = metadata.find_str(&key)? {
            let place = format!("{}: {key}", metadata.file());
            sources.push(Source { purpose: purpose.into(), place, text: text.to_owned() });
        }
    }
    sources.iter().try_for_each(check_size)?;
    let tokens = metadata.find_strings("tokenizer.ggml.tokens")?;
    let mut special_tokens = Vec::new();
    for (role, key) in
        [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")]
    {
        let id = metadata.find_u64(&format!("tokenizer.ggml.{key}_token_id"))?;
        let token = id.and_then(|id| tokens?.get(usize::try_from(id).ok()?));
        special_tokens.extend(token.map(|token| (role.to_owned(), token.to_owned())));
    }
    Ok((sources, special_tokens))
}

fn check_size(source: &Source) -> Result<()> {
    let len = source.text.len();
    if len <= MAX_TEMPLATE {
        return Ok(());
    }
    let message = format!("{} has {len} bytes, more than {MAX_TEMPLATE}", source.place);
    Err(Error::new(Status::TemplateError, message))
}

fn read(path: &Path, most: u64) -> Result<String> {
    let io = |e: std::io::Error| Error::new(Status::Io, format!("{}: {e}", path.display()));
    let size = path.metadata().map_err(io)?.len();
    if size > most {
        let message = format!("{} has {size} bytes, more than {most}", path.display());
        return Err(Error::new(Status::TokenizerInvalid, message));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    String::from_utf8(bytes)
        .map_err(|e| Error::new(Status::TokenizerInvalid, format!("{}: not UTF-8: {e}", path.display())))
}
