//! Grammars in the engine, on the mock model that chooses at random among what is allowed: whatever comes out is
//! what was asked for, and rows without a grammar do not notice.
#![cfg(not(feature = "mlx"))]

mod harness;

use harness::{Answer, End, TestModel, assert_all_pages_back, create, run, run_one, tokens};
use quire::engine::{EngineOptions, FinishReason, Prompt, RequestOptions};
use quire::error::Status;
use quire::grammar::{Grammar, GrammarKind};
use quire::sampling::SamplingParams;
use serde_json::{Value, json};

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "id": { "type": "integer", "minimum": 1, "maximum": 99 },
        "kind": { "enum": ["cat", "dog"] },
        "alive": { "type": "boolean" },
        "note": { "type": "string", "maxLength": 4 }
    },
    "required": ["id", "kind", "alive"],
    "additionalProperties": false
}"#;

fn grammar(kind: GrammarKind, text: &str) -> Option<Grammar> {
    Some(Grammar { kind, text: text.to_owned() })
}

fn constrained(seed: u64, kind: GrammarKind, text: &str, max_tokens: u32) -> RequestOptions {
    let sampling = SamplingParams { temperature: 1.0, seed, ..SamplingParams::default() };
    let prompt = Prompt::Tokens(vec![seed as u32 % 200, 7, 9]);
    RequestOptions { grammar: grammar(kind, text), max_tokens, sampling, ..RequestOptions::new(prompt) }
}

fn is_valid(text: &str) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return false };
    let known = fields.iter().all(|(key, value)| match key.as_str() {
        "id" => value.as_i64().is_some_and(|id| (1..=99).contains(&id)),
        "kind" => value == "cat" || value == "dog",
        "alive" => value.is_boolean(),
        "note" => value.as_str().is_some_and(|note| note.chars().count() <= 4),
        _ => false,
    });
    known && ["id", "kind", "alive"].iter().all(|key| fields.contains_key(*key))
}

fn is_complete(answer: &Answer) -> bool {
    matches!(answer.end, End::Finished(FinishReason::GrammarComplete | FinishReason::EndOfSequence(_)))
}

#[test]
fn answers_are_valid_beside_rows_without_a_grammar() {
    let model = TestModel::new(json!({}));
    let engine = create(EngineOptions { max_sequences: 12, ..model.options() });
    let free = |i: u32| tokens(&[i, i + 1, 5], 60);
    let alone: Vec<Vec<u32>> = (0..8).map(|i| run_one(&engine, free(i)).tokens).collect();
    let mut requests: Vec<RequestOptions> = (0..8).map(free).collect();
    requests.extend((0..40).map(|seed| constrained(seed, GrammarKind::JsonSchema, SCHEMA, 2000)));
    let answers = run(&engine, requests);
    for (answer, alone) in answers.iter().zip(&alone) {
        assert_eq!(&answer.tokens, alone);
    }
    for answer in &answers[8..] {
        assert!(is_complete(answer) && is_valid(&answer.text), "{answer:?}");
    }
    assert_all_pages_back(&engine);
}

#[test]
fn a_constrained_answer_is_the_same_in_any_batch_and_after_preemption() {
    let model = TestModel::new(json!({}));
    let requests = || -> Vec<RequestOptions> {
        let object = (0..6).map(|seed| constrained(seed, GrammarKind::JsonSchema, SCHEMA, 300));
        object
            .chain((6..12).map(|seed| constrained(seed, GrammarKind::Regex, "[a-z ]{80,120}", 300)))
            .collect()
    };
    let engine = model.engine();
    let alone: Vec<Answer> = requests().into_iter().map(|request| run_one(&engine, request)).collect();
    let equal = |answers: Vec<Answer>| {
        for (answer, alone) in answers.iter().zip(&alone) {
            assert_eq!((&answer.text, &answer.end), (&alone.text, &alone.end));
        }
    };
    equal(run(&engine, requests()));
    // Pages for few of them; a page has 512 bytes.
    let few = create(EngineOptions { cache_bytes: Some(31 * 512), ..model.options() });
    equal(run(&few, requests()));
    assert!(few.statistics().preemptions > 0, "{:?}", few.statistics());
    assert_all_pages_back(&few);
}

