//! Files from the Python package index, fetched by pip and checked against hashes in the repository.

use std::path::Path;
use std::process::Command;

use crate::{Result, sh};

/// The platform tags that wheels for a Linux as old as Debian 12 or Ubuntu 22.04 may bear. pip takes
/// each by its word.
const GLIBC_TAGS: [&str; 8] = ["2_35", "2_34", "2_31", "2_28", "2_27", "2_17", "2_12", "2_5"];

/// Downloads every wheel that `requirements` pins (by version and SHA-256) and unpacks all of them
/// into `dir`, replacing what is there.
pub fn fetch(requirements: &Path, dir: &Path) -> Result {
    let wheels = dir.with_extension("wheels");
    sh::remove_dir(&wheels)?;
    sh::remove_dir(dir)?;
    sh::create_dir(&wheels)?;
    sh::create_dir(dir)?;

    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    // Told outright, so that the system's own Python may be of any version.
    pip.args(["--only-binary", ":all:", "--python-version", "3.12", "--platform", "any"]);
    for tag in GLIBC_TAGS {
        pip.args(["--platform", &format!("manylinux_{tag}_{}", std::env::consts::ARCH)]);
    }
    sh::run(pip.arg("--dest").arg(&wheels).arg("--requirement").arg(requirements))?;

    for wheel in sh::files(&wheels)? {
        // A wheel is a zip file.
        sh::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(dir))?;
    }
    sh::remove_dir(&wheels)
}
