//! `include/quire.h`: generated from `src/ffi`, one section a file, under a page of prose.

use std::fmt::Write;
use std::path::Path;

use crate::{Result, sh};

/// The files of `src/ffi` that hold exported items, in the order in which one reads a header.
const SECTIONS: [(&str, &str); 12] = [
    ("version", "Version"),
    ("error", "Statuses and errors"),
    ("log", "Logging"),
    ("options", "Engine options"),
    ("engine", "Engines"),
    ("chat", "Conversations"),
    ("request", "Requests"),
    ("event", "Events"),
    ("info", "Statistics and model information"),
    ("text", "Tokens and text"),
    ("detokenizer", "Streaming detokenizers"),
    ("cache", "The prefix cache on disk"),
];

/// Writes the header, or with `check` only compares it with what is there.
pub fn run(check: bool) -> Result {
    let root = sh::root();
    let path = root.join("include/quire.h");
    let fresh = generate(&root)?;
    if check {
        let committed = sh::read(&path)?;
        if committed == fresh {
            println!("include/quire.h is what src/ffi says");
            return Ok(());
        }
        let line = committed.lines().zip(fresh.lines()).take_while(|(a, b)| a == b).count() + 1;
        return Err(format!(
            "include/quire.h differs from src/ffi from line {line} on: run `make header` and commit it"
        ));
    }
    sh::write_if_changed(&path, &fresh)?;
    println!("wrote include/quire.h");
    Ok(())
}

fn generate(root: &Path) -> Result<String> {
    let ffi = root.join("src/ffi");
    let opening = sh::read(&ffi.join("header/opening.h"))?;
    let mut header = format!(
        "{}\n#ifndef QUIRE_H\n#define QUIRE_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n{}",
        opening,
        "/* Handles: made and freed by the library, never looked into. */\n\
         typedef struct quire_engine quire_engine;\ntypedef struct quire_error quire_error;\n\
         typedef struct quire_event quire_event;\n\
         typedef struct quire_detokenizer quire_detokenizer;\n"
    );
    for (file, title) in SECTIONS {
        let section = section(root, &ffi.join(format!("{file}.rs")))?;
        let _ = write!(header, "\n\n/* {title} {} */\n\n{section}", "-".repeat(98 - title.len()));
    }
    header.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif /* QUIRE_H */\n");
    Ok(header)
}

fn section(root: &Path, source: &Path) -> Result<String> {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml"))?;
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(source)
        .generate()
        .map_err(|e| format!("{}: {e}", source.display()))?;
    let mut raw = Vec::new();
    bindings.write(&mut raw);
    let raw = String::from_utf8(raw).map_err(|e| format!("{}: {e}", source.display()))?;
    let items: Vec<&str> = raw.trim().split("\n\n").collect();
    for item in &items {
        check_documented(source, item)?;
    }
    let rust = sh::read(source)?;
    Ok(order(&items, &rust).iter().map(|item| tidy(item)).collect::<Vec<_>>().join("\n"))
}

/// Every item of the header, and every field of a struct, has a comment above it.
fn check_documented(source: &Path, item: &str) -> Result {
    let is_handle = item.lines().any(|line| line.starts_with("typedef struct ") && line.ends_with(';'));
    let mut lines = item.lines().peekable();
    let first = lines.peek().is_some_and(|line| line.starts_with("//"));
    let mut previous = "";
    let mut fields = true;
    let in_struct = item.contains("typedef struct") && item.contains('{');
    for line in lines {
        let is_field = in_struct && line.starts_with("    ") && line.ends_with(';');
        fields &= !is_field || previous.trim_start().starts_with("//");
        previous = line;
    }
    if is_handle || (first && fields) {
        return Ok(());
    }
    Err(format!("{}: something here has no description:\n{item}", source.display()))
}

/// cbindgen puts constants behind all types; we put each behind the type it is a value of.
fn order<'a>(items: &[&'a str], rust: &str) -> Vec<&'a str> {
    let value_of = |item: &str| {
        let name = item.lines().find_map(|line| line.strip_prefix("#define "))?.split(' ').next()?;
        let declaration = rust.lines().find_map(|line| line.strip_prefix(&format!("pub const {name}: ")))?;
        declaration.split(' ').next().map(str::to_owned)
    };
    let is_typedef_of = |item: &str, name: &str| item.ends_with(&format!(" {name};")) && !item.contains('(');
    let mut ordered: Vec<&str> = Vec::new();
    let (constants, others): (Vec<&str>, Vec<&str>) = items.iter().partition(|item| {
        value_of(item).is_some_and(|name| items.iter().any(|other| is_typedef_of(other, &name)))
    });
    for other in others {
        ordered.push(other);
        ordered
            .extend(constants.iter().filter(|c| value_of(c).is_some_and(|name| is_typedef_of(other, &name))));
    }
    ordered
}

/// Takes out what only Rust readers need: the `# Safety`
/// paragraphs (said once, in the opening page) and the back-quotes of Rust's Markdown.
fn tidy(raw: &str) -> String {
    let mut out = String::new();
    let mut in_safety = false;
    for line in raw.trim().lines() {
        let comment = line.trim_start().strip_prefix("//");
        if comment.is_some_and(|c| c.trim() == "# Safety") {
            in_safety = true;
            while out.ends_with("//\n") {
                out.truncate(out.len() - "//\n".len());
            }
            continue;
        }
        if in_safety && comment.is_some() {
            continue;
        }
        in_safety = false;
        match comment {
            Some(_) => out.push_str(&line.replace('`', "")),
            None if line.starts_with("typedef") => out.push_str(line),
            None => out.push_str(&line.replace("struct quire_", "quire_")),
        }
        out.push('\n');
    }
    out
}
