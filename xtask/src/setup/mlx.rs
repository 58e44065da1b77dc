//! mlx-c and its Rust bindings on Linux, where mlx-sys's own build script (made for macOS) is
//! overridden: Cargo takes what it would print from `.cargo/config.toml` instead.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, sh};

/// Where the mlx-sys crate's source lies. Cargo fetches it if need be.
pub fn mlx_sys_source() -> Result<PathBuf> {
    let args = ["metadata", "--locked", "--format-version", "1", "--filter-platform", &host_triple()?];
    let metadata = sh::output(Command::new(cargo()).args(args).current_dir(sh::root()))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let manifest = packages
        .iter()
        .find(|package| package["name"] == "mlx-sys")
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("cargo metadata lists no package mlx-sys")?;
    Path::new(manifest).parent().map(Path::to_owned).ok_or_else(|| format!("{manifest}: no folder"))
}

/// The cargo that runs this.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// The target triple of this machine, as rustc says it.
pub fn host_triple() -> Result<String> {
    let version = sh::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".into())
}

/// Compiles mlx-c and our native sources against the wheel; the archives land in `build`/lib.
pub fn compile(wheel: &Path, mlx_c: &Path, build: &Path) -> Result {
    let jobs = std::thread::available_parallelism().map_or(1, |n| n.get());
    let define = |name: &str, path: &Path| format!("-D{name}={}", path.display());
    sh::run(
        Command::new("cmake")
            .arg("-S")
            .arg(sh::root().join("native/mlx-linux"))
            .arg("-B")
            .arg(build)
            .args([define("MLX_WHEEL", wheel), define("MLX_C_SOURCE", mlx_c)])
            .arg("-DCMAKE_BUILD_TYPE=Release"),
    )?;
    let build_args = ["--target", "archives", "--parallel", &jobs.to_string()];
    // CMake makes no archive where there are no sources, but leaves one that was there.
    sh::remove_file(&build.join("lib/libquire_native.a"))?;
    let mut make = Command::new("cmake");
    // Not a part of the make that may have started this.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    sh::run(make.arg("--build").arg(build).args(build_args))
}

/// Generates bindings to mlx-c's headers, with mlx-sys's own settings (its `bindgen_config.rs`).
pub fn bindings(mlx_c: &Path, out: &Path) -> Result {
    let mut headers = sh::files(&mlx_c.join("mlx/c"))?;
    headers.retain(|path| path.extension().is_some_and(|e| e == "h"));
    let compat = sh::root().join("native/mlx-linux/compat.h");
    let builder = bindgen::Builder::default()
        .rust_target("1.73.0".parse().map_err(|e| format!("bindgen: {e:?}"))?)
        .clang_arg(format!("-I{}", mlx_c.display()))
        .clang_arg(format!("-include{}", compat.display()))
        .blocklist_function("malloc")
        .blocklist_function("realloc");
    let builder = headers.iter().fold(builder, |builder, header| builder.header(header.to_string_lossy()));
    let bindings = builder.generate().map_err(|e| format!("bindgen: {e}"))?;
    sh::create_dir(out)?;
    let file = out.join("bindings.rs");
    bindings.write_to_file(&file).map_err(|e| format!("{}: {e}", file.display()))
}

/// The part of `.cargo/config.toml` that puts mlx-sys on what set-up made: the override, and two folders that reach
/// our build script as `DEP_MLX_RUNTIME` and `DEP_MLX_NATIVE`.
pub fn cargo_config(triple: &str, archives: &Path, libmlx: &Path, bindings: &Path, runtime: &Path) -> String {
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    format!(
        "\n\
         [target.{triple}.mlx]\n\
         rustc-link-search = [{archives}, {libmlx}]\n\
         rustc-link-lib = [\"static=mlxc\", \"static=mlx_linux\", \"dylib=mlx\", \"dylib=stdc++\"]\n\
         rustc-env = {{ OUT_DIR = {bindings} }}\n\
         runtime = {runtime}\n\
         native = {archives}\n\
         \n\
         # Build scripts cannot pass linker arguments to documentation tests.\n\
         [target.{triple}]\n\
         rustdocflags = [{rpath}]\n",
        rpath = quoted(&PathBuf::from(format!("-Clink-arg=-Wl,-rpath,{}", runtime.display()))),
        archives = quoted(archives),
        libmlx = quoted(libmlx),
        bindings = quoted(bindings),
        runtime = quoted(runtime),
    )
}
