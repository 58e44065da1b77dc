//! Bad input on the way from text to tokens and back: each has its documented status and a message that names what is
//! wrong, and the engine and its other requests go on.
#![cfg(not(feature = "mlx"))]

mod harness;

use std::fs;

use harness::{End, TestModel, assert_all_pages_back, run_one, tokens};
use quire::engine::{Engine, EngineOptions, FinishReason, Prompt, RequestOptions};
use quire::error::{Error, Status};
use quire::grammar::{Grammar, GrammarKind};
use quire::sampling::SamplingParams;
use quire::text::Chat;
use serde_json::{Value, json};

fn refused(options: EngineOptions) -> Error {
    match Engine::create(options, None, &mut |_, _| true) {
        Ok(_) => panic!("the model was accepted"),
        Err(error) => error,
    }
}

/// A model whose tokenizer.json lacks a field of its "model".
fn without(field: &str) -> TestModel {
    let model = TestModel::new(json!({}));
    let path = model.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(tokenizer["model"].as_object_mut().unwrap().remove(field).is_some());
    fs::write(&path, tokenizer.to_string()).unwrap();
    model
}

#[test]
fn a_tokenizer_without_a_needed_field_is_refused_by_file_and_field() {
    for field in ["vocab", "merges"] {
        let error = refused(without(field).options());
        assert_eq!(error.status(), Status::TokenizerInvalid, "{error}");
        assert!(error.message().contains("tokenizer.json") && error.message().contains(field), "{error}");
    }
    let model = TestModel::new(json!({}));
    fs::write(model.path().join("tokenizer.json"), "{}").unwrap();
    let error = refused(model.options());
    assert_eq!(error.status(), Status::TokenizerInvalid, "{error}");
    assert!(error.message().contains("tokenizer.json") && error.message().contains("Model"), "{error}");
}

fn grammar(kind: GrammarKind, text: &str) -> RequestOptions {
    RequestOptions { grammar: Some(Grammar { kind, text: text.to_owned() }), ..tokens(&[1], 40) }
}

fn stops(stop: String) -> RequestOptions {
    RequestOptions { stop_strings: vec![stop], ..tokens(&[1], 40) }
}

fn biased(token: u32) -> RequestOptions {
    let sampling = SamplingParams { logit_bias: vec![(token, 1.0)], ..SamplingParams::default() };
    RequestOptions { sampling, ..tokens(&[1], 40) }
}

/// What is refused at submit, with its status and words of its message.
fn bad_requests() -> Vec<(RequestOptions, Status, &'static str)> {
    use Status::{GrammarInvalid, InvalidArgument, PromptTooLong, TemplateError};
    let deep = format!("{}{}{}", r#"{"items":"#.repeat(10_000), "{}", "}".repeat(10_000));
    let chat = Chat::new(r#"[{"role": "user", "content": "hello"}]"#).unwrap();
    let nested = "(".repeat(10_000) + &")*".repeat(10_000);
    let regex = |text: &str| grammar(GrammarKind::Regex, text);
    vec![
        (
            RequestOptions::new(Prompt::Chat(Box::new(chat))),
            TemplateError,
            "chat_template.jinja:2: syntax error",
        ),
        (grammar(GrammarKind::JsonSchema, &deep), GrammarInvalid, "recursion limit exceeded at line 1"),
        (regex("(("), GrammarInvalid, "regular expression"),
        (regex(&"a?".repeat(100_000)), GrammarInvalid, "the regular expression has 200000 bytes"),
        (regex(&nested), GrammarInvalid, "brackets are nested more than 128 deep at byte 128"),
        (biased(258), InvalidArgument, "logit_bias[0] is for token 258"),
        (biased(u32::MAX), InvalidArgument, "logit_bias[0] is for token 4294967295"),
        (stops(String::new()), InvalidArgument, "stop_strings[0] is empty"),
        (stops("x".repeat(1 << 20)), InvalidArgument, "stop_strings[0] has 1048576 bytes"),
        (RequestOptions { min_tokens: 41, ..tokens(&[1], 40) }, InvalidArgument, "min_tokens is 41"),
        (RequestOptions { n: 2, ..tokens(&[1], 40) }, InvalidArgument, "n is 2"),
        (RequestOptions { n: 0, ..tokens(&[1], 40) }, InvalidArgument, "n is 0"),
        (tokens(&[1], 0), InvalidArgument, "max_tokens"),
        (tokens(&[1], 8192), PromptTooLong, "8192"),
    ]
}

#[test]
fn bad_requests_are_refused_and_the_engine_and_its_other_requests_go_on() {
    let model = TestModel::new(json!({}));
    fs::write(model.path().join("chat_template.jinja"), "{{ messages }}\n{% for %}").unwrap();
    let engine = model.engine();
    let whole = run_one(&engine, tokens(&[7], 4000));
    let other = engine.submit(tokens(&[7], 4000)).unwrap();
    for (request, status, names) in bad_requests() {
        let error = engine.submit(request).map(drop).expect_err(names);
        assert_eq!(error.status(), status, "{error}");
        assert!(error.message().contains(names), "{error} should say {names}");
    }
    let mut collector = harness::Collector::default();
    collector.wait_for(&engine, 1);
    let answer = &collector.answers[&other];
    assert_eq!(answer.end, End::Finished(FinishReason::Length));
    assert_eq!(answer.tokens, whole.tokens);
    assert_all_pages_back(&engine);
}

/// Expressions that would need many states, or much backtracking.
const BOMBS: [&str; 8] = [
    "(a{1000}){1000}{1000}",
    "((a*)*)*b",
    "(x+x+)+y",
    "(a|a?){60}a{60}",
    "[a-z]{0,100000}[0-9]{100000}",
    "(?:(?:(?:.{99}){99}){99}){99}",
    "(.*a.{30})|(.*b.{30})",
    "(?:[01]*1[01]{40}){20}",
];

#[test]
fn regex_bombs_do_not_go_off() {
    let model = TestModel::new(json!({}));
    let engine = model.engine();
    let plain = run_one(&engine, tokens(&[7], 500));
    for bomb in BOMBS {
        let request = RequestOptions { max_tokens: 300, ..grammar(GrammarKind::Regex, bomb) };
        match engine.submit(request) {
            Err(error) => assert_eq!(error.status(), Status::GrammarInvalid, "{bomb}: {error}"),
            Ok(id) => {
                let beside = engine.submit(tokens(&[7], 500)).unwrap();
                let mut collector = harness::Collector::default();
                collector.wait_for(&engine, 2);
                match &collector.answers[&id].end {
                    End::Failed(error) => {
                        assert_eq!(error.status(), Status::GrammarInvalid, "{bomb}: {error}")
                    }
                    End::Finished(_) => {}
                    End::Cancelled => panic!("nobody cancelled"),
                }
                assert_eq!(collector.answers[&beside].tokens, plain.tokens);
            }
        }
    }
    assert_all_pages_back(&engine);
}
