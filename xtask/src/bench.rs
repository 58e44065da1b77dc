//! The C benchmark driver, and the demonstration that runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::library::{self, Kind};
use crate::{Result, cc, model, sh};

/// The driver's executable. Its sources are beside it in `src`.
pub fn executable() -> PathBuf {
    sh::root().join("bindings/c/bench")
}

/// Builds the release library into build/lib and copies its header to build/include.
pub fn build_library() -> Result<PathBuf> {
    let build = sh::root().join("build");
    let lib = build.join("lib");
    sh::step("building libquire (release)");
    library::lay_out(Kind::Release, &lib)?;
    let include = build.join("include");
    sh::create_dir(&include)?;
    sh::copy(&sh::root().join("include/quire.h"), &include.join("quire.h"))?;
    sh::step(format!("built {}", lib.join(library::FILE).display()));
    Ok(lib)
}

/// Builds the driver against build/lib, at `bindings/c/bench`.
pub fn build() -> Result {
    let lib = build_library()?;
    compile(&lib, &executable())?;
    sh::step(format!("built {}", executable().display()));
    Ok(())
}

/// Compiles the driver. It looks for the library beside itself, then in the build folder.
pub fn compile(library: &Path, output: &Path) -> Result {
    let sources = cc::sources(&sh::root().join("bindings/c/src"))?;
    if sources.is_empty() {
        return Err("bindings/c/src has no C files".into());
    }
    let run_paths = ["@", "@/../../build/lib"];
    cc::Program { sources: &sources, output, library, run_paths: &run_paths, optimize: true }.compile()
}

/// A question in the chat markup of the model that `model::fetch` brings: it was trained to answer those.
const DEMO_PROMPT: &str = "<|im_start|>user\nWrite a short story about a lighthouse keeper.<|im_end|>\n\
                           <|im_start|>assistant\n";

/// Builds everything, fetches the model and streams an answer.
pub fn demo() -> Result {
    build()?;
    let model = model::fetch()?;
    sh::step("running: bindings/c/bench generate");
    sh::run(Command::new(executable()).args(["generate", "--model"]).arg(model).args([
        "--prompt",
        DEMO_PROMPT,
        "--max-tokens",
        "200",
    ]))
}
