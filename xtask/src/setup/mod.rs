//! `cargo xtask setup`: from a bare machine to one where `cargo build` works.
//!
//! On macOS mlx-sys builds MLX from source and only the tools are checked. On Linux MLX comes from
//! its wheel; everything lands under `.mlx/`:
//!
//! | path            | what                                                                    |
//! |-----------------|-------------------------------------------------------------------------|
//! | `cpu/`, `cuda/` | the wheels, unpacked                                                    |
//! | `build/`        | CMake's build of mlx-c and our native sources, `build/lib` the archives |
//! | `bindings/`     | the Rust bindings to mlx-c                                              |
//! | `lib/`          | the runtime folder: libmlx.so and all it needs; on CUDA `cuda/mlx/lib`  |
//! | `runtime`       | a file with the path of the runtime folder                              |
//! | `stamp*`        | what the above was made from; nothing is done while it is the same      |
//!
//! Code is compiled and linked against the CPU wheel always; `MLX=cuda` changes only which
//! libmlx.so is found at run time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::{Result, sh};

mod mlx;
pub mod pip;
mod runtime;
pub mod tools;

pub use mlx::cargo;

const WRITTEN_BY: &str = "# Written by `make setup`; do not edit, do not commit.\n";
const ALIAS: &str = "[alias]\nxtask = \"run --quiet --package xtask --\"\n";

/// The file in `.mlx` that names the runtime folder.
const RUNTIME: &str = "runtime";

/// The runtime folder that set-up has put together on Linux.
pub fn runtime_folder() -> Result<PathBuf> {
    sh::read(&sh::root().join(".mlx").join(RUNTIME)).map(PathBuf::from)
}

/// What the environment asks for.
struct Options {
    cuda: bool,
    fast_blas: bool,
}

impl Options {
    fn from_env() -> Result<Options> {
        let cuda = match variable("MLX")?.as_deref() {
            None | Some("cpu") => false,
            Some("cuda") => true,
            Some(other) => return Err(format!("MLX={other}: expected cpu or cuda")),
        };
        let fast_blas = match variable("BLAS")?.as_deref() {
            None | Some("openblas") => true,
            Some("reference") => false,
            Some(other) => return Err(format!("BLAS={other}: expected openblas or reference")),
        };
        Ok(Options { cuda, fast_blas })
    }
}

/// An environment variable, where empty counts as unset.
fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(e) => Err(format!("{name}: {e}")),
    }
}

pub fn run() -> Result {
    match std::env::consts::OS {
        "macos" => macos(),
        "linux" => linux(&Options::from_env()?),
        other => Err(format!("{other} is not supported: Quire builds on macOS and Linux")),
    }
}

fn macos() -> Result {
    tools::ensure_macos()?;
    // The metallib's place is fixed, so that it can be found and laid beside the library.
    let config = format!(
        "{WRITTEN_BY}{ALIAS}\n[env]\nMLX_RS_METAL_PATH = {{ value = \".mlx/metal\", relative = true }}\n"
    );
    sh::write_if_changed(&sh::root().join(".cargo/config.toml"), &config)?;
    sh::step("ready: cargo builds MLX from source");
    Ok(())
}

fn linux(options: &Options) -> Result {
    if !matches!(std::env::consts::ARCH, "x86_64" | "aarch64") {
        return Err(format!("{}: MLX has wheels for x86-64 and aarch64 only", std::env::consts::ARCH));
    }
    let root = sh::root();
    let home = root.join(".mlx");
    let config_file = root.join(".cargo/config.toml");
    let base_stamp = home.join("stamp");
    let native_stamp = home.join("stamp-native");
    let base_key = base_key(options, &root)?;
    let native_key = native_key(&root)?;
    let holds = |stamp: &Path, key: &str| sh::read(stamp).is_ok_and(|old| old == key);
    let base_done = holds(&base_stamp, &base_key) && config_file.is_file();
    if base_done && holds(&native_stamp, &native_key) {
        sh::step("MLX is in place (.mlx/)");
        return Ok(());
    }

    sh::step("checking tools");
    tools::ensure_linux(options.fast_blas)?;
    let cpu = home.join("cpu");
    let lib = if options.cuda { home.join("cuda/mlx/lib") } else { home.join("lib") };
    let build = home.join("build");
    let mlx_c = mlx::mlx_sys_source()?.join("src/mlx-c");

    if !base_done {
        sh::remove_file(&base_stamp)?;
        fetch(&root, &home, "cpu")?;
        if options.cuda {
            fetch(&root, &home, "cuda")?;
        }
        sh::step("putting the runtime folder together");
        let wheel = if options.cuda { home.join("cuda") } else { cpu.clone() };
        runtime::assemble(&wheel, &lib, options.fast_blas)?;
        sh::write_if_changed(&home.join(RUNTIME), &lib.to_string_lossy())?;

        sh::step("generating bindings");
        let bindings = home.join("bindings");
        mlx::bindings(&mlx_c, &bindings)?;
        let triple = mlx::host_triple()?;
        let config = mlx::cargo_config(&triple, &build.join("lib"), &cpu.join("mlx/lib"), &bindings, &lib);
        sh::write_if_changed(&config_file, &format!("{WRITTEN_BY}{ALIAS}{config}"))?;
        // CMake's cache would hold on to the folders of an earlier wheel.
        sh::remove_dir(&build)?;
    }

    sh::step("compiling mlx-c and our native sources (the first time a minute or two)");
    mlx::compile(&cpu, &mlx_c, &build)?;
    sh::write_if_changed(&native_stamp, &native_key)?;
    sh::write_if_changed(&base_stamp, &base_key)?;
    sh::step("ready: MLX is in place (.mlx/)");
    Ok(())
}

fn fetch(root: &Path, home: &Path, variant: &str) -> Result {
    sh::step(format!("fetching MLX's wheel ({variant})"));
    let requirements = root.join(format!("native/mlx-linux/requirements-{variant}.txt"));
    pip::fetch(&requirements, &home.join(variant))
}

/// A hash of what the wheel's folders, the bindings and the Cargo configuration are made from.
fn base_key(options: &Options, root: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    (root, options.cuda, options.fast_blas).hash(&mut hasher);
    for variant in ["cpu", "cuda"] {
        let requirements = root.join(format!("native/mlx-linux/requirements-{variant}.txt"));
        sh::read(&requirements)?.hash(&mut hasher);
    }
    sh::read(&root.join("native/mlx-linux/compat.h"))?.hash(&mut hasher);
    hash_files(&root.join("xtask/src/setup"), &mut hasher)?;
    // The mlx-sys version, by way of the lock file.
    let lock = sh::read(&root.join("Cargo.lock"))?;
    let pinned = lock.split("\n\n").find(|package| package.contains("name = \"mlx-sys\""));
    pinned.hash(&mut hasher);
    Ok(format!("{:016x}\n", hasher.finish()))
}

/// A hash of the C++ sources.
fn native_key(root: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for dir in ["native/mlx-linux", "native/mlx-linux/src", "native/cpu", "native/cuda"] {
        hash_files(&root.join(dir), &mut hasher)?;
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

fn hash_files(dir: &Path, hasher: &mut DefaultHasher) -> Result {
    if !dir.is_dir() {
        return Ok(());
    }
    for file in sh::files(dir)? {
        sh::file_name(&file).hash(hasher);
        sh::read(&file)?.hash(hasher);
    }
    Ok(())
}
