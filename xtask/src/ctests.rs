//! The tests that need a C compiler and the library as users get it.
//!
//! Each C and C++ file of `tests/c` and of `bindings/c/examples` is a program of its own: it passes if
//! it exits with 0, and counts as skipped if it exits with 77. All run on the mock build of the library, and again under
//! valgrind where there is one. A file with a line `runs-on: mlx` runs on the MLX build instead,
//! one with `runs-on: mock mlx` on both, as does README's example. Programs are given:
//!
//! * as their first argument, a model that the build runs: the mock model, or a small real one (the
//!   examples also a prompt);
//! * in `QUIRE_TEST_MODEL`, the same; in `QUIRE_TEST_DATA`, the folder `tests/data`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::library::{self, Kind};
use crate::setup::{self, tools};
use crate::{Result, bench, cc, exports, model, readme, sh};

/// The two builds of the library that the programs run on.
const BUILDS: [(Kind, &str); 2] = [(Kind::Mock, "mock"), (Kind::Test, "mlx")];

/// What became of one run.
enum Outcome {
    Passed,
    Skipped,
    Failed(String),
}

impl From<Result> for Outcome {
    fn from(result: Result) -> Outcome {
        result.map_or_else(Outcome::Failed, |()| Outcome::Passed)
    }
}

pub fn run() -> Result {
    sh::step("compiling include/quire.h alone, as C11 and C++17");
    cc::check_header()?;

    let home = sh::root().join("build/tests");
    let programs = programs()?;
    let mut tally = Tally::default();
    for (kind, name) in BUILDS {
        let dir = home.join(name);
        let lib = dir.join("lib");
        sh::step(format!("building libquire for the C tests ({name})"));
        library::lay_out(kind, &lib)?;
        let exports = exports::check(&lib.join(library::FILE));
        tally.count(&format!("{name}: exports match the header"), exports.into());

        let valgrind = kind == Kind::Mock && has_valgrind()?;
        let model = if kind == Kind::Mock { data().join("mock-model") } else { model::fetch()? };
        for program in programs.iter().filter(|program| program.builds.iter().any(|build| build == name)) {
            let label = format!("{name}: {}", program.label);
            let output = dir.join(&program.label).with_extension("");
            if let Err(problem) = compile(&program.source, &output, &dir) {
                tally.count(&label, Outcome::Failed(problem));
                continue;
            }
            let run = |command: &mut Command| outcome(command.arg(&model).args(program.arguments), &model);
            tally.count(&label, run(&mut Command::new(&output))?);
            if valgrind {
                tally.count(&format!("{label} (valgrind)"), run(&mut under_valgrind(&output))?);
            }
        }
    }
    // The CUDA build of MLX stays where set-up put it.
    if !(cfg!(target_os = "linux") && library::is_cuda(&setup::runtime_folder()?)) {
        copied_folder_runs(&home, &mut tally)?;
    }
    tally.finish()
}

/// A C or C++ file that is a program.
struct Program {
    source: PathBuf,
    /// Its path for people, as in `tests/cancel.c`.
    label: String,
    builds: Vec<String>,
    /// What it is given besides a model.
    arguments: &'static [&'static str],
}

fn programs() -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    let folders: [(&str, &str, &[&str]); 2] =
        [("tests", "tests/c", &[]), ("examples", "bindings/c/examples", &["Hello"])];
    for (name, folder, arguments) in folders {
        for source in cc::sources(&sh::root().join(folder))? {
            let label = format!("{name}/{}", sh::file_name(&source));
            let builds = builds_named_in(&source)?;
            programs.push(Program { source, label, builds, arguments });
        }
    }
    Ok(programs)
}

/// Compiles a program to `output`, in a folder of `build`, whose `lib` has the library.
fn compile(source: &Path, output: &Path, build: &Path) -> Result {
    let (sources, run_paths, library) = ([source.to_owned()], ["@/../lib"], build.join("lib"));
    cc::Program { sources: &sources, output, library: &library, run_paths: &run_paths, optimize: false }
        .compile()
}

/// The library and its neighbours, copied to an empty folder, are enough to run.
fn copied_folder_runs(home: &Path, tally: &mut Tally) -> Result {
    sh::step("running from a copy in an empty folder");
    let copy = home.join("copied");
    sh::remove_dir(&copy)?;
    sh::create_dir(&copy)?;
    for file in sh::files(&home.join("mlx/lib"))? {
        sh::copy(&file, &copy.join(sh::file_name(&file)))?;
    }
    let library = copy.join(library::FILE);
    if cfg!(target_os = "linux") {
        let found = loads_from_its_folder(&library, &copy);
        tally.count("copied: every library is found in the folder or the system", found.into());
    }
    let driver = copy.join("bench");
    bench::compile(&copy, &driver)?;
    let model = model::fetch()?;
    let mut command = Command::new(&driver);
    command.args(["generate", "--model"]).arg(&model).args(["--prompt", "Hello", "--max-tokens", "4"]);
    tally.count("copied: bench generate", outcome(&mut command, &model)?);
    tally.count("copied: bench generate --chat --schema", generates_by_schema(&driver, &model, &copy).into());
    Ok(())
}

