//! A model's configuration and weights as they lie on disk, checked against each other.

use std::path::Path;

use super::gguf::Gguf;
use super::locate::ModelFiles;
use super::tensors::{Manifest, TensorIndex};
use super::{ModelConfig, from_gguf};
use crate::error::{Error, Result, Status};

/// The largest `config.json` read.
const MAX_CONFIG: u64 = 16 << 20;

/// A checkpoint whose every tensor is known to be there and to fit.
#[derive(Debug)]
pub struct Checkpoint {
    /// What the model is.
    pub config: ModelConfig,
    /// Where its tensors are.
    pub manifest: Manifest,
    /// The file's header, if it is a GGUF file.
    pub gguf: Option<Gguf>,
    /// The `mock` object of `config.json`, for builds without MLX.
    pub mock: serde_json::Map<String, serde_json::Value>,
}

impl Checkpoint {
    /// Reads the configuration and all headers, and compares them. Loads no weights, needs no MLX.
    ///
    /// Errors: `ModelInvalid` or `ModelUnsupported` naming the file and the field or tensor; `Io`.
    pub fn open(files: &ModelFiles) -> Result<Checkpoint> {
        match files {
            ModelFiles::Directory(directory) => {
                let text = read_text(&directory.config)?;
                let config =
                    ModelConfig::from_json(&text).map_err(|e| e.within(directory.config.display()))?;
                let index = TensorIndex::from_safetensors(&directory.shards)?;
                let manifest = Manifest::check(&config, index)?;
                let mock = mock_object(&text).map_err(|e| e.within(directory.config.display()))?;
                Ok(Checkpoint { config, manifest, gguf: None, mock })
            }
            ModelFiles::Gguf(path) => {
                let gguf = Gguf::open(path)?;
                let config = from_gguf::config(&gguf)?;
                let manifest = Manifest::check(&config, from_gguf::tensors(&gguf)?)?;
                Ok(Checkpoint { config, manifest, gguf: Some(gguf), mock: serde_json::Map::new() })
            }
        }
    }
}

/// The `mock` object of a `config.json`; empty if there is none.
fn mock_object(text: &str) -> Result<serde_json::Map<String, serde_json::Value>> {
    #[derive(serde::Deserialize)]
    struct Root {
        #[serde(default)]
        mock: serde_json::Map<String, serde_json::Value>,
    }
    let text = super::config::without_python_numbers(text);
    let root: Root = serde_json::from_str(&text).map_err(|e| Error::model(format!("field 'mock': {e}")))?;
    Ok(root.mock)
}

fn read_text(path: &Path) -> Result<String> {
    let io = |e: std::io::Error| Error::new(Status::Io, format!("{}: {e}", path.display()));
    let size = std::fs::metadata(path).map_err(io)?.len();
    if size > MAX_CONFIG {
        return Err(Error::model(format!("{}: {size} bytes are too many for a config", path.display())));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    String::from_utf8(bytes).map_err(|_| Error::model(format!("{}: is not UTF-8", path.display())))
}
