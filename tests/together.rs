//! Conversations, reasoning, tool calls, grammars, stop strings, log-probabilities and several answers, together, on
//! the mock model. Its tokens are bytes, and a token's log-probability is one less than minus the token.
#![cfg(not(feature = "mlx"))]

mod harness;

use std::collections::BTreeMap;
use std::time::Duration;

use harness::{TestModel, assert_all_pages_back};
use quire::engine::{Delta, DeltaKind, Engine, EventKind, FinishReason, Prompt, RequestOptions};
use quire::error::{Error, Status};
use quire::grammar::{Grammar, GrammarKind};
use quire::sampling::{LogprobRequest, SamplingParams};
use quire::text::Chat;
use serde_json::{Value, json};

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>";

/// A model whose template knows these marks, and whose every answer begins like this.
fn engine(marks: &str, opening: &str) -> Engine {
    let opening: Vec<u32> = opening.bytes().map(u32::from).collect();
    let model = TestModel::new(json!({ "opening": opening }));
    let template = format!("{TEMPLATE}{marks}");
    std::fs::write(model.path().join("chat_template.jinja"), template).unwrap();
    model.engine()
}

fn asked(max_tokens: u32) -> RequestOptions {
    let chat = Chat::new(r#"[{"role": "user", "content": "Grüße!"}]"#).unwrap();
    RequestOptions {
        max_tokens,
        logprobs: LogprobRequest { chosen: true, top: 2, prompt: false },
        ..RequestOptions::new(Prompt::Chat(Box::new(chat)))
    }
}

/// One answer: its deltas in order, those of one kind joined unless they are calls, and its end.
#[derive(Debug, Default)]
struct Said {
    deltas: Vec<Delta>,
    end: Option<Result<FinishReason, Error>>,
}

impl Said {
    fn add(&mut self, delta: Delta) {
        // Whatever was held back, and wherever it was cut: they stay beside each other.
        let logprobs: Vec<f32> = delta.logprobs.iter().map(|of| of.logprob).collect();
        let of_tokens: Vec<f32> = delta.tokens.iter().map(|&token| -1.0 - token as f32).collect();
        assert_eq!(logprobs, of_tokens, "{delta:?}");
        assert!(delta.logprobs.iter().all(|of| of.top.len() == 2));
        match self.deltas.last_mut() {
            Some(last) if last.kind == delta.kind && !matches!(delta.kind, DeltaKind::ToolCall(_)) => {
                last.text.push_str(&delta.text);
                last.tokens.extend(delta.tokens);
            }
            _ => self.deltas.push(delta),
        }
    }

    fn pieces(&self) -> Vec<(DeltaKind, &str)> {
        self.deltas.iter().map(|delta| (delta.kind.clone(), delta.text.as_str())).collect()
    }

    fn token_text(&self) -> String {
        let tokens = self.deltas.iter().flat_map(|delta| &delta.tokens);
        String::from_utf8_lossy(&tokens.map(|&token| token as u8).collect::<Vec<u8>>()).into_owned()
    }
}

/// Runs requests of one submit each, of `n` answers; in order of their index.
fn answers(engine: &Engine, request: RequestOptions) -> Vec<Said> {
    let n = request.n as usize;
    let first = engine.submit(request).unwrap();
    let mut said: BTreeMap<u32, Said> = BTreeMap::new();
    while said.values().filter(|said| said.end.is_some()).count() < n {
        let event = engine.wait(Some(Duration::from_secs(120))).unwrap();
        assert_eq!(event.request, first + u64::from(event.index));
        let own = said.entry(event.index).or_default();
        match event.kind {
            EventKind::Delta(delta) => own.add(delta),
            EventKind::Finished(reason, _) => own.end = Some(Ok(reason)),
            EventKind::Failed(error, _) => own.end = Some(Err(error)),
            EventKind::Cancelled(_) => panic!("nobody cancelled"),
        }
    }
    said.into_values().collect()
}

fn choice(texts: &[&str]) -> Option<Grammar> {
    Some(Grammar { kind: GrammarKind::Choice, text: serde_json::to_string(texts).unwrap() })
}

#[test]
fn a_grammar_is_for_what_follows_the_reasoning_that_the_prompt_begins() {
    let engine = engine("<think>\n", "Hm, 世界.\n</think>\n\n");
    let schema = r#"{"type": "object", "properties": {"n": {"type": "integer"}, "s": {"enum": ["a", "b"]}},
                     "required": ["n", "s"], "additionalProperties": false}"#;
    let request = RequestOptions {
        n: 6,
        sampling: SamplingParams { temperature: 1.0, seed: 3, ..SamplingParams::default() },
        grammar: Some(Grammar { kind: GrammarKind::JsonSchema, text: schema.into() }),
        ..asked(400)
    };
    let answers = answers(&engine, request);
    assert_eq!(answers.len(), 6);
    for said in &answers {
        let Some(Ok(FinishReason::GrammarComplete | FinishReason::EndOfSequence(_))) = said.end else {
            panic!("{said:?}");
        };
        let [(DeltaKind::Reasoning, thought), (DeltaKind::Text, text)] = said.pieces()[..] else {
            panic!("{said:?}")
        };
        assert_eq!(thought, "Hm, 世界.");
        let value: Value = serde_json::from_str(text).unwrap();
        assert!(value["n"].is_number() && (value["s"] == "a" || value["s"] == "b"), "{text}");
        assert_eq!(said.token_text().strip_prefix("Hm, 世界.\n</think>"), Some(text));
    }
    // Not all the same.
    assert!(answers[1..].iter().any(|said| said.pieces() != answers[0].pieces()));
    assert_all_pages_back(&engine);
}

