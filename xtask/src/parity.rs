//! Compares what is committed of mlx-lm's results with a live mlx-lm, and the library with both.

use std::path::PathBuf;
use std::process::Command;

use crate::{Result, sh};

/// Runs the comparison: Python first, then the tests that read the same files.
pub fn run() -> Result {
    let python = python()?;
    for (script, what) in [("reference.py", "models"), ("routing.py", "routing.json")] {
        sh::step(format!("mlx-lm against tests/parity/{what}"));
        let script = sh::root().join("tests/parity").join(script);
        sh::run(Command::new(&python).arg("-B").arg(script).arg("--check"))?;
    }
    sh::step("the library against tests/parity/models");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    sh::run(Command::new(cargo).current_dir(sh::root()).args(["test", "--locked", "--test", "models"]))
}

/// `$PYTHON` if it is set, which must have mlx-lm; else one of an environment of our own, made at the first call.
fn python() -> Result<PathBuf> {
    if let Some(own) = std::env::var_os("PYTHON") {
        return Ok(own.into());
    }
    let environment = sh::root().join(".models/parity");
    let python = environment.join("bin/python");
    let requirements = sh::root().join("xtask/requirements-parity.txt");
    // Made whole, or not there.
    let done = environment.join("requirements.txt");
    if done.is_file() && sh::read(&done)? == sh::read(&requirements)? {
        return Ok(python);
    }
    sh::step("making a Python environment with mlx-lm (some 350 MB)");
    sh::remove_dir(&environment)?;
    sh::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))
        .map_err(|e| format!("{e}\n(Debian and Ubuntu have it in the package python3-venv)"))?;
    let mut pip = Command::new(&python);
    sh::run(pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))?;
    sh::copy(&requirements, &done)?;
    Ok(python)
}
