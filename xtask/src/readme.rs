//! README's C example is a program of the test suite, `tests/c/readme_example.c`, word for word.

use crate::{Result, sh};

/// The example's file in tests/c.
pub const EXAMPLE: &str = "readme_example.c";

const OPENING: &str = "```c\n";
const CLOSING: &str = "```\n";

/// Puts the example into README.md, or with `check` only compares the two.
pub fn run(check: bool) -> Result {
    let path = sh::root().join("README.md");
    let readme = sh::read(&path)?;
    let example = sh::read(&sh::root().join("tests/c").join(EXAMPLE))?;
    let fresh = with_example(&readme, &example).ok_or("README.md has no C block (```c)")?;
    if check && fresh != readme {
        return Err(
            "README.md's example is not tests/c/readme_example.c: run `make header` and commit it".into()
        );
    }
    sh::write_if_changed(&path, &fresh).map(drop)
}

/// The text with its first C block replaced; nothing if it has none.
fn with_example(readme: &str, example: &str) -> Option<String> {
    let start = readme.find(OPENING)? + OPENING.len();
    let end = start + readme[start..].find(CLOSING)?;
    Some(format!("{}{example}{}", &readme[..start], &readme[end..]))
}

#[cfg(test)]
mod tests {
    use super::with_example;

    #[test]
    fn only_the_first_c_block_changes() {
        let readme = "a\n```\nmake\n```\n```c\nold();\n```\nb\n```c\nkept();\n```\n";
        let fresh = "a\n```\nmake\n```\n```c\nnew();\n```\nb\n```c\nkept();\n```\n";
        assert_eq!(with_example(readme, "new();\n").as_deref(), Some(fresh));
        assert_eq!(with_example("no block", "x"), None);
    }
}
