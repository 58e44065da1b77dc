//! Tool calls as Mistral's models write them, behind `[TOOL_CALLS]`.

use serde_json::{Map, Value};

use super::calls::{self, Nesting, ToolCall};

const CALL_ID: &str = "[CALL_ID]";
const ARGS: &str = "[ARGS]";

/// Longest name of a tool together with its call's id.
const MAX_NAME: usize = 256;

/// What stands behind a mark.
pub(super) enum Read {
    /// Calls, which end there.
    Calls(Vec<ToolCall>, usize),
    /// It may become one.
    Unfinished,
    Unknown,
}

/// Reads an array of calls (up to Mistral Nemo), or a name, `[ARGS]` and an object (later models; with
/// `[CALL_ID]` and an id in between, if the model gives one). `nesting` goes with this mark.
pub(super) fn read(text: &str, nesting: &mut Nesting) -> Read {
    let body = text.trim_start();
    let begin = text.len() - body.len();
    let read = if body.starts_with('[') { array(body, nesting) } else { named(body, nesting) };
    match read {
        Read::Calls(calls, end) => Read::Calls(calls, begin + end),
        other => other,
    }
}

fn array(text: &str, nesting: &mut Nesting) -> Read {
    let Some(end) = nesting.end(text) else { return Read::Unfinished };
    match calls::json_array(&text[..end]) {
        Some(calls) if !calls.is_empty() => Read::Calls(calls, end),
        _ => Read::Unknown,
    }
}

fn named(text: &str, nesting: &mut Nesting) -> Read {
    let is_name = |text: &str| text.len() <= MAX_NAME && !text.contains(['{', '\n']);
    let Some(at) = text.find(ARGS) else {
        let may_come = text.len() < MAX_NAME + ARGS.len() && !text.contains(['{', '\n']);
        return if may_come { Read::Unfinished } else { Read::Unknown };
    };
    let name = text[..at].split(CALL_ID).next().unwrap_or_default().trim();
    if name.is_empty() || !is_name(&text[..at]) {
        return Read::Unknown;
    }
    let behind = &text[at + ARGS.len()..];
    let arguments = behind.trim_start();
    if !arguments.starts_with('{') {
        return if arguments.is_empty() { Read::Unfinished } else { Read::Unknown };
    }
    let Some(len) = nesting.end(arguments) else { return Read::Unfinished };
    let arguments = &arguments[..len];
    if serde_json::from_str::<Map<String, Value>>(arguments).is_err() {
        return Read::Unknown;
    }
    let end = text.len() - behind.trim_start().len() + len;
    Read::Calls(vec![ToolCall { name: name.to_owned(), arguments: arguments.to_owned() }], end)
}