/// Everything that shapes an answer, in one call of the driver.
fn generates_by_schema(driver: &Path, model: &Path, folder: &Path) -> Result {
    let schema = folder.join("schema.json");
    sh::write_if_changed(&schema, r#"{"enum": ["yes or no"]}"#)?;
    let mut command = Command::new(driver);
    command.args(["generate", "--json", "--model"]).arg(model).arg("--schema").arg(&schema);
    command.args([
        "--chat",
        "--system",
        "Be brief.",
        "--prompt",
        "Is it?",
        "--stop",
        " or",
        "--logprobs",
        "2",
    ]);
    let said = sh::output(&mut command)?;
    for expected in [r#""text": "\"yes""#, r#""finish": "stop string""#, r#""logprob": "#] {
        if !said.contains(expected) {
            return Err(format!("no {expected} in\n{said}"));
        }
    }
    Ok(())
}

/// An error that lists what the loader takes from outside `folder` beyond the C and C++ runtimes, or
/// does not find.
fn loads_from_its_folder(library: &Path, folder: &Path) -> Result {
    const SYSTEM: [&str; 7] =
        ["linux-vdso.so", "ld-linux-", "libc.so", "libm.so", "libgcc_s.so", "libstdc++.so", "libcuda.so"];
    // Copies of the same names elsewhere must not help.
    let said = sh::output(Command::new("ldd").arg(library).env_remove("LD_LIBRARY_PATH"))?;
    let stray = |line: &&str| {
        let name = sh::file_name(Path::new(line.split_whitespace().next().unwrap_or_default()));
        !line.contains(&*folder.to_string_lossy()) && !SYSTEM.iter().any(|system| name.starts_with(system))
    };
    let strays: Vec<&str> = said.lines().filter(stray).map(str::trim).collect();
    if strays.is_empty() { Ok(()) } else { Err(strays.join("\n")) }
}

/// The builds a program runs on, from the line in it that says so.
fn builds_named_in(source: &Path) -> Result<Vec<String>> {
    if sh::file_name(source) == readme::EXAMPLE {
        return Ok(BUILDS.map(|(_, name)| name.to_owned()).to_vec());
    }
    let text = sh::read(source)?;
    let Some((_, after)) = text.split_once("runs-on:") else { return Ok(vec!["mock".into()]) };
    let line = after.lines().next().unwrap_or_default().trim_end_matches("*/");
    let builds: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let known = |build: &String| BUILDS.iter().any(|(_, name)| name == build);
    if builds.is_empty() || !builds.iter().all(known) {
        return Err(format!("{}: runs-on: expected mock, mlx or both, found '{line}'", source.display()));
    }
    Ok(builds)
}

fn has_valgrind() -> Result<bool> {
    // On macOS valgrind does not run; the leaks are the same ones.
    if !cfg!(target_os = "linux") {
        return Ok(false);
    }
    tools::ensure_valgrind()?;
    Ok(true)
}

fn under_valgrind(program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=99", "--leak-check=full"]);
    // "Possible" leaks are interior pointers, which the Rust runtime's thread records are.
    command.args(["--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"]);
    // What dependencies do that only looks wrong.
    let mut known = OsString::from("--suppressions=");
    known.push(sh::root().join("tests/c/valgrind.supp"));
    command.arg(known);
    command.arg(program);
    command
}

/// The folder of test data.
fn data() -> PathBuf {
    sh::root().join("tests/data")
}

fn outcome(command: &mut Command, model: &Path) -> Result<Outcome> {
    command.env("QUIRE_TEST_DATA", data()).env("QUIRE_TEST_MODEL", model).stdin(Stdio::null());
    let program = command.get_program().to_string_lossy().into_owned();
    let ran = command.output().map_err(|e| format!("{program}: {e}"))?;
    Ok(match ran.status.code() {
        Some(0) => Outcome::Passed,
        Some(77) => Outcome::Skipped,
        _ => {
            let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
            Outcome::Failed(format!("{}\n{out}{err}", ran.status))
        }
    })
}

#[derive(Default)]
struct Tally {
    passed: usize,
    skipped: usize,
    failed: usize,
}

impl Tally {
    fn count(&mut self, what: &str, outcome: Outcome) {
        match outcome {
            Outcome::Passed => {
                self.passed += 1;
                println!("test {what} ... ok");
            }
            Outcome::Skipped => {
                self.skipped += 1;
                println!("test {what} ... skipped");
            }
            Outcome::Failed(said) => {
                self.failed += 1;
                println!("test {what} ... FAILED\n{}\n", said.trim_end());
            }
        }
    }

    fn finish(self) -> Result {
        let Tally { passed, skipped, failed } = self;
        println!("\nC tests: {passed} passed; {failed} failed; {skipped} skipped\n");
        if failed == 0 { Ok(()) } else { Err(format!("{failed} C tests failed")) }
    }
}
