//! README's examples are programs of the test suites, word for word.

use crate::{Result, sh};

/// The C example's file in tests/c.
pub const EXAMPLE: &str = "readme_example.c";

/// What README shows: the language of a block, which of that language's blocks it is, and the file that it is.
const EXAMPLES: [(&str, usize, &str); 3] = [
    ("c", 0, "tests/c/readme_example.c"),
    ("swift", 0, "bindings/swift/Examples/readme-example/main.swift"),
    ("swift", 1, "bindings/swift/Examples/readme-example/Conversation.swift"),
];

/// Puts the examples into README.md, or with `check` only compares them.
pub fn run(check: bool) -> Result {
    let path = sh::root().join("README.md");
    let readme = sh::read(&path)?;
    let mut fresh = readme.clone();
    for (language, index, file) in EXAMPLES {
        let example = sh::read(&sh::root().join(file))?;
        fresh = with_example(&fresh, language, index, &example)
            .ok_or_else(|| format!("README.md has no block {index} of {language}, where {file} would be"))?;
        if check && fresh != readme {
            return Err(format!("README.md's example is not {file}: run `make header` and commit it"));
        }
    }
    sh::write_if_changed(&path, &fresh).map(drop)
}

/// The text with a block of a language replaced; nothing if it has none.
fn with_example(readme: &str, language: &str, index: usize, example: &str) -> Option<String> {
    let opening = format!("```{language}\n");
    let (at, _) = readme.match_indices(&opening).nth(index)?;
    let start = at + opening.len();
    let end = start + readme[start..].find("```\n")?;
    Some(format!("{}{example}{}", &readme[..start], &readme[end..]))
}

#[cfg(test)]
mod tests {
    use super::with_example;

    #[test]
    fn only_the_block_that_is_named_changes() {
        let readme = "a\n```\nmake\n```\n```c\nold();\n```\nb\n```c\nkept();\n```\n";
        let fresh = "a\n```\nmake\n```\n```c\nnew();\n```\nb\n```c\nkept();\n```\n";
        assert_eq!(with_example(readme, "c", 0, "new();\n").as_deref(), Some(fresh));
        let fresh = "a\n```\nmake\n```\n```c\nold();\n```\nb\n```c\nnew();\n```\n";
        assert_eq!(with_example(readme, "c", 1, "new();\n").as_deref(), Some(fresh));
        assert_eq!(with_example(readme, "c", 2, "x"), None);
        assert_eq!(with_example("no block", "c", 0, "x"), None);
    }
}
