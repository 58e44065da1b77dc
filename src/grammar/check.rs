//! What is refused before the grammar library sees it: too long, too deep, cut off.

use serde_json::Value;

use super::{Grammar, GrammarKind, MAX_GRAMMAR_BYTES};
use crate::error::{Error, Result, Status};

/// Brackets within brackets in a regular expression or grammar. (JSON has a limit of its own, 128.)
const MAX_NESTING: usize = 128;

/// Longest regular expression in bytes, by itself or in a schema: compiling takes time in the square of it.
const MAX_REGEX_BYTES: usize = 64 << 10;

/// Most strings of a choice.
const MAX_CHOICES: usize = 10_000;

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(Status::GrammarInvalid, message)
}

/// Refuses a text of a length nobody needs, and brackets nested deeper than a parser's stack should go.
pub(super) fn check_text(grammar: &Grammar) -> Result<()> {
    let text = &grammar.text;
    if text.len() > MAX_GRAMMAR_BYTES {
        let len = text.len();
        return Err(invalid(format!("the grammar has {len} bytes, want at most {MAX_GRAMMAR_BYTES}")));
    }
    match grammar.kind {
        GrammarKind::JsonObject if !text.is_empty() => {
            Err(invalid("the grammar is any JSON object, and has a text; want none"))
        }
        GrammarKind::Regex => {
            check_length(text)?;
            check_nesting(text)?;
            check_end(text)
        }
        GrammarKind::Lark => check_nesting(text),
        _ => Ok(()),
    }
}

fn check_length(regex: &str) -> Result<()> {
    if regex.len() > MAX_REGEX_BYTES {
        let len = regex.len();
        return Err(invalid(format!(
            "the regular expression has {len} bytes, want at most {MAX_REGEX_BYTES}"
        )));
    }
    Ok(())
}

/// Refuses a schema with a regular expression that is too long.
pub(super) fn check_patterns(schema: &Value) -> Result<()> {
    match schema {
        Value::Array(items) => items.iter().try_for_each(check_patterns),
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            match (key.as_str(), value) {
                ("pattern", Value::String(regex)) => check_length(regex)?,
                ("patternProperties", Value::Object(schemas)) => {
                    schemas.keys().try_for_each(|regex| check_length(regex))?;
                }
                _ => {}
            }
            check_patterns(value)
        }),
        _ => Ok(()),
    }
}

/// Counts every bracket that no backslash precedes. Brackets in strings and classes count too: no sane text has
/// so many of them open.
fn check_nesting(text: &str) -> Result<()> {
    let (mut depth, mut escaped) = (0usize, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' => escaped = !escaped,
            b'(' | b'[' | b'{' if !escaped => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Err(invalid(format!(
                        "brackets are nested more than {MAX_NESTING} deep at byte {at} of the grammar"
                    )));
                }
            }
            b')' | b']' | b'}' if !escaped => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = escaped && byte == b'\\';
    }
    Ok(())
}

/// The library would drop a backslash that nothing follows.
fn check_end(regex: &str) -> Result<()> {
    let backslashes = regex.bytes().rev().take_while(|&byte| byte == b'\\').count();
    if backslashes % 2 == 1 {
        return Err(invalid(format!(
            "the regular expression ends within an escape, at byte {}",
            regex.len() - 1
        )));
    }
    Ok(())
}

/// Text that should be JSON. Errors name line and column.
pub(super) fn json(text: &str, what: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| invalid(format!("{what} is not JSON: {e}")))
}

/// The strings of a choice.
pub(super) fn choices(text: &str) -> Result<Vec<String>> {
    let value = json(text, "the list of choices")?;
    let Value::Array(items) = value else {
        return Err(invalid("the choices are not a JSON array of strings"));
    };
    if items.is_empty() || items.len() > MAX_CHOICES {
        let count = items.len();
        return Err(invalid(format!("there are {count} choices, want 1 to {MAX_CHOICES}")));
    }
    let read = |(i, item): (usize, Value)| match item {
        Value::String(text) if text.is_empty() => Err(invalid(format!("choice [{i}] is empty"))),
        Value::String(text) => Ok(text),
        _ => Err(invalid(format!("choice [{i}] is not a string"))),
    };
    items.into_iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: GrammarKind, text: &str) -> String {
        let error = check_text(&Grammar { kind, text: text.to_owned() }).unwrap_err();
        assert_eq!(error.status(), Status::GrammarInvalid);
        error.message().to_owned()
    }

    #[test]
    fn depth_length_and_loose_ends_are_refused() {
        assert!(error(GrammarKind::Regex, &"(".repeat(10_000)).contains("at byte 128"));
        assert!(error(GrammarKind::Lark, &format!("start: {}", "[".repeat(500))).contains("at byte 135"));
        assert!(error(GrammarKind::Regex, r"ab\\\").contains("at byte 4"));
        assert!(error(GrammarKind::Regex, &"a?".repeat(100_000)).contains("has 200000 bytes"));
        assert!(error(GrammarKind::JsonObject, "{}").contains("want none"));
        assert!(error(GrammarKind::Lark, &"a".repeat(MAX_GRAMMAR_BYTES + 1)).contains("1048577 bytes"));
        let fine =
            |text: &str| check_text(&Grammar { kind: GrammarKind::Regex, text: text.to_owned() }).unwrap();
        fine(&r"\(".repeat(500));
        fine(&"(a)".repeat(500));
        fine(r"a\\");
    }

    #[test]
    fn long_patterns_are_found_wherever_they_are() {
        let long = "a?".repeat(40_000);
        let pattern = serde_json::json!({ "type": "string", "pattern": long });
        let key = serde_json::json!({ "patternProperties": { long.as_str(): {} } });
        for schema in [&pattern, &key, &serde_json::json!({ "anyOf": [{ "items": pattern }] })] {
            assert!(check_patterns(schema).unwrap_err().message().contains("80000 bytes"));
        }
        check_patterns(&serde_json::json!({ "pattern": "^a$", "const": long })).unwrap();
    }

    #[test]
    fn choices_are_strings() {
        assert_eq!(choices(r#"["yes", "no\n"]"#).unwrap(), ["yes", "no\n"]);
        for (bad, names) in [
            ("[1]", "choice [0]"),
            (r#"["a", ""]"#, "choice [1]"),
            ("[]", "0 choices"),
            ("{}", "array"),
            ("[\"a\",", "line 1 column 5"),
        ] {
            assert!(choices(bad).unwrap_err().message().contains(names), "{bad}");
        }
    }
}