#[test]
fn every_kind_of_grammar_is_followed() {
    let model = TestModel::new(json!({}));
    let engine = model.engine();
    let one = |kind, text: &str| {
        let answer = run_one(&engine, constrained(3, kind, text, 400));
        assert!(is_complete(&answer), "{answer:?}");
        answer
    };
    let date = one(GrammarKind::Regex, "20[0-9]{2}-(0[1-9]|1[0-2])").text;
    assert!(date.len() == 7 && date.starts_with("20") && date.as_bytes()[4] == b'-', "{date}");
    let answer = one(GrammarKind::Choice, r#"["maybe", "may"]"#);
    assert!(["maybe", "may"].contains(&answer.text.as_str()), "{answer:?}");
    let lark = one(GrammarKind::Lark, "start: \"<\" WORD \">\"\nWORD: /[ab]{1,9}/").text;
    assert!(lark.starts_with('<') && lark.ends_with('>'), "{lark}");
    let done = one(GrammarKind::Regex, "abc");
    assert_eq!((done.text.as_str(), done.end), ("abc", End::Finished(FinishReason::GrammarComplete)));
    // Any object: what comes within the limit is at least the beginning of one.
    let object = run_one(&engine, constrained(5, GrammarKind::JsonObject, "", 50));
    assert!(object.text.starts_with('{') && object.status().is_none(), "{object:?}");
}

#[test]
fn other_settings_hold_as_far_as_the_grammar_lets_them() {
    let model = TestModel::new(json!({}));
    let engine = model.engine();
    let ban = |bytes: &str| bytes.bytes().map(|b| (u32::from(b), f32::NEG_INFINITY)).collect::<Vec<_>>();
    for seed in 0..20 {
        // The end is banned until there are nine letters, 'a' altogether, and 'z' where there is a choice.
        let mut request = constrained(seed, GrammarKind::Regex, "z[a-c]*", 30);
        request.min_tokens = 9;
        request.sampling.logit_bias = ban("az");
        let answer = run_one(&engine, request);
        assert!(answer.tokens.len() >= 9 && answer.text.starts_with('z'), "{answer:?}");
        assert!(answer.text[1..].bytes().all(|b| b == b'b' || b == b'c'), "{answer:?}");
        // An end of sequence is ignored while something else may follow.
        let ignoring =
            RequestOptions { ignore_eos: true, ..constrained(seed, GrammarKind::Regex, "(ab){0,20}", 100) };
        let answer = run_one(&engine, ignoring);
        assert_eq!(
            (answer.text, answer.end),
            ("ab".repeat(20), End::Finished(FinishReason::GrammarComplete))
        );
    }
    let cut = run_one(&engine, constrained(1, GrammarKind::Regex, "x{30}", 12));
    assert_eq!((cut.text, cut.end), ("x".repeat(12), End::Finished(FinishReason::Length)));
    let stopped = RequestOptions {
        stop_tokens: vec![u32::from(b'!')],
        ..constrained(1, GrammarKind::Regex, "go!{5}", 12)
    };
    let stopped = run_one(&engine, stopped);
    assert_eq!(stopped.end, End::Finished(FinishReason::StopToken(u32::from(b'!'))));
    assert_eq!(stopped.text, "go");
}

#[test]
fn bad_grammars_are_refused_at_submit_and_the_engine_goes_on() {
    let model = TestModel::new(json!({}));
    let engine = model.engine();
    let free = engine.submit(tokens(&[1], 200)).unwrap();
    let deep = format!("{}{}{}", r#"{"items":"#.repeat(10_000), "{}", "}".repeat(10_000));
    for (kind, text) in [
        (GrammarKind::JsonSchema, "{"),
        (GrammarKind::JsonSchema, deep.as_str()),
        (GrammarKind::JsonSchema, r#"{"type": "integer", "minimum": 3, "maximum": 2}"#),
        (GrammarKind::Regex, "(("),
        (GrammarKind::Lark, "start: missing"),
        (GrammarKind::Choice, "[]"),
        (GrammarKind::JsonObject, "{}"),
    ] {
        let error = engine.submit(constrained(1, kind, text, 10)).unwrap_err();
        assert_eq!(error.status(), Status::GrammarInvalid, "{error}");
        assert!(!error.message().is_empty());
    }
    assert!(engine.wait(None).unwrap().request == free);
    assert!(is_complete(&run_one(&model.engine(), constrained(2, GrammarKind::Regex, "[0-9]{3}", 10))));
}

#[test]
fn a_model_without_a_tokenizer_cannot_follow_a_grammar() {
    let model = TestModel::new(json!({}));
    std::fs::remove_file(model.path().join("tokenizer.json")).unwrap();
    let error = model.engine().submit(constrained(1, GrammarKind::Regex, "a", 10)).unwrap_err();
    assert_eq!(error.status(), Status::TokenizerMissing);
}
