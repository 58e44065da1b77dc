//! Taking answers apart. The first byte says which format, the second where the answer is split; the rest is the
//! answer. The split makes no difference, and the arguments of calls are JSON objects.

use std::collections::BTreeSet;

use quire::text::{AnswerFormat, AnswerParser, Part};
use serde_json::{Map, Value};

/// What makes a template one of each format.
const TEMPLATES: [&str; 5] =
    ["<think><tool_call>", "<|python_tag|>", "<think>", "<think><tool_call><function=", "[TOOL_CALLS]"];

fn parse(format: &AnswerFormat, pieces: &[&str]) -> Vec<Part> {
    let mut parser = AnswerParser::new(format.clone());
    let mut parts = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut parts);
    }
    parser.finish(&mut parts);
    parts
}

/// Takes one input; panics if something does not hold.
pub fn run(data: &[u8]) {
    let [which, split, answer @ ..] = data else { return };
    let Ok(answer) = std::str::from_utf8(answer) else { return };
    let template = TEMPLATES[usize::from(*which) % TEMPLATES.len()];
    let prompt = if which & 0x80 == 0 { "" } else { "<think>" };
    let format = AnswerFormat::detect(template, prompt, Some(BTreeSet::new()));
    let wanted = usize::from(*split) % (answer.len() + 1);
    let at = (0..=wanted).rev().find(|&at| answer.is_char_boundary(at)).unwrap_or(0);
    let whole = parse(&format, &[answer]);
    assert_eq!(parse(&format, &[&answer[..at], &answer[at..]]), whole);
    for part in whole {
        if let Part::Call(call) = part {
            let arguments = serde_json::from_str::<Map<String, Value>>(&call.arguments);
            assert!(arguments.is_ok(), "{arguments:?}: {}", call.arguments);
        }
    }
}
