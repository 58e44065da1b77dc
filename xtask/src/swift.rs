//! The Swift package's tests: on the mock build, again under ThreadSanitizer, and on MLX with a real model.
//!
//! Runs the `swift` of `PATH` if it is version 6 or later; on Linux else one in a Debian folder that
//! `native/swift-linux/swift.sh` makes. Where neither is to be had, the tests are skipped, and it says why.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::library::{self, Kind};
use crate::{Result, model, sh};

/// The exit code of a script that cannot do its work here.
const SKIPPED: i32 = 77;

pub fn test() -> Result {
    let Some(swift) = Swift::find()? else {
        println!("\nSwift tests: skipped, for there is no Swift 6 here (see above)\n");
        return Ok(());
    };
    let mock = lay_out(Kind::Mock, "mock")?;
    let mlx = lay_out(Kind::Test, "mlx")?;
    let on_mock = Run { build: "mock", lib: &mock, model: sh::root().join("tests/data/mock-model") };
    let on_mlx = Run { build: "mlx", lib: &mlx, model: model::fetch()? };

    sh::step("swift test (mock)");
    swift.run("test", swift.strictly(), &on_mock)?;
    sh::step("the tutorial's project (mock)");
    swift.run_in(&tutorial()?, "run", &["hello", &on_mock.model.display().to_string()], &on_mock)?;
    sh::step("swift test --sanitize=thread (mock)");
    let sanitized = ["--sanitize=thread", "--scratch-path", "bindings/swift/.build-tsan"];
    swift.run("test", &sanitized, &on_mock)?;
    check_sanitized()?;
    sh::step("swift test (mlx)");
    swift.run("test", swift.strictly(), &on_mlx)?;
    sh::step("the documentation");
    check_documentation(&swift, &on_mock)?;
    println!("\nSwift tests: passed on mock, mock under ThreadSanitizer, and mlx\n");
    Ok(())
}

/// The figure of `bindings/swift/Benchmarks/event-cost`: what the Swift layer adds to an event.
pub fn cost() -> Result {
    let Some(swift) = Swift::find()? else { return Err("there is no Swift 6 here".into()) };
    let lib = sh::root().join("build/swift/lib");
    sh::step("building libquire (mock, optimized)");
    library::lay_out(Kind::MockRelease, &lib)?;
    let run = Run { build: "mock", lib: &lib, model: sh::root().join("tests/data/mock-model") };
    let model = run.model.display().to_string();
    swift.run("run", &["--configuration", "release", "event-cost", &model], &run)
}

/// The project of the documentation's tutorial, as its reader ends up with it: a package that depends on ours.
fn tutorial() -> Result<PathBuf> {
    let root = sh::root();
    let files = root.join("bindings/swift/Sources/Quire/Quire.docc/Resources");
    let project = root.join("build/tests/swift-tutorial");
    let manifest = sh::read(&files.join("first-token-package.swift"))?;
    let here = manifest.replace("/path/to/quire", &root.display().to_string());
    sh::write_if_changed(&project.join("Package.swift"), &here)?;
    let program = sh::read(&files.join("first-token-4.swift"))?;
    sh::write_if_changed(&project.join("Sources/hello/main.swift"), &program)?;
    Ok(project)
}

fn check_documentation(swift: &Swift, run: &Run<'_>) -> Result {
    let mut command = swift.command(run);
    command.arg("bindings/swift/scripts/check-documentation.sh");
    let ended = command.status().map_err(|e| format!("check-documentation.sh: {e}"))?;
    match ended.code() {
        Some(0 | SKIPPED) => Ok(()),
        _ => Err(format!("bindings/swift/scripts/check-documentation.sh failed ({ended})")),
    }
}

/// An error if ThreadSanitizer is not in the tests that it should have watched.
fn check_sanitized() -> Result {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let tests = sh::root().join("bindings/swift/.build-tsan/debug/quirePackageTests.xctest");
    let bytes = std::fs::read(&tests).map_err(|e| format!("{}: {e}", tests.display()))?;
    let hook = b"__tsan_func_entry";
    if bytes.windows(hook.len()).any(|window| window == hook) {
        Ok(())
    } else {
        Err(format!("{} was built without ThreadSanitizer", tests.display()))
    }
}

