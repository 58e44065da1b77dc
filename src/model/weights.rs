//! Loads a checked checkpoint's tensors into MLX, one module at a time.
//!
//! Promises: beside what is kept, memory holds one module's stored and converted form at most (on a GPU also what
//! MLX has freed and not returned of the last `RETURN_AFTER` bytes read); a file that became shorter since it was
//! checked is an error, never garbage weights; progress is reported after every module and can stop the load.
//!
//! Bytes take one of two ways. On a CPU they are read into memory of ours, which an array is then made from: our
//! kernels want their matrices right away. On a GPU an array is a promise to read, which MLX keeps when the module
//! is evaluated: into the GPU's own memory ([`LazyReads`]). Both are read and looked at by `read.rs`. GGUF files,
//! whose blocks have to be unpacked, always go the first way.

mod experts;
mod gguf;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use mlx_rs::ops;
use read::{Piece, Shard};

use super::checkpoint::Checkpoint;
use super::finite::Numbers;
use super::from_gguf;
use super::gguf::GgufType;
use super::layers::{Embedding, Ends, Kernels, Linear, Matrix, RmsNorm, Rope, packing};
use super::tensors::{ElementType, TensorInfo};
use super::{Progress, QuantMode, QuantParams, WeightFormat};
use crate::error::{Error, Result};
use crate::mlx::{self, Array, Dtype, LazyReads};

/// The stage [`Progress`] is told while weights load.
pub const STAGE: &str = "loading weights";

/// Bytes read on a GPU between returning freed memory, which waits for everything launched.
const RETURN_AFTER: u64 = 256 << 20;

/// Which matrices are held as floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Floats {
    /// All, in float32.
    All,
    /// In float32 those that our own kernels do not multiply packed.
    WhereFaster,
    /// Those that are stored so, as they are.
    AsStored,
}

/// Hands out a checkpoint's modules.
pub struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    shards: Vec<Arc<Shard>>,
    /// What makes arrays that are read when they are evaluated, where they all are.
    lazy: Option<LazyReads>,
    /// Types of a GGUF file's tensors, by their `safetensors` names.
    kinds: BTreeMap<String, GgufType>,
    kernels: Kernels,
    floats: Floats,
    dtype: Dtype,
    progress: Progress<'a>,
    /// Bytes read so far, of the manifest's.
    read: u64,
    /// How many they were when freed memory was last returned.
    returned: u64,
    held: u64,
}

