//! Loads a model: checks all its files, then its weights into MLX (or, in a build without MLX, the mock
//! in their place).

use super::Runner;
use crate::error::{Error, Result};
use crate::model::budget::{Budget, CacheSize};
use crate::model::{Checkpoint, LoadOptions, ModelFiles, ModelInfo, Progress, aborted};

/// A model that is ready to run.
pub struct Loaded {
    /// Runs steps; stays on the thread that loaded it.
    pub runner: Box<dyn Runner>,
    /// What it is.
    pub info: ModelInfo,
    /// Tells it from other models: [`Checkpoint::fingerprint`].
    pub fingerprint: [u8; 32],
    /// Snapshots of recurrent states; `None` for a model without recurrent layers.
    pub snapshots: Option<u32>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Loads a model on the calling thread, which becomes the one that may use it.
///
/// Errors: `InvalidArgument` naming an option; `ModelInvalid` or `ModelUnsupported` naming the file and
/// the field or tensor; `Aborted` if `progress` returned false; `OutOfMemory`; `DeviceError`; `Io`.
pub fn load(files: &ModelFiles, options: &LoadOptions, progress: Progress<'_>) -> Result<Loaded> {
    options.validate()?;
    if !progress(0.0, "checking files") {
        return Err(aborted());
    }
    let checkpoint = Checkpoint::open(files)?;
    let mut info = ModelInfo::of(&checkpoint.config);
    let max_context = max_context(&checkpoint, options)?;
    info.max_context = max_context as u32;
    info.block_size = options.block_size as u32;
    let (runner, snapshots) = run_on(&checkpoint, options, max_context, &mut info, progress)?;
    // A context the pool cannot hold alone could never finish.
    info.max_context = info.max_context.min(info.num_blocks.saturating_mul(info.block_size));
    if !progress(1.0, "ready") {
        return Err(aborted());
    }
    Ok(Loaded { runner, info, fingerprint: checkpoint.fingerprint()?, snapshots })
}

/// The longest context: the model's own, or what the options ask for.
///
/// Errors: `ModelUnsupported` if they ask for more than the model's window, which is not followed.
fn max_context(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<usize> {
    let config = &checkpoint.config;
    let asked = options.max_context.unwrap_or(config.max_context()).min(config.max_position_embeddings);
    if asked > config.max_context() {
        return Err(Error::unsupported(format!(
            "max_context is {asked}, but the model's 'sliding_window' is {}: contexts longer than the window are \
             not supported",
            config.max_context()
        )));
    }
    Ok(asked)
}

/// Loads the weights into MLX and makes the page pool.
#[cfg(feature = "mlx")]
fn run_on(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    max_context: usize,
    info: &mut ModelInfo,
    progress: Progress<'_>,
) -> Result<(Box<dyn Runner>, Option<u32>)> {
    use super::mlx_runner::{MlxRunner, Shape};
    use std::collections::BTreeSet;

    use crate::kernels::gpu::{PagedShape, Wanted};
    use crate::log::Level;
    use crate::mlx::{Device, Gpu};
    use crate::model::QuantMode;
    use crate::model::layers::Kernels;
    use crate::model::weights::Weights;

    let config = &checkpoint.config;
    let device = Device::best()?;
    let gpu = device.is_gpu();
    if !gpu {
        // What a step frees is small and comes back; what loading frees should go back to the system.
        mlx_rs::memory::set_cache_limit(CPU_CACHE)?;
    }
    let stream = device.stream();
    let kernels = Kernels::best(device.gpu().or(options.as_on_gpu.then_some(Gpu::Cuda)), options.reference);
    let (model, held) = mlx_rs::with_stream(&stream, || -> Result<_> {
        let mut weights = Weights::open(checkpoint, options.weight_format, &kernels, progress)?;
        let model = config.architecture.load(config, &mut weights, checkpoint.manifest.tied)?;
        info.quantization = weights.describe();
        if info.quantization_bits == 0 {
            info.quantization_bits = weights.stored_bits();
        }
        Ok((model, weights.held()))
    })?;
    if let Some(own) = kernels.gpu().filter(|_| !options.reference) {
        let (tensors, quantized) = (&checkpoint.manifest.index, checkpoint.manifest.quantized.values());
        let affine = quantized.filter(|params| params.mode == QuantMode::Affine);
        let packings: BTreeSet<_> = affine.map(|params| (params.bits, params.group_size)).collect();
        let pages = PagedShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            block_size: options.block_size,
            norms: tensors.iter().any(|(name, _)| name.ends_with(".q_norm.weight")),
            turns: model.ends().rope.turns(),
        };
        let wanted = Wanted {
            dtype: model.ends().dtype,
            pages,
            gated: config.gated_widths(),
            packings: packings.into_iter().collect(),
            experts: config.has_experts(),
        };
        let begun = std::time::Instant::now();
        mlx_rs::with_stream(&stream, || own.check(&wanted));
        let took = begun.elapsed().as_secs_f32();
        crate::log::write(Level::Debug, format_args!("compiled and checked kernels in {took:.2} s"));
    }
    mlx_rs::memory::clear_cache()?;
    crate::mlx::trim_host_allocator();
    let budget = Budget {
        block_size: options.block_size,
        max_context,
        element_bytes: kernels.page_element_bytes(model.ends().dtype),
        cache_bytes: options.cache_bytes,
        available: device.available_memory()?,
        share: if gpu { 2 } else { 4 },
        max_sequences: options.max_sequences,
    };
    let CacheSize { layout, snapshots } = budget.sizes(config)?;
    info.num_blocks = layout.num_blocks as u32;
    info.weight_bytes = held;
    info.device = device.name().to_owned();
    let (max_sequences, vocab_size) = (options.max_sequences, config.vocab_size);
    let shape = Shape {
        max_sequences,
        vocab_size,
        layers: config.page_layers(),
        recurrent_layers: config.recurrent_layers(),
        snapshots: snapshots.unwrap_or(0) as usize,
    };
    Ok((Box::new(MlxRunner::new(device, model, kernels, layout, shape, held)?), snapshots))
}

/// Freed memory that MLX keeps for the next step on a CPU, in bytes.
#[cfg(feature = "mlx")]
const CPU_CACHE: usize = 32 << 20;

/// The mock runner in the model's place: it answers to the same vocabulary, with pages of the same shape.
#[cfg(not(feature = "mlx"))]
fn run_on(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    max_context: usize,
    info: &mut ModelInfo,
    progress: Progress<'_>,
) -> Result<(Box<dyn Runner>, Option<u32>)> {
    use super::mock::MockRunner;

    if !progress(0.5, "loading weights") {
        return Err(aborted());
    }
    let config = &checkpoint.config;
    let budget = Budget {
        block_size: options.block_size,
        max_context,
        element_bytes: 4,
        cache_bytes: options.cache_bytes,
        available: MOCK_MEMORY,
        share: 1,
        max_sequences: options.max_sequences,
    };
    let CacheSize { layout, snapshots } = budget.sizes(config)?;
    info.num_blocks = layout.num_blocks as u32;
    info.weight_bytes = checkpoint.manifest.stored_bytes;
    info.device = "mock".into();
    let mut mock = mock_options(checkpoint)?;
    mock.snapshots = mock.snapshots.or(snapshots);
    let snapshots = mock.snapshots;
    let runner = MockRunner::new(mock, info.num_blocks, info.block_size, options.max_sequences)?;
    Ok((Box::new(runner), snapshots))
}

/// What the mock's device has left, in bytes.
#[cfg(not(feature = "mlx"))]
const MOCK_MEMORY: u64 = 1 << 30;

/// How the mock runner behaves in this model's place: as the `mock` object of `config.json` says, with
/// the model's own vocabulary and end token where it does not.
///
/// Errors: `ModelInvalid` naming a field of that object.
#[cfg(any(test, not(feature = "mlx")))]
pub(crate) fn mock_options(checkpoint: &Checkpoint) -> Result<super::mock::MockOptions> {
    let mut object = checkpoint.mock.clone();
    let vocab = checkpoint.config.vocab_size as u32;
    object.entry("vocab_size").or_insert(vocab.into());
    let eos = checkpoint.config.eos_token_ids.first().copied().unwrap_or(vocab - 1);
    object.entry("eos_token").or_insert(eos.into());
    serde_json::from_value(object.into()).map_err(|e| Error::model(format!("config.json: field 'mock': {e}")))
}