/// What makes a warning an error.
const STRICT: [&str; 2] = ["-Xswiftc", "-warnings-as-errors"];

/// Where the C tests have the same builds.
fn lay_out(kind: Kind, name: &str) -> Result<PathBuf> {
    let lib = sh::root().join("build/tests").join(name).join("lib");
    sh::step(format!("building libquire for the Swift tests ({name})"));
    library::lay_out(kind, &lib)?;
    Ok(lib)
}

/// What a run of the package's programs is given.
struct Run<'a> {
    build: &'a str,
    /// The folder of the library.
    lib: &'a Path,
    model: PathBuf,
}

enum Swift {
    /// The one in `PATH`.
    Own,
    /// The one in the Debian folder.
    Folder,
}

impl Swift {
    fn find() -> Result<Option<Swift>> {
        let version = sh::output(Command::new("swift").arg("--version")).ok();
        match version.as_deref().and_then(major_version) {
            Some(6..) => return Ok(Some(Swift::Own)),
            Some(old) => println!("swift in PATH is version {old}; the package needs 6"),
            None => println!("there is no swift in PATH"),
        }
        if !cfg!(target_os = "linux") {
            return Ok(None);
        }
        let made = Command::new(script()).arg("make").status().map_err(|e| format!("swift.sh: {e}"))?;
        match made.code() {
            Some(0) => Ok(Some(Swift::Folder)),
            Some(SKIPPED) => Ok(None),
            _ => Err(format!("native/swift-linux/swift.sh make failed ({made})")),
        }
    }

    /// Arguments of a build that must have no warnings. Later compilers than the folder's may have new ones.
    fn strictly(&self) -> &'static [&'static str] {
        match self {
            Swift::Own => &[],
            Swift::Folder => &STRICT,
        }
    }

    /// Something to run where `swift` is, in the repository's root: the program and its arguments are to follow.
    fn command(&self, run: &Run<'_>) -> Command {
        let root = sh::root();
        let mut command = match self {
            Swift::Own => Command::new("env"),
            Swift::Folder => {
                let mut command = Command::new(script());
                command.arg("run").arg(&root);
                command
            }
        };
        command.args([
            format!("PKG_CONFIG_PATH={}", run.lib.join("pkgconfig").display()),
            format!("QUIRE_TEST_BUILD={}", run.build),
            format!("QUIRE_TEST_MODEL={}", run.model.display()),
            format!("QUIRE_TEST_DATA={}", root.join("tests/data").display()),
        ]);
        command.current_dir(root);
        command
    }

    /// Runs `swift VERB` on our package.
    fn run(&self, verb: &str, arguments: &[&str], run: &Run<'_>) -> Result {
        self.run_in(&sh::root().join("bindings/swift"), verb, arguments, run)
    }

    /// Runs `swift VERB` on a package.
    fn run_in(&self, package: &Path, verb: &str, arguments: &[&str], run: &Run<'_>) -> Result {
        let mut command = self.command(run);
        command.args(["swift", verb, "--package-path"]).arg(package);
        // Not LD_LIBRARY_PATH: macOS takes its like away from the programs that `swift` starts.
        let run_path = run.lib.display().to_string();
        command.args(["-Xlinker", "-rpath", "-Xlinker", &run_path]).args(arguments);
        sh::run(&mut command)
    }
}

fn script() -> PathBuf {
    sh::root().join("native/swift-linux/swift.sh")
}

/// The number in "Swift version 6.0.3 (...)".
fn major_version(said: &str) -> Option<u32> {
    let (_, after) = said.split_once("Swift version ")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn versions_are_read() {
        assert_eq!(major_version("Swift version 6.0.3 (swift-6.0.3-RELEASE)\nTarget: x"), Some(6));
        let apple = "swift-driver version: 1.120.5 Apple Swift version 6.1.2 (swiftlang-6.1.2)";
        assert_eq!(major_version(apple), Some(6));
        assert_eq!(major_version("OpenStack swift client"), None);
    }
}
