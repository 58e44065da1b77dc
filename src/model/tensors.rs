//! Which tensors a checkpoint has, and whether they are the ones its model needs.
//!
//! Promises: decided from file headers alone, before anything is loaded and without MLX; every tensor
//! the model needs is there with its shape and a usable type, and nothing is left over; an error names
//! the file and the tensor.

mod experts;
mod safetensors;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};

pub use experts::ExpertNames;

use super::{ModelConfig, QuantMode, QuantParams};
use crate::error::{Error, Result};

/// How a tensor's elements are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// bfloat16.
    Bf16,
    /// Unsigned 32-bit words: packed quantized elements.
    U32,
    /// Bytes: scales of quantized elements that are 8-bit floats or powers of two.
    U8,
    /// Something no weight is stored as; its name.
    Other(String),
}

impl ElementType {
    fn is_float(&self) -> bool {
        matches!(self, ElementType::F32 | ElementType::F16 | ElementType::Bf16)
    }

    /// Bytes an element takes, for types weights are stored as.
    fn bytes(&self) -> u64 {
        match self {
            ElementType::F32 | ElementType::U32 => 4,
            ElementType::F16 | ElementType::Bf16 => 2,
            ElementType::U8 => 1,
            ElementType::Other(_) => 0,
        }
    }
}

/// One tensor, as its file's header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub element: ElementType,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Which of the checkpoint's files has it.
    pub file: usize,
    /// Where its data begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes its data takes.
    pub bytes: u64,
}

/// Every tensor of a checkpoint, by the name its `safetensors` form has or would have.
#[derive(Debug, Clone, Default)]
pub struct TensorIndex {
    files: Vec<PathBuf>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl TensorIndex {
    /// Reads the headers of `safetensors` files, the shards of one checkpoint.
    ///
    /// Errors: `Io`; `ModelInvalid` naming the file if it is truncated or malformed, or the tensor if
    /// two files have it.
    pub fn from_safetensors(shards: &[PathBuf]) -> Result<TensorIndex> {
        let mut index = TensorIndex::default();
        for shard in shards {
            let file = index.add_file(shard);
            for (name, info) in safetensors::read_header(shard, file)? {
                index.add(name, info)?;
            }
        }
        Ok(index)
    }

    /// Adds a file and returns its number.
    pub(super) fn add_file(&mut self, path: &Path) -> usize {
        self.files.push(path.to_owned());
        self.files.len() - 1
    }

    /// Adds a tensor. Errors if the name is taken.
    pub(super) fn add(&mut self, name: String, info: TensorInfo) -> Result<()> {
        let file = info.file;
        if let Some(earlier) = self.tensors.insert(name.clone(), info) {
            return Err(
                self.error(file, format!("tensor '{name}' is also in {}", self.file_name(earlier.file)))
            );
        }
        Ok(())
    }

    /// The checkpoint's files.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Every tensor with its name, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether the name of some tensor begins so.
    fn has_under(&self, prefix: &str) -> bool {
        let mut from = self.tensors.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    fn file_name(&self, file: usize) -> String {
        self.files.get(file).map_or_else(|| "the checkpoint".into(), |path| path.display().to_string())
    }

    /// An error about one of the files.
    pub(super) fn error(&self, file: usize, message: String) -> Error {
        Error::model(message).within(self.file_name(file))
    }
}

/// A part of a model that has weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A matrix `{module}.weight` `[rows, columns]`, dense or quantized, and perhaps `{module}.bias`
    /// `[rows]`: a linear layer or an embedding.
    Matrix {
        /// The module's name.
        module: String,
        /// Output features, or vocabulary.
        rows: usize,
        /// Input features, or width.
        columns: usize,
        /// Whether it has a bias.
        bias: bool,
    },
    /// One projection of all experts of a layer, each `[rows, columns]`, dense or quantized alike.
    Experts {
        /// What it is called.
        names: ExpertNames,
        /// How many experts.
        experts: usize,
        /// Output features.
        rows: usize,
        /// Input features.
        columns: usize,
    },
    /// A float vector of this (full) name and length.
    Vector {
        /// The tensor's name.
        name: String,
        /// Its length.
        len: usize,
    },
    /// A float tensor of this (full) name in one of several shapes: checkpoints differ in their order of axes.
    Floats {
        /// The tensor's name.
        name: String,
        /// The shapes it may have.
        shapes: Vec<Vec<usize>>,
    },
}

impl Part {
    /// A matrix, of this module.
    pub(super) fn matrix(module: &str, rows: usize, columns: usize, bias: bool) -> Part {
        Part::Matrix { module: module.to_owned(), rows, columns, bias }
    }

