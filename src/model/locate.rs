//! Finds a model's files from a path or a name.
//!
//! A model is a directory in the Hugging Face / MLX layout, or a single GGUF file. A name of the form
//! `org/name` that is no path is looked up in the local Hugging Face cache; nothing is ever downloaded.
//!
//! What [`locate`] returns exists: the config, every shard that the index names, the tokenizer files.
//! Their contents are the business of whoever reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result, Status};

/// The largest index taken: a model of 100,000 tensors has one of some 10 MB.
const MAX_INDEX: u64 = 256 << 20;

/// A model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFiles {
    /// A directory with a config, safetensors and, usually, a tokenizer.
    Directory(ModelDirectory),
    /// One GGUF file, which holds everything.
    Gguf(PathBuf),
}

/// The files of a model directory. Optional ones are `None` where absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDirectory {
    /// The directory.
    pub path: PathBuf,
    /// `config.json`.
    pub config: PathBuf,
    /// The safetensors files that hold the weights, sorted by name; at least one.
    pub shards: Vec<PathBuf>,
    /// Which shard each tensor is in, by `model.safetensors.index.json`; `None` without that file.
    pub index: Option<BTreeMap<String, PathBuf>>,
    /// `tokenizer.json`.
    pub tokenizer: Option<PathBuf>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<PathBuf>,
    /// `generation_config.json`.
    pub generation_config: Option<PathBuf>,
    /// `chat_template.jinja`.
    pub chat_template: Option<PathBuf>,
}

impl ModelFiles {
    /// The directory or file.
    pub fn path(&self) -> &Path {
        match self {
            ModelFiles::Directory(directory) => &directory.path,
            ModelFiles::Gguf(file) => file,
        }
    }
}

/// Finds the model called `name`: a path, or an `org/name` in the Hugging Face cache.
///
/// The cache is `$HF_HUB_CACHE`, else `$HUGGINGFACE_HUB_CACHE`, else `$HF_HOME/hub`, else
/// `$XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`, as in `huggingface_hub`.
///
/// # Errors
/// [`Status::ModelNotFound`] if there is nothing, with the command that downloads an `org/name`;
/// [`Status::ModelInvalid`] if files are missing or the index is damaged; [`Status::ModelUnsupported`]
/// for a file that is not GGUF and weights that are not safetensors; [`Status::Io`].
pub fn locate(name: &str) -> Result<ModelFiles> {
    locate_in(name, hub_cache(|key| std::env::var_os(key)).as_deref())
}

fn locate_in(name: &str, cache: Option<&Path>) -> Result<ModelFiles> {
    if name.is_empty() {
        return Err(Error::new(Status::ModelNotFound, "the model path is empty"));
    }
    let path = Path::new(name);
    match std::fs::metadata(path) {
        Ok(stat) if stat.is_dir() => read_directory(path).map(ModelFiles::Directory),
        Ok(_) => gguf_file(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => match HubName::parse(name) {
            Some(hub) => hub.find(cache).and_then(|p| read_directory(&p)).map(ModelFiles::Directory),
            None => Err(Error::new(Status::ModelNotFound, format!("{name}: no such file or directory"))),
        },
        // `a.gguf/b`, a name with a NUL, a folder that may not be entered.
        Err(e) => Err(Error::new(Status::ModelNotFound, format!("{name}: {e}"))),
    }
}

fn gguf_file(path: &Path) -> Result<ModelFiles> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
        return Ok(ModelFiles::Gguf(path.to_owned()));
    }
    Err(Error::unsupported(format!(
        "{}: a model is a directory with config.json, or a file that ends in .gguf",
        path.display()
    )))
}

fn read_directory(path: &Path) -> Result<ModelDirectory> {
    let optional = |name: &str| Some(path.join(name)).filter(|p| p.is_file());
    let Some(config) = optional("config.json") else {
        return Err(Error::model(format!("{}: has no config.json{}", path.display(), hint(path))));
    };
    let (shards, index) = match optional("model.safetensors.index.json") {
        Some(file) => {
            let index = read_index(path, &file)?;
            let shards: BTreeSet<&PathBuf> = index.values().collect();
            (shards.into_iter().cloned().collect(), Some(index))
        }
        None => (find_shards(path)?, None),
    };
    Ok(ModelDirectory {
        path: path.to_owned(),
        config,
        shards,
        index,
        tokenizer: optional("tokenizer.json"),
        tokenizer_config: optional("tokenizer_config.json"),
        generation_config: optional("generation_config.json"),
        chat_template: optional("chat_template.jinja"),
    })
}

