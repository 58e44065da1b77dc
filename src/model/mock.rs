//! The mock in place of MLX: same files, same checks, no weights.

use std::path::Path;

use super::info::ModelInfo;
use super::load::{LoadOptions, Progress};
use super::locate::ModelFiles;
use crate::engine::Runner;
use crate::engine::mock::{MockOptions, MockRunner};
use crate::error::{Error, Result, Status};

/// Memory for the mock's pages if the options do not say.
const CACHE_BYTES: u64 = 1 << 20;
/// The mock's pages hold token ids.
const BYTES_A_TOKEN: u64 = size_of::<u32>() as u64;

/// A mock of this model, as the `mock` object of its `config.json` wants it.
pub(super) fn run_on(
    files: &ModelFiles,
    options: &LoadOptions,
    info: &mut ModelInfo,
    progress: Progress<'_>,
) -> Result<Box<dyn Runner>> {
    if !progress(0.5, "making the mock") {
        return Err(super::aborted());
    }
    let mut mock = match files {
        ModelFiles::Directory(directory) => mock_options(&directory.config)?,
        ModelFiles::Gguf(_) => MockOptions::default(),
    };
    mock.vocab_size = info.vocab_size;
    if let Some(eos) = info.eos_token_ids.first() {
        mock.eos_token = *eos;
    }
    let block_bytes = options.block_size as u64 * BYTES_A_TOKEN;
    let blocks = options.cache_bytes.unwrap_or(CACHE_BYTES) / block_bytes;
    info.num_blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
    if info.num_blocks == 0 {
        return Err(Error::argument(format!("cache_bytes is less than one page of {block_bytes} bytes")));
    }
    info.device = "mock".to_owned();
    let runner = MockRunner::new(mock, info.num_blocks, options.block_size as u32, options.max_sequences)?;
    Ok(Box::new(runner))
}

fn mock_options(config: &Path) -> Result<MockOptions> {
    let bytes =
        std::fs::read(config).map_err(|e| Error::new(Status::Io, format!("{}: {e}", config.display())))?;
    let broken = |e| Error::model(format!("{}: mock: {e}", config.display()));
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).map_err(broken)?;
    match value.get_mut("mock").map(serde_json::Value::take) {
        Some(mock) => serde_json::from_value(mock).map_err(broken),
        None => Ok(MockOptions::default()),
    }
}
