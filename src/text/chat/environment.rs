//! The interpreter, set up as chat templates expect it.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

use super::{guard, json};

/// How deep a template may nest its own calls.
const MAX_RECURSION: usize = 200;

/// An interpreter without templates.
pub(super) fn new() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.unwrap_or_default());
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", json::filter);
    environment.add_filter(guard::FILTER, guard::measured);
    environment.add_test("iterable", |value: &Value| is_iterable(value.kind()));
    environment.add_test("sequence", |value: &Value| {
        is_iterable(value.kind()) && value.kind() != ValueKind::Iterable
    });
    environment.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
    });
    environment
}

/// As Jinja2 has it: `none` is not, a string and what is undefined are.
fn is_iterable(kind: ValueKind) -> bool {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    matches!(kind, Iterable | Map | Seq | String | Undefined)
}

/// Methods that Python's types have and the interpreter's do not.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match (name, args) {
            ("removeprefix", [affix]) => {
                let rest = affix.as_str().and_then(|affix| text.strip_prefix(affix));
                return Ok(rest.unwrap_or(text).into());
            }
            ("removesuffix", [affix]) => {
                let rest = affix.as_str().and_then(|affix| text.strip_suffix(affix));
                return Ok(rest.unwrap_or(text).into());
            }
            ("partition", [separator]) => {
                return Ok(parts(separator.as_str().and_then(|s| text.split_once(s)), separator, [text, ""]));
            }
            ("rpartition", [separator]) => {
                return Ok(parts(
                    separator.as_str().and_then(|s| text.rsplit_once(s)),
                    separator,
                    ["", text],
                ));
            }
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// What a partition gives: both sides of the separator with it between them, or the whole text at one end.
fn parts(found: Option<(&str, &str)>, separator: &Value, whole: [&str; 2]) -> Value {
    match found {
        Some((before, after)) => Value::from(vec![before.into(), separator.clone(), after.into()]),
        None if whole[0].is_empty() => Value::from_iter(["", "", whole[1]]),
        None => Value::from_iter([whole[0], "", ""]),
    }
}
