//! What the library exports is what the header declares, neither more nor less.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::{Result, sh};

/// Compares the library's exported symbols with the header's functions.
pub fn check(library: &Path) -> Result {
    let exported = exported(library)?;
    let declared = declared(&sh::read(&sh::root().join("include/quire.h"))?);
    let list = |names: Vec<&String>| names.iter().map(|name| format!("\n  {name}")).collect::<String>();
    let extra: Vec<_> = exported.difference(&declared).collect();
    if !extra.is_empty() {
        return Err(format!("{} exports what quire.h does not declare:{}", library.display(), list(extra)));
    }
    let lacking: Vec<_> = declared.difference(&exported).collect();
    if !lacking.is_empty() {
        return Err(format!("{} lacks what quire.h declares:{}", library.display(), list(lacking)));
    }
    Ok(())
}

fn exported(library: &Path) -> Result<BTreeSet<String>> {
    let mut nm = Command::new("nm");
    if cfg!(target_os = "macos") {
        nm.args(["-g", "-U", "-j"]);
    } else {
        nm.args(["--dynamic", "--defined-only", "--format=just-symbols"]);
    }
    let said = sh::output(nm.arg(library))?;
    let mut names: BTreeSet<String> = said
        .lines()
        .map(|line| if cfg!(target_os = "macos") { line.trim_start_matches('_') } else { line })
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if cfg!(target_os = "macos") {
        // mlx-rs marks it no_mangle, and Apple's linker offers no way to take it out again.
        names.remove("default_mlx_error_handler");
        // So does llguidance with its C interface.
        names.retain(|name| !name.starts_with("llg_"));
    }
    Ok(names)
}

/// The functions that a header declares: each `quire_name(` outside of comments.
fn declared(header: &str) -> BTreeSet<String> {
    let code = without_comments(header);
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("quire_") {
        let is_start = !code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let name: String =
            code[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if is_start && code[at + name.len()..].starts_with('(') {
            names.insert(name);
        }
    }
    names
}

fn without_comments(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(start) = rest.find('/') {
        let (before, comment) = rest.split_at(start);
        out.push_str(before);
        let end = if comment.starts_with("//") {
            comment.find('\n')
        } else if comment.starts_with("/*") {
            comment.find("*/").map(|end| end + 2)
        } else {
            out.push('/');
            Some(1)
        };
        rest = &comment[end.unwrap_or(comment.len())..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_and_nothing_else() {
        let header = "/* quire_not(this) */ // nor quire_this(\n\
                      typedef struct quire_engine quire_engine;\n\
                      typedef void (*quire_log_fn)(void *user_data, int a/b);\n\
                      quire_status quire_engine_create(const char *path,\n    quire_engine **out);\n\
                      const char *quire_version(void);\n";
        let names: Vec<String> = declared(header).into_iter().collect();
        assert_eq!(names, ["quire_engine_create", "quire_version"]);
    }
}