    /// The weight of a norm, of this module.
    pub(super) fn norm(module: &str, len: usize) -> Part {
        Part::Vector { name: format!("{module}.weight"), len }
    }
}

/// A checkpoint found complete: what its loader may rely on.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// All tensors, by name.
    pub index: TensorIndex,
    /// The quantized modules.
    pub quantized: BTreeMap<String, QuantParams>,
    /// Whether the output projection is the embedding.
    pub tied: bool,
    /// Bytes of all tensors, as stored.
    pub stored_bytes: u64,
    /// Elements of all matrices and vectors, unpacked.
    pub elements: u64,
}

impl Manifest {
    /// Compares what is there with what the configuration asks for.
    ///
    /// Errors: `ModelInvalid` naming the file and the tensor that is missing, left over, or of the wrong
    /// shape or type.
    pub fn check(config: &ModelConfig, index: TensorIndex) -> Result<Manifest> {
        let tied = config.tie_word_embeddings.unwrap_or_else(|| !index.has("lm_head.weight"));
        let parts = config.architecture.parts(config, tied);
        let mut check = Check { config, index: &index, seen: BTreeSet::new(), stored: 0, elements: 0 };
        let mut quantized = BTreeMap::new();
        for part in &parts {
            match part {
                Part::Vector { name, len } => {
                    check.float(name, &[*len])?;
                    check.elements += *len as u64;
                }
                Part::Floats { name, shapes } => {
                    let stored = index.get(name).and_then(|info| shapes.iter().find(|s| **s == info.shape));
                    let shape = stored.unwrap_or(&shapes[0]);
                    check.float(name, shape)?;
                    check.elements += shape.iter().map(|&n| n as u64).product::<u64>();
                }
                Part::Matrix { module, rows, columns, bias } => {
                    if let Some(params) = check.matrix(module, &[*rows], *columns)? {
                        quantized.insert(module.clone(), params);
                    }
                    check.elements += (*rows * *columns) as u64;
                    if *bias {
                        check.float(&format!("{module}.bias"), &[*rows])?;
                        check.elements += *rows as u64;
                    }
                }
                Part::Experts { names, experts, rows, columns } => {
                    if let Some(params) = check.experts(names, *experts, *rows, *columns)? {
                        quantized.insert(names.stacked.clone(), params);
                    }
                    check.elements += (*experts * *rows * *columns) as u64;
                }
            }
        }
        check.no_leftovers(tied)?;
        let (stored_bytes, elements) = (check.stored, check.elements);
        Ok(Manifest { index, quantized, tied, stored_bytes, elements })
    }
}

/// The comparison in progress.
struct Check<'a> {
    config: &'a ModelConfig,
    index: &'a TensorIndex,
    seen: BTreeSet<String>,
    stored: u64,
    elements: u64,
}

