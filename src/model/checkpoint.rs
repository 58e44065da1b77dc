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
                Ok(Checkpoint { config, manifest, gguf: None })
            }
            ModelFiles::Gguf(path) => {
                let gguf = Gguf::open(path)?;
                let config = from_gguf::config(&gguf)?;
                let manifest = Manifest::check(&config, from_gguf::tensors(&gguf)?)?;
                Ok(Checkpoint { config, manifest, gguf: Some(gguf) })
            }
        }
    }
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
