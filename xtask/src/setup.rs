//! `cargo xtask setup`: from a bare machine to one where `cargo build` works.
//!
//! On macOS mlx-sys builds MLX from source and only the tools are checked. On Linux MLX comes from
//! its wheel; everything lands under `.mlx/`:
//!
//! | path            | what                                                                    |
//! |-----------------|-------------------------------------------------------------------------|
//! | `wheels/`       | the wheels as downloaded                                                |
//! | `cpu/`, `cuda/` | the wheels unpacked                                                     |
//! | `build/`        | CMake's build of mlx-c and our native sources, `build/lib` the archives |
//! | `bindings/`     | the Rust bindings to mlx-c                                              |
//! | `lib/`          | the runtime folder: libmlx.so and all it needs                          |
//! | `stamp`         | what the above was made from; nothing is done while it is the same      |
//!
//! Code is compiled and linked against the CPU wheel always; `MLX=cuda` changes only which
//! libmlx.so lies in `lib/`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::{Result, mlx, pip, runtime, sh, tools};

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
    let config = "# Written by `make setup`; do not edit, do not commit.\n\
                  [alias]\nxtask = \"run --quiet --package xtask --\"\n";
    sh::write_if_changed(&sh::root().join(".cargo/config.toml"), config)?;
    sh::step("ready: cargo builds MLX from source");
    Ok(())
}

fn linux(options: &Options) -> Result {
    if !matches!(std::env::consts::ARCH, "x86_64" | "aarch64") {
        return Err(format!("{}: MLX has wheels for x86-64 and aarch64 only", std::env::consts::ARCH));
    }
    let root = sh::root();
    let home = root.join(".mlx");
    let stamp = home.join("stamp");
    let key = key(options, &root)?;
    let config_file = root.join(".cargo/config.toml");
    if sh::read(&stamp).is_ok_and(|old| old == key) && config_file.is_file() {
        sh::step("MLX is in place (.mlx/)");
        return Ok(());
    }

    sh::step("checking tools");
    tools::ensure_linux(options.fast_blas)?;

    let cpu = home.join("cpu");
    fetch(&root, &home, "cpu")?;
    if options.cuda {
        fetch(&root, &home, "cuda")?;
    }

    sh::step("putting the runtime folder together (.mlx/lib)");
    let lib = home.join("lib");
    let wheel = if options.cuda { home.join("cuda") } else { cpu.clone() };
    runtime::assemble(&wheel, &lib, options.fast_blas)?;

    let mlx_c = mlx::mlx_sys_source()?.join("src/mlx-c");
    sh::step("compiling mlx-c (once; a few minutes on a small machine)");
    let build = home.join("build");
    // From nothing each time: CMake's cache would hold on to folders of an earlier wheel.
    sh::remove_dir(&build)?;
    mlx::compile(&cpu, &mlx_c, &build)?;

    sh::step("generating bindings");
    let bindings = home.join("bindings");
    mlx::bindings(&mlx_c, &bindings)?;

    let triple = mlx::host_triple()?;
    let config = mlx::cargo_config(&triple, &build.join("lib"), &cpu.join("mlx/lib"), &bindings, &lib);
    sh::write_if_changed(&config_file, &config)?;
    sh::write_if_changed(&stamp, &key)?;
    sh::step("ready: MLX is in place (.mlx/)");
    Ok(())
}

fn fetch(root: &Path, home: &Path, variant: &str) -> Result {
    sh::step(format!("fetching MLX's wheel ({variant})"));
    let requirements = root.join(format!("native/mlx-linux/requirements-{variant}.txt"));
    let wheel = pip::download(&requirements, &home.join("wheels"))?;
    pip::unpack(&wheel, &home.join(variant))
}

/// A hash of everything that the result depends on and that may change under us.
fn key(options: &Options, root: &Path) -> Result<String> {
    let mut inputs = Vec::<PathBuf>::new();
    for dir in ["native/mlx-linux", "native/mlx-linux/src", "native/cpu", "xtask/src"] {
        if root.join(dir).is_dir() {
            inputs.extend(sh::files(&root.join(dir))?);
        }
    }
    let mut hasher = DefaultHasher::new();
    (root, options.cuda, options.fast_blas).hash(&mut hasher);
    for input in inputs {
        sh::file_name(&input).hash(&mut hasher);
        sh::read(&input)?.hash(&mut hasher);
    }
    // The mlx-sys version, by way of the lock file.
    let lock = sh::read(&root.join("Cargo.lock"))?;
    let pinned = lock.split("\n\n").find(|package| package.contains("name = \"mlx-sys\""));
    pinned.hash(&mut hasher);
    Ok(format!("{:016x}\n", hasher.finish()))
}