impl Check<'_> {
    /// The tensor, which must exist and have this shape.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorInfo> {
        let Some(info) = self.index.get(name) else {
            return Err(self.index.error(0, format!("tensor '{name}' is missing")));
        };
        if info.shape != shape {
            let message = format!("tensor '{name}' has shape {:?}, want {shape:?}", info.shape);
            return Err(self.index.error(info.file, message));
        }
        self.seen.insert(name.to_owned());
        self.stored += info.element.bytes() * shape.iter().map(|&n| n as u64).product::<u64>();
        Ok(info.clone())
    }

    /// A tensor of floats.
    fn float(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        let info = self.tensor(name, shape)?;
        if !info.element.is_float() {
            let message = format!("tensor '{name}' has type {:?}, want F32, F16 or BF16", info.element);
            return Err(self.index.error(info.file, message));
        }
        Ok(())
    }

    /// A matrix, or a stack of them if there are several dimensions of rows, dense or quantized; its
    /// quantization in the second case.
    fn matrix(&mut self, module: &str, rows: &[usize], columns: usize) -> Result<Option<QuantParams>> {
        let weight = format!("{module}.weight");
        let scales = format!("{module}.scales");
        let quantization = self.config.quantization.as_ref();
        // A module the configuration names must be as it says; for the others the scales decide.
        let named = quantization.and_then(|q| q.overrides.get(module).copied());
        let params = match named {
            Some(params) => params,
            None if self.index.has(&scales) => match quantization {
                Some(q) => Some(self.inferred(module, columns).unwrap_or(q.default)),
                None => {
                    let message = format!("'{scales}' is there, but the configuration has no 'quantization'");
                    return Err(self.index.error(0, message));
                }
            },
            None => None,
        };
        let shape = |columns: usize| [rows, &[columns]].concat();
        let Some(params) = params else {
            self.float(&weight, &shape(columns))?;
            return Ok(None);
        };
        let QuantParams { group_size, bits, mode } = params;
        if !columns.is_multiple_of(group_size) || !(columns * bits).is_multiple_of(32) {
            let message =
                format!("'{weight}' has rows of {columns}, which groups of {group_size} do not divide");
            return Err(self.index.error(0, message));
        }
        let info = self.tensor(&weight, &shape(columns * bits / 32))?;
        if info.element != ElementType::U32 {
            let message = format!("tensor '{weight}' has type {:?}, want U32 (packed)", info.element);
            return Err(self.index.error(info.file, message));
        }
        let groups = shape(columns / group_size);
        if mode == QuantMode::Affine {
            self.float(&scales, &groups)?;
            self.float(&format!("{module}.biases"), &groups)?;
            return Ok(Some(params));
        }
        let info = self.tensor(&scales, &groups)?;
        if info.element != ElementType::U8 {
            let message = format!("tensor '{scales}' has type {:?}, want U8 ({})", info.element, mode.name());
            return Err(self.index.error(info.file, message));
        }
        Ok(Some(params))
    }

    /// How a module that the configuration does not name is packed, by its tensors, which may differ from the
    /// model's setting (mlx-lm goes by them too); `None` if they make no sense.
    fn inferred(&self, module: &str, columns: usize) -> Option<QuantParams> {
        let last = |name: String| self.index.get(&name).and_then(|info| Some((info, *info.shape.last()?)));
        let (_, words) = last(format!("{module}.weight"))?;
        let (scales, groups) = last(format!("{module}.scales"))?;
        if groups == 0 || !columns.is_multiple_of(groups) || !(words * 32).is_multiple_of(columns) {
            return None;
        }
        let (group_size, bits) = (columns / groups, words * 32 / columns);
        let mode = match scales.element {
            ElementType::U8 => {
                QuantMode::ALL.into_iter().find(|mode| mode.only() == Some((group_size, bits)))?
            }
            _ => QuantMode::Affine,
        };
        QuantParams { group_size, bits, mode }.validate(module).ok()
    }

    /// Refuses tensors nothing asked for: a sign that the configuration belongs to another model.
    fn no_leftovers(&self, tied: bool) -> Result<()> {
        for (name, info) in &self.index.tensors {
            // Old checkpoints store what follows from `rope_theta`, and some store a tied output twice.
            // Layers that predict further tokens (Nemotron's `mtp`) are not run.
            let harmless = name.ends_with(".rotary_emb.inv_freq")
                || (tied && name.starts_with("lm_head."))
                || (self.config.hybrid.is_some() && name.starts_with("mtp."));
            if !harmless && !self.seen.contains(name) {
                let message =
                    format!("tensor '{name}' is not part of this {} model", self.config.architecture.name());
                return Err(self.index.error(info.file, message));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
