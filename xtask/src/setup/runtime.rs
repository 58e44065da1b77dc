//! The runtime folder: libmlx.so and every library it needs beyond the C and C++ runtimes, flat,
//! each finding the others beside itself. Copying it next to libquire.so is all it takes to run.
//! (On CUDA it stays inside its wheel's tree, where MLX looks for headers and NVIDIA's libraries.)

use std::fs;
use std::path::Path;
use std::process::Command;

use super::tools;
use crate::{Result, sh};

/// Fills `lib` from an unpacked wheel. With `fast_blas`, the distribution's OpenBLAS takes the
/// place (and the file name) of the wheel's reference BLAS.
pub fn assemble(wheel: &Path, lib: &Path, fast_blas: bool) -> Result {
    // Built aside and swapped in whole: an interrupted run leaves no half folder.
    let fresh = lib.with_extension("new");
    sh::remove_dir(&fresh)?;
    sh::create_dir(&fresh)?;

    let libmlx = fresh.join("libmlx.so");
    sh::copy(&wheel.join("mlx/lib/libmlx.so"), &libmlx)?;
    for library in sh::files(&bundled(wheel)?)? {
        sh::copy(&library, &fresh.join(sh::file_name(&library)))?;
    }
    if fast_blas {
        let openblas = tools::openblas().ok_or("OpenBLAS is missing (package libopenblas0-pthread)")?;
        replace_blas(&openblas, &fresh)?;
    }
    // The wheel's libmlx.so finds its neighbours through Python's folders; they lie beside it now.
    let paths = sh::output(Command::new("patchelf").arg("--print-rpath").arg(&libmlx))?;
    let nvidia = paths.trim().split(':').filter(|path| path.contains("/nvidia/"));
    let paths: Vec<&str> = std::iter::once("$ORIGIN").chain(nvidia).collect();
    // RPATH, as the wheel has it: NVIDIA's libraries find each other through it.
    run_patchelf(&["--force-rpath", "--set-rpath", &paths.join(":")], &libmlx)?;
    check_loads(&libmlx)?;

    sh::remove_dir(lib)?;
    fs::rename(&fresh, lib).map_err(|e| format!("{}: {e}", lib.display()))
}

/// The wheel's folder of bundled libraries (`mlx_cpu.libs`).
fn bundled(wheel: &Path) -> Result<std::path::PathBuf> {
    let entries = fs::read_dir(wheel).map_err(|e| format!("{}: {e}", wheel.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_dir() && path.extension().is_some_and(|e| e == "libs"))
        .ok_or_else(|| format!("{}: no folder of bundled libraries (*.libs)", wheel.display()))
}

fn replace_blas(openblas: &Path, lib: &Path) -> Result {
    let files = sh::files(lib)?;
    let blas = files.iter().find(|path| sh::file_name(path).starts_with("libblas-"));
    let blas = blas.ok_or_else(|| format!("{}: no libblas-*; has MLX's wheel changed?", lib.display()))?;
    sh::copy(openblas, blas)?;
    run_patchelf(&["--set-rpath", "$ORIGIN", "--set-soname", &sh::file_name(blas)], blas)?;

    // OpenBLAS wants the Fortran runtime it was built with, under that one's own name.
    let needs = sh::output(Command::new("ldd").arg(openblas))?;
    for line in needs.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some("=>"), Some(path)) = (words.next(), words.next(), words.next())
            && (name.starts_with("libgfortran.") || name.starts_with("libquadmath."))
        {
            let copy = lib.join(name);
            sh::copy(Path::new(path), &copy)?;
            run_patchelf(&["--set-rpath", "$ORIGIN"], &copy)?;
        }
    }
    Ok(())
}

fn run_patchelf(args: &[&str], library: &Path) -> Result {
    sh::output(Command::new("patchelf").args(args).arg(library)).map(drop)
}

/// Resolves every library and symbol that `library` needs, as the loader would.
fn check_loads(library: &Path) -> Result {
    let said = sh::output(Command::new("sh").args(["-c", "ldd -r \"$0\" 2>&1"]).arg(library))?;
    // NVIDIA's driver (libcuda, functions cuXyz) may be absent where the library is put together.
    let driver = |line: &str| {
        let symbol = line.trim_start().strip_prefix("undefined symbol: cu");
        line.contains("libcuda.so")
            || symbol.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    let bad =
        |line: &&str| (line.contains("not found") || line.contains("undefined symbol")) && !driver(line);
    let problems: Vec<&str> = said.lines().filter(bad).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(format!("{} cannot be loaded:\n{}", library.display(), problems.join("\n")))
    }
}
