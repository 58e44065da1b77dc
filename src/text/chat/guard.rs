//! What keeps a template's values small.
//!
//! The interpreter's fuel pays for instructions and for bytes, but not for what lists share: `x = x + x` and
//! `x = [x, x]` cost next to nothing and double the work of whatever looks at `x` next. So every value that is
//! given a name is measured, and lists that are only put together when looked at are put together then.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use crate::error::Result as QuireResult;

/// The filter that measures; no template's own filter has this name.
pub(super) const FILTER: &str = "_measured";

/// Most values in a value.
const MAX_NODES: usize = 1_000_000;
/// Deepest nesting of a value.
const MAX_DEPTH: usize = 200;
/// How many values are measured for a unit of fuel.
const NODES_PER_FUEL: usize = 32;
/// Lists that an expression both repeats and joins so often are put together by the interpreter unmeasured.
const MAX_JOINS: usize = 30;

/// The value, if it is of a size that a conversation may be.
pub(super) fn measured(state: &State, value: Value) -> Result<Value, Error> {
    let mut left = MAX_NODES;
    count(&value, 0, &mut left)?;
    state.consume_fuel(((MAX_NODES - left) / NODES_PER_FUEL) as u64)?;
    match value.kind() {
        ValueKind::Iterable => Ok(Value::from(value.try_iter()?.collect::<Vec<_>>())),
        _ => Ok(value),
    }
}

fn count(value: &Value, depth: usize, left: &mut usize) -> Result<(), Error> {
    let kind = value.kind();
    let own = match kind {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => value.len().unwrap_or(0),
        _ => 0,
    };
    let too_large = |what: &str| Err(Error::new(ErrorKind::InvalidOperation, format!("a value {what}")));
    if own >= *left {
        return too_large("has too many parts");
    }
    if depth > MAX_DEPTH {
        return too_large("is nested too deep");
    }
    *left -= 1;
    match kind {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.try_for_each(|item| count(&item, depth + 1, left))
        }
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            let member = value.get_item(&key)?;
            count(&member, depth + 1, left)
        }),
        _ if *left == 0 => too_large("has too many parts"),
        _ => Ok(()),
    }
}

/// The template with every assignment measured, and with the marks that training puts around a model's own
/// words (`generation`, an extension of the reference's) made into blocks that do nothing. Lines stay lines.
pub(super) fn guard(place: &str, template: &str) -> QuireResult<String> {
    let mut out = String::with_capacity(template.len() + template.len() / 16);
    let mut rest = template;
    while let Some(at) = rest.find("{").filter(|at| at + 1 < rest.len()) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let end = match tag.as_bytes()[1] {
            b'#' => tag.find("#}").map(|end| end + 2),
            b'%' => end_of(tag, "%}"),
            b'{' => end_of(tag, "}}"),
            _ => {
                out.push('{');
                rest = &tag[1..];
                continue;
            }
        };
        let Some(end) = end else {
            // The interpreter will say what is wrong with it.
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        rest = after;
        if tag.starts_with("{#") {
            out.push_str(tag);
            continue;
        }
        check_joins(place, template, after, tag)?;
        match tag[2..end - 2].trim_matches(['-', '+']).split_whitespace().next() {
            Some("set") => out.push_str(&measured_assignment(tag)),
            Some("generation") if tag.starts_with("{%") => {
                out.push_str(&tag.replacen("generation", "if true", 1));
            }
            Some("endgeneration") if tag.starts_with("{%") => {
                out.push_str(&tag.replacen("endgeneration", "endif", 1));
            }
            Some("raw") if tag.starts_with("{%") => {
                out.push_str(tag);
                let raw = rest.find("endraw").unwrap_or(rest.len());
                out.push_str(&rest[..raw]);
                rest = &rest[raw..];
            }
            _ => out.push_str(tag),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where a tag ends: past `close`, outside of strings and brackets.
fn end_of(tag: &str, close: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut found = None;
    scan(&tag[2..], |at, byte| {
        if depth == 0 && tag[2 + at..].starts_with(close) {
            found = Some(2 + at + close.len());
            return false;
        }
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        true
    });
    found
}

/// Calls `visit` with every byte outside of strings, and its place, until it returns false.
fn scan(text: &str, mut visit: impl FnMut(usize, u8) -> bool) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        // Of a character of several bytes only the first counts: text is sliced where these are.
        if text.is_char_boundary(at) && !visit(at, byte) {
            return;
        }
        at += 1;
        if byte == b'"' || byte == b'\'' {
            while at < bytes.len() && bytes[at] != byte {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            at += 1;
        }
    }
}

/// `{% set a = b %}` with `b` measured; a `set` of a block of text as it is.
fn measured_assignment(tag: &str) -> String {
    let mut depth = 0_usize;
    let mut assignment = None;
    scan(tag, |at, byte| {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'=' if depth == 0 => {
                assignment = Some(at + 1);
                return false;
            }
            _ => {}
        }
        true
    });
    let Some(from) = assignment else { return tag.to_owned() };
    let to = if tag.ends_with("-%}") || tag.ends_with("+%}") { tag.len() - 3 } else { tag.len() - 2 };
    match tag.get(from..to) {
        Some(value) => format!("{} ({value})|{FILTER} {}", &tag[..from], &tag[to..]),
        None => tag.to_owned(),
    }
}

fn check_joins(place: &str, template: &str, after: &str, tag: &str) -> QuireResult<()> {
    let (mut joins, mut repeats) = (0, false);
    scan(&tag[2..tag.len() - 2], |_, byte| {
        joins += usize::from(byte == b'+');
        repeats |= byte == b'*';
        true
    });
    if joins < MAX_JOINS || !repeats {
        return Ok(());
    }
    let line = template[..template.len() - after.len()].matches('\n').count() + 1;
    let message = format!("{place}:{line}: an expression with '*' and {joins} times '+'");
    Err(crate::error::Error::new(crate::error::Status::TemplateError, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_assignments_and_marks_change() {
        let same = [
            "",
            "{",
            "a { b }} {{ x }} {% if a == 'set x = 1 %}' %}{# {% set x = 1 %} #}",
            "{% set x %}text{% endset %}",
            "{{ {'a': {'b': 1}} }}{% raw %}{% set x = 1 %}{% endraw %}",
            "{{ '%}' }}{% unfinished",
            "é {{ 'é' ~ \"{% generation %}\" }}",
        ];
        for text in same {
            assert_eq!(guard("", text).unwrap(), text);
        }
        for (text, guarded) in [
            ("{% set x = a['k=v'] == 1 %}y", "{% set x = ( a['k=v'] == 1 )|_measured %}y"),
            ("{%- set n.x=1, 2 -%}", "{%- set n.x= (1, 2 )|_measured -%}"),
            ("{%- set x = 'a -%}' -%}", "{%- set x = ( 'a -%}' )|_measured -%}"),
            ("{% generation %}a{%- endgeneration -%}", "{% if true %}a{%- endif -%}"),
        ] {
            assert_eq!(guard("", text).unwrap(), guarded);
        }
    }
}
