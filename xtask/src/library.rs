//! Building the shared library and laying it out so that it runs from where it lies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::setup::{self, cargo};
use crate::{Result, sh};

/// How the library is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Optimized, on MLX: what is shipped.
    Release,
    /// Unoptimized, on MLX: what the tests link.
    Test,
    /// Unoptimized, without MLX: the mock model behind the same ABI.
    Mock,
    /// The same optimized, to measure what is around the model.
    MockRelease,
}

/// The shared library's file name.
pub const FILE: &str = if cfg!(target_os = "macos") { "libquire.dylib" } else { "libquire.so" };

/// Builds the library and fills `dir` with it and, on MLX, with all that it needs beside it. The
/// library finds those, and nothing else, from there: the folder can be copied anywhere. (With the CUDA
/// build of MLX only the library is there, and finds the rest where set-up put it.)
pub fn lay_out(kind: Kind, dir: &Path) -> Result {
    let built = build(kind)?;
    sh::create_dir(dir)?;
    let library = dir.join(FILE);
    sh::copy(&built, &library)?;
    sh::write_if_changed(&dir.join("pkgconfig/quire.pc"), &pkg_config_file()?)?;
    if matches!(kind, Kind::Mock | Kind::MockRelease) {
        return Ok(());
    }
    if cfg!(target_os = "macos") {
        let metallib = sh::root().join(".mlx/metal/mlx.metallib");
        return sh::copy(&metallib, &dir.join("mlx.metallib"));
    }
    let runtime = setup::runtime_folder()?;
    // NVIDIA's libraries are gigabytes, and MLX finds headers by their place: all stay where they are.
    let stays = is_cuda(&runtime);
    let elsewhere = if stays { format!(":{}", runtime.display()) } else { String::new() };
    // Cargo's library also looks where set-up put MLX, which says nothing to another machine.
    let rpath = format!("$ORIGIN{elsewhere}");
    sh::output(Command::new("patchelf").args(["--set-rpath", &rpath]).arg(&library))?;
    for file in sh::files(&runtime)? {
        let copy = dir.join(sh::file_name(&file));
        if stays { sh::remove_file(&copy)? } else { copy_if_changed(&file, &copy)? }
    }
    Ok(())
}

/// What pkg-config says of the library, wherever its folder lies.
fn pkg_config_file() -> Result<String> {
    let manifest = sh::read(&sh::root().join("Cargo.toml"))?;
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    let version = version.ok_or("Cargo.toml has no version")?.trim_matches('"');
    Ok(format!(
        "prefix=${{pcfiledir}}/../..\nlibdir=${{pcfiledir}}/..\nincludedir=${{prefix}}/include\n\n\
         Name: quire\nDescription: Runs language models in your process, on MLX\nVersion: {version}\n\
         Libs: -L${{libdir}} -lquire\nCflags: -I${{includedir}}\n"
    ))
}

/// Whether this runtime folder is the CUDA one, which cannot be copied by itself.
pub fn is_cuda(runtime: &Path) -> bool {
    runtime.ends_with("cuda/mlx/lib")
}

/// Copies a large file unless size and time say that it is there already.
fn copy_if_changed(from: &Path, to: &Path) -> Result {
    let seen = |path: &Path| fs::metadata(path).and_then(|meta| Ok((meta.len(), meta.modified()?))).ok();
    match (seen(from), seen(to)) {
        (Some((size, made)), Some((copied, when))) if size == copied && made <= when => Ok(()),
        _ => sh::copy(from, to),
    }
}

/// Builds the library with cargo and returns where cargo left it.
fn build(kind: Kind) -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    // Of the crate's three kinds only this one: each costs an optimization run of its own.
    command.args(["rustc", "--locked", "--lib", "--crate-type", "cdylib"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    match kind {
        Kind::Release => command.arg("--release"),
        Kind::Test => &mut command,
        Kind::Mock => command.arg("--no-default-features"),
        Kind::MockRelease => command.args(["--release", "--no-default-features"]),
    };
    command.current_dir(sh::root()).stderr(std::process::Stdio::inherit());
    let said = sh::output(&mut command)?;
    let is_library = |path: &str| Path::new(path).file_name().is_some_and(|name| name == FILE);
    let messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages
        .filter(|message| message["reason"] == "compiler-artifact")
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .find_map(|name| name.as_str().filter(|name| is_library(name)).map(PathBuf::from))
        .ok_or_else(|| format!("cargo built no {FILE}"))
}
