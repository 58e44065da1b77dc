//! Taking answers apart: `cargo +nightly fuzz run answer`. The first byte says which format, the second where the answer is
//! split; the rest is the answer. The split makes no difference, and arguments are JSON objects.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use quire::text::{AnswerFormat, AnswerParser, Part};

fn parse(format: &AnswerFormat, pieces: &[&str]) -> Vec<Part> {
    let mut parser = AnswerParser::new(format.clone());
    let mut parts = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut parts);
    }
    parser.finish(&mut parts);
    parts
}

fuzz_target!(|data: &[u8]| {
    let [which, split, answer @ ..] = data else { return };
    let Ok(answer) = std::str::from_utf8(answer) else { return };
    let template = ["<think><tool_call>", "<|python_tag|>", "<think>"][usize::from(*which) % 3];
    let prompt = if which & 0x80 == 0 { "" } else { "<think>" };
    let format = AnswerFormat::detect(template, prompt, Some(BTreeSet::new()));
    let at = (0..=usize::from(*split) % (answer.len() + 1)).rev().find(|&at| answer.is_char_boundary(at)).unwrap_or(0);
    let whole = parse(&format, &[answer]);
    assert_eq!(parse(&format, &[&answer[..at], &answer[at..]]), whole);
    for part in whole {
        if let Part::Call(call) = part {
            assert!(call.arguments.trim_start().starts_with('{'), "{}", call.arguments);
        }
    }
});
