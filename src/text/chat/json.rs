//! JSON as Python's `json.dumps` writes it, which is what chat templates were trained with.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// How deep a value may be nested.
const MAX_DEPTH: usize = 500;

/// The filter `tojson`, with the reference's arguments: `ensure_ascii`, `indent`, `separators`, `sort_keys`.
pub(super) fn filter(
    state: &State,
    value: &Value,
    positional: Rest<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let argument = |at: usize, name: &str| -> Result<Value, Error> {
        let named = named.get::<Option<Value>>(name)?;
        Ok(named.or_else(|| positional.get(at).cloned()).unwrap_or_else(|| Value::from(())))
    };
    let mut style = Style {
        ascii: argument(0, "ensure_ascii")?.is_true(),
        indent: indent(&argument(1, "indent")?)?,
        item_separator: ", ".into(),
        key_separator: ": ".into(),
        sorted: argument(3, "sort_keys")?.is_true(),
    };
    if style.indent.is_some() {
        style.item_separator = ",".into();
    }
    let separators = argument(2, "separators")?;
    if !separators.is_none() {
        style.item_separator = separators.get_item_by_index(0)?.to_string();
        style.key_separator = separators.get_item_by_index(1)?.to_string();
    }
    named.assert_all_used()?;
    let mut out = String::new();
    style.write(&mut out, state, value, 0)?;
    Ok(out)
}

/// What one level is indented by; `None`: all on one line.
fn indent(value: &Value) -> Result<Option<String>, Error> {
    const MAX_INDENT: usize = 64;
    if value.is_none() {
        return Ok(None);
    }
    if let Some(text) = value.as_str() {
        return Ok(Some(text.to_owned()));
    }
    match value.as_usize() {
        Some(spaces) if spaces <= MAX_INDENT => Ok(Some(" ".repeat(spaces))),
        _ => Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: indent is {value}"))),
    }
}

struct Style {
    ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sorted: bool,
}

impl Style {
    fn write(&self, out: &mut String, state: &State, value: &Value, depth: usize) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::new(ErrorKind::BadSerialization, what.to_owned()));
        if depth > MAX_DEPTH {
            return refuse("tojson: the value is nested too deep");
        }
        let before = out.len();
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => number(out, value),
            ValueKind::String => self.string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item));
                return self.container(out, state, ['[', ']'], items, depth);
            }
            ValueKind::Map => {
                let mut members = Vec::new();
                for key in value.try_iter()? {
                    let member = value.get_item(&key)?;
                    members.push((Some(key_text(&key)?), member));
                }
                if self.sorted {
                    members.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                return self.container(out, state, ['{', '}'], members.into_iter(), depth);
            }
            ValueKind::Undefined => return refuse("tojson: the value is undefined"),
            kind => return refuse(&format!("tojson: a {kind} has no JSON")),
        }
        state.consume_fuel(1 + (out.len() - before) as u64 / 4)
    }

    fn container(
        &self,
        out: &mut String,
        state: &State,
        brackets: [char; 2],
        items: impl Iterator<Item = (Option<String>, Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        out.push(brackets[0]);
        let mut empty = true;
        for (key, item) in items {
            if !empty {
                out.push_str(&self.item_separator);
            }
            empty = false;
            self.line(out, depth + 1);
            if let Some(key) = key {
                self.string(out, &key);
                out.push_str(&self.key_separator);
                state.consume_fuel(1 + key.len() as u64 / 4)?;
            }
            self.write(out, state, &item, depth + 1)?;
        }
        if !empty {
            self.line(out, depth);
        }
        out.push(brackets[1]);
        state.consume_fuel(1)
    }

    fn line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Into a string; cannot fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A member's name; Python writes other keys than strings as their JSON.
fn key_text(key: &Value) -> Result<String, Error> {
    let mut text = String::new();
    match key.kind() {
        ValueKind::String => text.push_str(key.as_str().unwrap_or_default()),
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if key.is_true() { "true" } else { "false" }),
        ValueKind::Number => number(&mut text, key),
        kind => {
            return Err(Error::new(ErrorKind::BadSerialization, format!("tojson: a {kind} is no key")));
        }
    }
    Ok(text)
}

fn number(out: &mut String, value: &Value) {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => out.push_str(&python_float(float)),
        _ => out.push_str(&value.to_string()),
    }
}

/// A float as Python's `repr` and JSON have it: the fewest digits that tell it from others, with an exponent
/// below 1e-4 and from 1e16 on.
fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_pythons() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (123456789012345.0, "123456789012345.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e300, "1.25e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(python_float(value), text);
        }
    }
}
