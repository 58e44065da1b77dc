//! The programs and libraries that the build needs from the system, and how to get them.
//!
//! Whatever is missing is installed in one go through apt-get; without it (another distribution,
//! no root) the error names each missing thing and its Debian package.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, sh};

/// Something the system must provide.
struct Need {
    what: &'static str,
    package: &'static str,
    present: bool,
}

/// Makes sure that everything the Linux build needs is there. No apt-get call if it is.
pub fn ensure_linux(openblas_wanted: bool) -> Result {
    let needs = || {
        let mut needs = vec![
            program("cmake", "cmake"),
            program("make", "make"),
            program("c++", "g++"),
            program("patchelf", "patchelf"),
            program("pkg-config", "pkg-config"),
            program("python3", "python3"),
            pip(),
            Need { what: "libclang", package: "libclang-dev", present: has_libclang() },
        ];
        if sh::which("c++").is_none() || !has_header("format") {
            needs.push(Need {
                what: "{fmt} (the C++ compiler has no <format>)",
                package: "libfmt-dev",
                present: has_header("fmt/format.h"),
            });
        }
        if openblas_wanted {
            needs.push(Need {
                what: "OpenBLAS",
                package: "libopenblas0-pthread",
                present: openblas().is_some(),
            });
        }
        needs
    };
    ensure(needs)
}

/// Makes sure that valgrind is there, for the tests that use it.
pub fn ensure_valgrind() -> Result {
    ensure(|| vec![program("valgrind", "valgrind")])
}

/// Makes sure that pip is there.
pub fn ensure_pip() -> Result {
    ensure(|| vec![program("python3", "python3"), pip()])
}

/// Makes sure that the programs of the macOS build are there; they are not ours to install.
pub fn ensure_macos() -> Result {
    if !sh::succeeds(Command::new("xcode-select").arg("-p")) {
        return Err(
            "the Xcode command line tools are missing; install them with: xcode-select --install".into()
        );
    }
    if !sh::succeeds(Command::new("xcrun").args(["-sdk", "macosx", "metal", "--version"])) {
        return Err("the Metal compiler is missing; install Xcode, and with Xcode 26 or later run: \
                    xcodebuild -downloadComponent MetalToolchain"
            .into());
    }
    if sh::which("cmake").is_none() {
        return Err("cmake is missing; install it, for example with: brew install cmake".into());
    }
    Ok(())
}

fn program(name: &'static str, package: &'static str) -> Need {
    Need { what: name, package, present: sh::which(name).is_some() }
}

fn pip() -> Need {
    Need {
        what: "pip (python3 -m pip)",
        package: "python3-pip",
        present: sh::succeeds(Command::new("python3").args(["-m", "pip", "--version"])),
    }
}

fn ensure(needs: impl Fn() -> Vec<Need>) -> Result {
    let missing = missing(&needs());
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.1).collect();
    let listed = |missing: &[(&str, &str)]| {
        missing.iter().map(|(what, package)| format!("  {what} (package {package})\n")).collect::<String>()
    };
    let by_hand = format!(
        "missing:\n{}install them, on Debian or Ubuntu with:\n  apt-get install {}",
        listed(&missing),
        packages.join(" ")
    );

    if sh::which("apt-get").is_none() {
        return Err(by_hand);
    }
    let root = sh::output(Command::new("id").arg("-u"))?.trim() == "0";
    if !root && sh::which("sudo").is_none() {
        return Err(format!("{by_hand}\n(not root, and there is no sudo)"));
    }
    let apt = |args: &[&str]| {
        let mut command = if root { Command::new("env") } else { Command::new("sudo") };
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(args);
        sh::run(&mut command)
    };
    sh::step(format!("installing {}", packages.join(", ")));
    apt(&["update", "-q"]).map_err(|e| format!("{e}\n{by_hand}"))?;
    let install = ["install", "-q", "-y", "--no-install-recommends"];
    apt(&[&install, packages.as_slice()].concat()).map_err(|e| format!("{e}\n{by_hand}"))?;

    // A compiler that has just arrived may bring a need of its own ({fmt}), or satisfy one.
    let still: Vec<_> = self::missing(&needs());
    match still.iter().find(|need| missing.contains(need)) {
        Some(_) => Err(format!("after apt-get install, still missing:\n{}", listed(&still))),
        None if still.is_empty() => Ok(()),
        None => ensure(needs),
    }
}

fn missing(needs: &[Need]) -> Vec<(&'static str, &'static str)> {
    needs.iter().filter(|need| !need.present).map(|need| (need.what, need.package)).collect()
}

/// Whether the C++ compiler finds this header.
fn has_header(header: &str) -> bool {
    let source = format!("__has_include(<{header}>)");
    let script = format!("printf '#if !{source}\\n#error\\n#endif\\n' | c++ -std=c++20 -x c++ -E -");
    sh::succeeds(Command::new("sh").args(["-c", &script]))
}

/// Debian's name of this machine's kind, as in `/usr/lib/x86_64-linux-gnu`.
fn multiarch() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

/// Whether bindgen will find a libclang: where its loader looks, as far as Linux is concerned.
fn has_libclang() -> bool {
    let mut dirs: Vec<PathBuf> = std::env::var_os("LIBCLANG_PATH").into_iter().map(PathBuf::from).collect();
    dirs.extend(["/usr/lib64", "/usr/lib"].map(PathBuf::from));
    dirs.push(Path::new("/usr/lib").join(multiarch()));
    if let Ok(entries) = std::fs::read_dir("/usr/lib") {
        let versions = entries.flatten().map(|entry| entry.path());
        dirs.extend(versions.filter(|dir| sh::file_name(dir).starts_with("llvm")).map(|dir| dir.join("lib")));
    }
    dirs.iter().any(|dir| {
        sh::files(dir).is_ok_and(|files| files.iter().any(|file| is_libclang(&sh::file_name(file))))
    })
}

/// Whether a file of this name is the C interface of clang, not the C++ one that comes with lldb and others.
fn is_libclang(name: &str) -> bool {
    let versioned = name.starts_with("libclang-") && !name.starts_with("libclang-cpp");
    name.starts_with("libclang.so") || versioned && name.contains(".so")
}

/// The distribution's multi-threaded OpenBLAS, if installed.
pub fn openblas() -> Option<PathBuf> {
    let debian = Path::new("/usr/lib").join(multiarch());
    [debian.join("openblas-pthread"), debian, PathBuf::from("/usr/lib64")]
        .into_iter()
        .map(|dir| dir.join("libopenblas.so.0"))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::is_libclang;

    #[test]
    fn only_the_c_interface_of_clang_counts() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so.14.0.6", "libclang-14.so"] {
            assert!(is_libclang(name), "{name}");
        }
        for name in ["libclang-cpp.so.14", "libclang-cpp.so", "libclangBasic.a", "libclang.a"] {
            assert!(!is_libclang(name), "{name}");
        }
    }
}
