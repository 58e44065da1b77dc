//! Compiling C and C++ programs against the public header.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, sh};

/// What every C and C++ file of ours, and the header in it, must compile under.
const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];

fn compiler(cpp: bool) -> Command {
    let (variable, default, standard) =
        if cpp { ("CXX", "c++", "-std=c++17") } else { ("CC", "cc", "-std=c11") };
    let program = std::env::var(variable).ok().filter(|name| !name.is_empty());
    let mut command = Command::new(program.as_deref().unwrap_or(default));
    command.arg(standard).args(STRICT).arg("-I").arg(sh::root().join("include"));
    command
}

/// Whether this is a C++ file.
pub fn is_cpp(source: &Path) -> bool {
    source.extension().is_some_and(|e| e == "cpp")
}

/// The C and C++ files of a folder, none if there is no such folder.
pub fn sources(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = sh::files(dir)?;
    files.retain(|path| path.extension().is_some_and(|e| e == "c" || e == "cpp"));
    Ok(files)
}

/// A program to compile and link with libquire.
pub struct Program<'a> {
    pub sources: &'a [PathBuf],
    /// The executable.
    pub output: &'a Path,
    /// The folder of the library to link.
    pub library: &'a Path,
    /// Where the executable looks for the library when run, in order. `@` stands for its own folder.
    pub run_paths: &'a [&'a str],
    pub optimize: bool,
}

impl Program<'_> {
    pub fn compile(&self) -> Result {
        if let Some(dir) = self.output.parent() {
            sh::create_dir(dir)?;
        }
        let mut command = compiler(self.sources.iter().any(|source| is_cpp(source)));
        command.arg("-g").arg(if self.optimize { "-O2" } else { "-O0" });
        command.args(self.sources).arg("-o").arg(self.output);
        command.arg("-L").arg(self.library).arg("-lquire").args(["-lm", "-lpthread"]);
        let here = if cfg!(target_os = "macos") { "@loader_path" } else { "$ORIGIN" };
        for path in self.run_paths {
            command.arg(format!("-Wl,-rpath,{}", path.replace('@', here)));
        }
        if cfg!(target_os = "linux") {
            // Where the linker finds what the library itself is linked to.
            command.arg(format!("-Wl,-rpath-link,{}", self.library.display()));
        }
        sh::run(&mut command)
    }
}

/// Compiles the public header alone, as C and as C++.
pub fn check_header() -> Result {
    for (language, cpp) in [("c", false), ("c++", true)] {
        let command = compiler(cpp);
        // Through a file that includes it, as users do.
        let script = format!("echo '#include \"quire.h\"' | \"$0\" \"$@\" -x {language} -fsyntax-only -");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(command.get_program()).args(command.get_args());
        sh::run(&mut shell)?;
    }
    Ok(())
}
