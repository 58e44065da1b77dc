//! Tool calls, once they are complete.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::format::AnswerFormat;

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// Its arguments, a JSON object.
    pub arguments: String,
}

/// What stands between a pair of marks.
pub(super) enum Read {
    Call(ToolCall),
    /// JSON that goes on behind the mark.
    Unfinished,
    Unknown,
}

#[derive(Deserialize)]
struct Json<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'a RawValue>,
}

/// A call between `<tool_call>` and `</tool_call>`.
pub(super) fn tagged(text: &str, format: &AnswerFormat) -> Read {
    let text = text.trim();
    if text.starts_with("<function=") {
        return function(text, format).map_or(Read::Unknown, Read::Call);
    }
    match serde_json::from_str::<Json<'_>>(text) {
        Ok(call) => from_json(call).map_or(Read::Unknown, Read::Call),
        Err(e) if e.is_eof() && text.starts_with('{') => Read::Unfinished,
        Err(_) => Read::Unknown,
    }
}

/// A call that is JSON.
pub(super) fn json(text: &str) -> Option<ToolCall> {
    from_json(serde_json::from_str(text).ok()?)
}

/// Calls in a JSON array; `None` if one of them is none.
pub(super) fn json_array(text: &str) -> Option<Vec<ToolCall>> {
    let calls: Vec<Json<'_>> = serde_json::from_str(text).ok()?;
    calls.into_iter().map(from_json).collect()
}

fn from_json(call: Json<'_>) -> Option<ToolCall> {
    let arguments = call.arguments.map_or("{}", RawValue::get);
    let is_object = |text: &str| text.trim_start().starts_with('{');
    if is_object(arguments) {
        return Some(ToolCall { name: call.name, arguments: arguments.to_owned() });
    }
    // Some models write the object as a string.
    let inside: String = serde_json::from_str(arguments).ok()?;
    let valid = is_object(&inside) && serde_json::from_str::<&RawValue>(&inside).is_ok();
    valid.then_some(ToolCall { name: call.name, arguments: inside })
}

/// `<function=name>`, any number of `<parameter=name>` with values up to `</parameter>`, `</function>`.
fn function(text: &str, format: &AnswerFormat) -> Option<ToolCall> {
    let (name, mut rest) = text.strip_prefix("<function=")?.split_once('>')?;
    let name = name.trim();
    let mut arguments = Map::new();
    loop {
        rest = rest.trim_start();
        let Some(parameter) = rest.strip_prefix("<parameter=") else { break };
        let (key, after) = parameter.split_once('>')?;
        let (value, after) = after.split_once("</parameter>")?;
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        let key = key.trim();
        let is_string = format.strings.contains(&(name.to_owned(), key.to_owned()));
        arguments.insert(key.to_owned(), if is_string { value.into() } else { plain_value(value) });
        rest = after;
    }
    let end = rest.strip_prefix("</function>")?;
    let whole = end.trim().is_empty() && !name.is_empty();
    whole.then(|| ToolCall { name: name.to_owned(), arguments: Value::Object(arguments).to_string() })
}

/// A value written without quotes: JSON if it is that (or one of Python's words), else a string.
fn plain_value(text: &str) -> Value {
    match text.trim() {
        "True" => true.into(),
        "False" => false.into(),
        "None" => Value::Null,
        other => serde_json::from_str(other).unwrap_or_else(|_| text.into()),
    }
}

/// A search for the end of a JSON object or array as it grows; it goes on where it stopped.
#[derive(Debug, Clone, Default)]
pub(super) struct Nesting {
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    /// Where the object or array at the start of `text` ends, if it does. The text is the one of the last call, with
    /// more behind it.
    pub fn end(&mut self, text: &str) -> Option<usize> {
        while let Some(byte) = text.as_bytes().get(self.at) {
            self.at += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}