#[test]
fn without_parsing_or_an_open_mark_a_grammar_is_for_the_whole_answer() {
    let whole = |marks: &str, parse: Option<bool>| {
        let engine = engine(marks, "Hm.\n</think>\n\n");
        let request = RequestOptions { parse, grammar: choice(&["yes"]), ..asked(60) };
        let said = answers(&engine, request).remove(0);
        assert_eq!(said.pieces(), [(DeltaKind::Text, "yes")], "{said:?}");
    };
    whole("<think>\n", Some(false));
    whole("{# <think> #}", None);
    whole("", None);
}

#[test]
fn an_answer_cannot_end_inside_its_reasoning() {
    // The end of sequence is a token like any other here, and every second one.
    let model = TestModel::new(json!({ "eos_token": 256, "vocab_size": 258, "eos_every": 2 }));
    std::fs::write(model.path().join("chat_template.jinja"), format!("{TEMPLATE}<think>")).unwrap();
    let engine = model.engine();
    let said = answers(&engine, RequestOptions { grammar: choice(&["yes"]), ..asked(40) }).remove(0);
    assert_eq!(said.end, Some(Ok(FinishReason::Length)));
    assert!(said.pieces().iter().all(|(kind, _)| *kind == DeltaKind::Reasoning), "{said:?}");
    let free = answers(&engine, asked(40)).remove(0);
    assert_eq!(free.end, Some(Ok(FinishReason::EndOfSequence(256))));
}

#[test]
fn a_stop_string_that_hides_where_the_grammar_begins_fails_its_request_only() {
    let engine = engine("<think>", "a</think>b");
    let stops = vec!["</think>bc".to_owned()];
    let request = RequestOptions { stop_strings: stops, grammar: choice(&["yes"]), ..asked(40) };
    let said = answers(&engine, request).remove(0);
    assert_eq!(said.end.unwrap().unwrap_err().status(), Status::GrammarInvalid);
    let said = answers(&engine, RequestOptions { grammar: choice(&["yes"]), ..asked(40) }).remove(0);
    assert_eq!(said.pieces(), [(DeltaKind::Reasoning, "a"), (DeltaKind::Text, "yes")]);
    assert_all_pages_back(&engine);
}

#[test]
fn calls_come_whole_and_with_their_tokens() {
    let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1, \"é\"]}}\n</tool_call>";
    let opening = format!("<think>So.</think>Now {call}\n{call} done");
    let engine = engine("{# <think> <tool_call> #}", &opening);
    let stops = vec!["never".to_owned(), "done".to_owned()];
    for stop_strings in [vec![], stops] {
        let ends = stop_strings.len();
        let request = RequestOptions { stop_strings, ..asked(opening.len() as u32) };
        let said = answers(&engine, request).remove(0);
        let arguments = "{\"x\": [1, \"é\"]}";
        let call = || (DeltaKind::ToolCall("f".into()), arguments);
        let rest = (DeltaKind::Text, if ends > 0 { " " } else { " done" });
        let before = [(DeltaKind::Reasoning, "So."), (DeltaKind::Text, "Now ")];
        assert_eq!(said.pieces(), [&before[..], &[call(), call(), rest]].concat());
        let end = if ends > 0 { FinishReason::StopString(1) } else { FinishReason::Length };
        assert_eq!(said.end, Some(Ok(end)));
        assert_eq!(said.token_text(), opening[..opening.len() - if ends > 0 { 4 } else { 0 }]);
    }
}

#[test]
fn a_stop_string_cuts_an_answer_with_a_grammar_and_log_probabilities() {
    let engine = engine("", "");
    let request = RequestOptions {
        stop_strings: vec!["/end".into()],
        grammar: choice(&["some thing/end of it"]),
        logprobs: LogprobRequest { chosen: true, top: 2, prompt: true },
        ..asked(60)
    };
    let said = answers(&engine, request).remove(0);
    assert_eq!(said.end, Some(Ok(FinishReason::StopString(0))));
    assert_eq!(said.pieces(), [(DeltaKind::Text, "some thing")]);
    assert_eq!(said.token_text(), "some thing");
    // The prompt's came with the first delta.
    let prompt = engine.tokenizer().unwrap().encode("<user>Grüße!<assistant>", false).unwrap();
    let scores: Vec<f32> = said.deltas[0].prompt_logprobs.iter().map(|of| of.logprob).collect();
    let expected: Vec<f32> = prompt[1..].iter().map(|&token| -1.0 - token as f32).collect();
    assert_eq!(scores, expected);
}