/// Says so where the directory holds GGUF files, for people who pass the folder.
fn hint(path: &Path) -> String {
    match files_ending(path, "gguf").unwrap_or_default().first() {
        Some(file) => format!("; to load the GGUF file in it, pass {}", file.display()),
        None => String::new(),
    }
}

/// `model.safetensors` alone if it is there, else every safetensors file of the directory.
fn find_shards(path: &Path) -> Result<Vec<PathBuf>> {
    let single = path.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let shards = files_ending(path, "safetensors")?;
    if !shards.is_empty() {
        return Ok(shards);
    }
    for kind in ["bin", "pth", "pt", "npz"] {
        if let Some(file) = files_ending(path, kind)?.first() {
            let message = format!("{}: weights must be safetensors or GGUF", file.display());
            return Err(Error::unsupported(message));
        }
    }
    Err(Error::model(format!("{}: has no *.safetensors", path.display())))
}

/// The regular files in `path` with this extension, sorted by name.
fn files_ending(path: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let io = |e: std::io::Error| Error::new(Status::Io, format!("{}: {e}", path.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        let hidden = file.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if !hidden && file.extension() == Some(OsStr::new(extension)) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads the index; every shard it names is a plain name in `path` and exists.
fn read_index(path: &Path, file: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let within = |e: Error| e.within(file.display());
    let size = file.metadata().map_err(|e| within(Error::new(Status::Io, e.to_string())))?.len();
    if size > MAX_INDEX {
        return Err(within(Error::model(format!("has {size} bytes, more than {MAX_INDEX}"))));
    }
    let bytes = std::fs::read(file).map_err(|e| within(Error::new(Status::Io, e.to_string())))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|e| within(Error::model(e.to_string())))?;
    if index.weight_map.is_empty() {
        return Err(within(Error::model("its weight_map names no tensor")));
    }
    let mut seen = BTreeSet::new();
    let mut map = BTreeMap::new();
    for (tensor, shard) in index.weight_map {
        let mut parts = Path::new(&shard).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(within(Error::model(format!(
                "'{tensor}' is said to be in '{shard}', which is no plain file name"
            ))));
        }
        let place = path.join(&shard);
        if seen.insert(place.clone()) && !place.is_file() {
            return Err(within(Error::model(format!("shard '{shard}' ('{tensor}') is missing"))));
        }
        map.insert(tensor, place);
    }
    Ok(map)
}

/// A repository on the Hugging Face hub.
struct HubName<'a> {
    org: &'a str,
    name: &'a str,
}

impl<'a> HubName<'a> {
    /// `org/name`, by the hub's own rule for names; anything else is a path.
    fn parse(text: &'a str) -> Option<Self> {
        let part = |s: &str| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            !s.is_empty()
                && s.bytes().all(inner)
                && !s.starts_with(['.', '-'])
                && !s.ends_with(['.', '-'])
                && !s.contains("..")
                && !s.contains("--")
        };
        let (org, name) = text.split_once('/')?;
        // `models/x.gguf` is a path with a typing error, not a repository.
        let file = Path::new(name).extension().is_some_and(|e| e == "gguf" || e == "safetensors");
        (part(org) && part(name) && !file).then_some(HubName { org, name })
    }

    /// The snapshot directory of the `main` revision in `cache`.
    fn find(&self, cache: Option<&Path>) -> Result<PathBuf> {
        let HubName { org, name } = self;
        let not_found = |what: String| {
            let message =
                format!("{org}/{name}: no such path, and {what}; to download it: hf download {org}/{name}");
            Error::new(Status::ModelNotFound, message)
        };
        let Some(cache) = cache else {
            return Err(not_found("there is no Hugging Face cache (HOME is not set)".into()));
        };
        let repository = cache.join(format!("models--{org}--{name}"));
        let revision = match std::fs::read_to_string(repository.join("refs/main")) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => return Err(not_found(format!("it is not in {}", cache.display()))),
        };
        let snapshot = repository.join("snapshots").join(&revision);
        let plain = !revision.is_empty() && revision.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain || !snapshot.join("config.json").is_file() {
            return Err(not_found(format!("its snapshot in {} is incomplete", repository.display())));
        }
        Ok(snapshot)
    }
}

/// Where the Hugging Face cache is, given the environment.
fn hub_cache(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let set = |key: &str| env(key).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || set("HOME").or_else(|| set("USERPROFILE"));
    let hub = set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| set("HF_HOME").map(|p| p.join("hub")))
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("huggingface/hub")))
        .or_else(|| home().map(|p| p.join(".cache/huggingface/hub")))?;
    match hub.strip_prefix("~") {
        Ok(rest) => home().map(|p| p.join(rest)),
        Err(_) => Some(hub),
    }
}

#[cfg(test)]
mod tests;