impl<'a> Weights<'a> {
    /// Opens the files and decides how weights will be held.
    pub fn open(
        checkpoint: &'a Checkpoint,
        format: WeightFormat,
        kernels: &Kernels,
        progress: Progress<'a>,
    ) -> Result<Weights<'a>> {
        let manifest = &checkpoint.manifest;
        let shards = manifest.index.files().iter().map(|path| Ok(Arc::new(Shard::open(path)?)));
        let shards = shards.collect::<Result<_>>()?;
        let on_gpu = kernels.on_gpu();
        let lazy = (on_gpu && checkpoint.gguf.is_none()).then(LazyReads::default);
        let floats = match format {
            WeightFormat::Float32 => Floats::All,
            WeightFormat::Auto if !on_gpu && fits(checkpoint, kernels) => Floats::WhereFaster,
            WeightFormat::Auto | WeightFormat::AsStored => Floats::AsStored,
        };
        let dtype = if on_gpu && format != WeightFormat::Float32 {
            stored_dtype(checkpoint)?
        } else {
            Dtype::Float32
        };
        let tensors = checkpoint.gguf.iter().flat_map(|gguf| gguf.tensors());
        let kinds = tensors.map(|t| (from_gguf::checkpoint_name(&t.name), t.kind)).collect();
        let kernels = kernels.clone();
        let (read, returned, held) = (0, 0, 0);
        Ok(Weights {
            checkpoint,
            shards,
            lazy,
            kinds,
            kernels,
            floats,
            dtype,
            progress,
            read,
            returned,
            held,
        })
    }

    /// What computes the model's parts.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Whether matrices are held as floats.
    pub fn is_dense(&self) -> bool {
        self.checkpoint.manifest.quantized.values().all(|&params| self.unpacks(params))
    }

    /// The type the model computes in.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bytes of everything handed out.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// How matrices are stored and held, for people.
    pub fn describe(&self) -> String {
        let stored = match &self.checkpoint.config.quantization {
            Some(quantization) => quantization.describe(),
            None => format!("{} bit floats", self.stored_bits()),
        };
        let quantized = &self.checkpoint.manifest.quantized;
        let unpacked = quantized.values().filter(|&&params| self.unpacks(params)).count();
        match quantized.len() - unpacked {
            0 if self.floats != Floats::AsStored => format!("{stored}, held as float32"),
            _ if unpacked > 0 => format!("{stored}, {unpacked} modules held as float32"),
            _ => stored,
        }
    }

    /// Bits an element of most matrices takes as stored.
    pub fn stored_bits(&self) -> u32 {
        match &self.checkpoint.config.quantization {
            Some(quantization) => quantization.default.bits as u32,
            None if stored_dtype(self.checkpoint).is_ok_and(|dtype| dtype == Dtype::Float32) => 32,
            None => 16,
        }
    }

    /// An RMS norm; `module` is its name.
    pub fn norm(&mut self, module: &str, eps: f32) -> Result<RmsNorm> {
        RmsNorm::new(self.vector(&format!("{module}.weight"))?, eps, &self.kernels)
    }

    /// A vector, in the type the model computes in.
    pub fn vector(&mut self, name: &str) -> Result<Array> {
        let array = self.tensor(name)?.as_dtype(self.dtype)?;
        self.keep([&array])?;
        Ok(array)
    }

    /// A tensor of floats as stored, in float32.
    pub fn float32(&mut self, name: &str) -> Result<Array> {
        let array = self.tensor(name)?.as_dtype(Dtype::Float32)?;
        self.keep([&array])?;
        Ok(array)
    }

    /// A vector's values, if the checkpoint has it.
    pub fn values(&mut self, name: &str) -> Result<Option<Vec<f32>>> {
        if !self.checkpoint.manifest.index.has(name) {
            return Ok(None);
        }
        let array = self.tensor(name)?;
        let values = array.to_vec_cast::<f32>();
        self.check_reads()?;
        values.map(Some).map_err(|e| Error::internal(format!("reading '{name}': {e}")))
    }

    /// The token embedding.
    fn embedding(&mut self, module: &str) -> Result<Embedding> {
        let matrix = self.matrix(module)?.with_kernels(&self.kernels)?;
        self.keep(matrix.arrays())?;
        Ok(Embedding::new(matrix, self.dtype))
    }

    /// The token embedding and the last norm of these names, and the output projection, which may share the embedding's
    /// matrix.
    pub fn ends(&mut self, [embedding, norm]: [&str; 2], eps: f32, tied: bool, rope: Rope) -> Result<Ends> {
        let embedding = self.embedding(embedding)?;
        Ok(Ends {
            output: if tied { embedding.matrix().clone() } else { self.output("lm_head")? },
            norm: self.norm(norm, eps)?,
            embedding,
            rope,
            dtype: self.dtype,
            dense: self.is_dense(),
        })
    }

    /// A matrix alone.
    fn output(&mut self, module: &str) -> Result<Matrix> {
        let matrix = self.matrix(module)?.with_kernels(&self.kernels)?;
        self.keep(matrix.arrays())?;
        Ok(matrix)
    }

    /// One layer that computes what these modules, fed the same input, compute one after the other.
    pub fn linear(&mut self, modules: &[String]) -> Result<Linear> {
        let mut parts = Vec::new();
        let mut biases = Vec::new();
        for module in modules {
            parts.push(self.matrix(module)?);
            let bias = format!("{module}.bias");
            if self.checkpoint.manifest.index.has(&bias) {
                biases.push(self.tensor(&bias)?.as_dtype(self.dtype)?);
            }
        }
        let bias = match biases.len() {
            0 => None,
            n if n == modules.len() => Some(ops::concatenate(&biases, 0)?),
            _ => return Err(Error::internal(format!("of {modules:?} only some have a bias"))),
        };
        let linear = Linear::new(parts, bias, &self.kernels)?;
        self.keep(linear.arrays())?;
        Ok(linear)
    }

    /// Whether a matrix that is packed so is held as floats.
    fn unpacks(&self, params: QuantParams) -> bool {
        match self.floats {
            Floats::All => true,
            Floats::WhereFaster => !self.kernels.take(params),
            Floats::AsStored => false,
        }
    }

    /// A matrix as it will be held; not evaluated.
    fn matrix(&mut self, module: &str) -> Result<Matrix> {
        let weight = format!("{module}.weight");
        let (weight, scales, biases) = match self.kinds.get(&weight) {
            Some(_) => self.unpacked(module)?,
            None => {
                let weight = self.tensor(&weight)?;
                match self.checkpoint.manifest.quantized.get(module).map(|params| params.mode) {
                    None => (weight, None, None),
                    Some(QuantMode::Affine) => (
                        weight,
                        Some(self.tensor(&format!("{module}.scales"))?),
                        Some(self.tensor(&format!("{module}.biases"))?),
                    ),
                    Some(_) => (weight, Some(self.tensor(&format!("{module}.scales"))?), None),
                }
            }
        };
        let params = self.checkpoint.manifest.quantized.get(module).copied();
        self.as_held(weight, scales, biases, params)
    }

    /// What a checkpoint stores as it will be held; not evaluated.
    fn as_held(
        &self,
        weight: Array,
        scales: Option<Array>,
        biases: Option<Array>,
        params: Option<QuantParams>,
    ) -> Result<Matrix> {
        let (Some(scales), Some(params)) = (scales, params) else {
            let keep_small = self.floats == Floats::AsStored && self.dtype == Dtype::Float32;
            // A 16-bit matrix stays one where 32 bits would not fit.
            return Matrix::dense(if keep_small { weight } else { weight.as_dtype(self.dtype)? });
        };
        let (scales, biases) = match biases {
            Some(biases) => (scales.as_dtype(self.dtype)?, Some(biases.as_dtype(self.dtype)?)),
            None => (scales, None),
        };
        if self.unpacks(params) {
            let (biases, packing) = (biases.as_ref(), packing(params));
            return Matrix::dense(mlx::dequantize(&weight, &scales, biases, packing, self.dtype)?);
        }
        Ok(Matrix::quantized(weight, scales, biases, params))
    }

    /// A tensor as stored.
    fn tensor(&mut self, name: &str) -> Result<Array> {
        let info = self.info(name)?;
        if let Some(&kind) = self.kinds.get(name) {
            return self.unpacked_floats(name, &info, kind);
        }
        let numbers = self.numbers(name, &info.element);
        let piece = self.piece(name, &info, numbers)?;
        self.array(vec![piece], &info, name)
    }

    /// An array of this shape and type from what lies in several places.
    fn array(&mut self, pieces: Vec<Piece>, info: &TensorInfo, name: &str) -> Result<Array> {
        let size = read::size(&pieces)?;
        self.read += size as u64;
        let Some(lazy) = &self.lazy else { return array(&read::to_vec(&pieces)?, info, name) };
        let (shape, dtype) = (shape(info)?, dtype(info, name)?);
        lazy.array(&shape, dtype, move |bytes| read::read(&pieces, bytes))
    }

    /// Where a tensor, or a part of it, lies; what its elements are, if they have to be numbers.
    fn piece(&self, tensor: &str, info: &TensorInfo, numbers: Option<Numbers>) -> Result<Piece> {
        let Some(shard) = self.shards.get(info.file).cloned() else {
            return Err(Error::internal(format!("there is no file {}", info.file)));
        };
        let TensorInfo { offset, bytes, .. } = *info;
        Ok(Piece { shard, offset, bytes, tensor: tensor.to_owned(), numbers })
    }

    /// How a tensor's elements would say that they are no number.
    fn numbers(&self, name: &str, element: &ElementType) -> Option<Numbers> {
        let (module, leaf) = name.rsplit_once('.').unwrap_or((name, ""));
        let mode = || self.checkpoint.manifest.quantized.get(module).map(|params| params.mode);
        match (element, leaf) {
            (ElementType::U32, "weight") if mode() == Some(QuantMode::Mxfp8) => Some(Numbers::E4m3),
            (ElementType::U8, "scales") if mode() == Some(QuantMode::Nvfp4) => Some(Numbers::E4m3),
            (ElementType::U8, "scales") => Some(Numbers::E8m0),
            (element, _) => Numbers::of(element),
        }
    }

    fn info(&self, name: &str) -> Result<TensorInfo> {
        let info = self.checkpoint.manifest.index.get(name);
        info.cloned().ok_or_else(|| Error::internal(format!("tensor '{name}' was not checked")))
    }

    /// Evaluates what will be held, so that what it was made from goes, and reports.
    fn keep<'b>(&mut self, arrays: impl IntoIterator<Item = &'b Array>) -> Result<()> {
        let arrays: Vec<&Array> = arrays.into_iter().collect();
        let evaluated = mlx_rs::transforms::eval(arrays.iter().copied());
        // What went wrong in reading says more than what came of it.
        self.check_reads()?;
        evaluated?;
        if self.lazy.is_none() || self.read - self.returned >= RETURN_AFTER {
            mlx_rs::memory::clear_cache()?;
            self.returned = self.read;
        }
        self.report(arrays.iter().map(|array| array.nbytes() as u64).sum())
    }

    /// An error if reading failed in what was evaluated since the last call.
    fn check_reads(&self) -> Result<()> {
        self.lazy.as_ref().map_or(Ok(()), LazyReads::check)
    }

    fn report(&mut self, held: u64) -> Result<()> {
        self.held += held;
        // GGUF blocks and what they unpack to differ a little in size.
        let all = self.checkpoint.manifest.stored_bytes.max(1) as f32;
        if (self.progress)((self.read as f32 / all).min(1.0), STAGE) { Ok(()) } else { Err(super::aborted()) }
    }
}

/// Whether what our kernels do not multiply packed has room as float32.
fn fits(checkpoint: &Checkpoint, kernels: &Kernels) -> bool {
    let manifest = &checkpoint.manifest;
    let taken =
        manifest.quantized.iter().filter(|&(_, &params)| kernels.take(params)).map(|(module, params)| {
            let weight = manifest.index.get(&format!("{module}.weight"));
            weight.map_or(0, |info| info.shape.iter().product::<usize>() * 32 / params.bits) as u64
        });
    let floats = manifest.elements.saturating_sub(taken.sum());
    mlx::host_memory().is_none_or(|all| floats * 4 <= all / 4)
}

fn shape(info: &TensorInfo) -> Result<Vec<i32>> {
    let shape = info.shape.iter().map(|&n| i32::try_from(n)).collect::<std::result::Result<_, _>>();
    shape.map_err(|_| Error::unsupported(format!("shape {:?} is too large", info.shape)))
}

fn array(bytes: &[u8], info: &TensorInfo, name: &str) -> Result<Array> {
    mlx::from_bytes(bytes, &shape(info)?, dtype(info, name)?)
}

fn dtype(info: &TensorInfo, name: &str) -> Result<Dtype> {
    match &info.element {
        ElementType::F32 => Ok(Dtype::Float32),
        ElementType::F16 => Ok(Dtype::Float16),
        ElementType::Bf16 => Ok(Dtype::Bfloat16),
        ElementType::U32 => Ok(Dtype::Uint32),
        ElementType::U8 => Ok(Dtype::Uint8),
        ElementType::Other(_) => Err(Error::internal(format!("'{name}' has no known type"))),
    }
}

/// The type a checkpoint's own activations have: that of most of its floats, which are 16 bits wide if any are.
fn stored_dtype(checkpoint: &Checkpoint) -> Result<Dtype> {
    let bytes = |element: ElementType| -> u64 {
        let tensors = checkpoint.manifest.index.iter().map(|(_, info)| info);
        tensors.filter(|info| info.element == element).map(|info| info.bytes).sum()
    };
    let (half, brain, single) = (bytes(ElementType::F16), bytes(ElementType::Bf16), bytes(ElementType::F32));
    match (half, brain, single) {
        (0, 0, 0) => Err(Error::model("no tensor has a float type")),
        (0, 0, _) => Ok(Dtype::Float32),
        _ if half > brain => Ok(Dtype::Float16),
        _ => Ok(Dtype::Bfloat16),
    }
}
