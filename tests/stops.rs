//! Stop strings, through the engine on the mock model: its tokens are bytes, so that every character of more
//! than one byte, and every stop string, is split over tokens.
#![cfg(not(feature = "mlx"))]

mod harness;

use harness::{End, TestModel, assert_all_pages_back, run, run_one, tokens};
use quire::engine::{Engine, FinishReason, RequestOptions};
use quire::error::Status;
use serde_json::json;

fn with_stops(stops: &[&str], max_tokens: u32) -> RequestOptions {
    RequestOptions {
        stop_strings: stops.iter().map(|s| (*s).to_owned()).collect(),
        ..tokens(&[5, 6], max_tokens)
    }
}

fn engine() -> Engine {
    TestModel::new(json!({})).engine()
}

#[test]
fn an_answer_ends_before_any_piece_of_it_that_is_a_stop_string() {
    let engine = engine();
    let whole = run_one(&engine, tokens(&[5, 6], 60)).text;
    let places: Vec<usize> = whole.char_indices().map(|(at, _)| at).chain([whole.len()]).collect();
    let stops: Vec<&str> = places.windows(6).map(|w| &whole[w[0]..w[5]]).collect();
    let answers = run(&engine, stops.iter().map(|stop| with_stops(&["never said", stop], 60)).collect());
    for (stop, answer) in stops.iter().zip(answers) {
        assert_eq!(answer.end, End::Finished(FinishReason::StopString(1)), "{stop:?}");
        assert_eq!(answer.text, whole[..whole.find(stop).unwrap()], "{stop:?}");
        let text = engine.tokenizer().unwrap().decode(&answer.tokens, false);
        assert_eq!(text, answer.text, "{stop:?}");
    }
    assert_all_pages_back(&engine);
}

#[test]
fn a_stop_string_that_never_comes_changes_nothing() {
    let engine = engine();
    let free = run_one(&engine, tokens(&[5, 6], 60));
    // All but the last character of it comes, and is given after all when the answer ends.
    let mut end: String = free.text.chars().skip(free.text.chars().count() - 4).collect();
    end.push('!');
    let answer = run_one(&engine, with_stops(&[&end], 60));
    assert_eq!((answer.text, answer.tokens, answer.end), (free.text, free.tokens, free.end));
}

#[test]
fn a_special_token_counts_as_its_text() {
    let engine = TestModel::new(json!({ "eos_every": 10 })).engine();
    let special = engine.tokenizer().unwrap().decode(&[256], false);
    let free = run_one(&engine, tokens(&[5, 6], 200));
    let at = free.tokens.iter().position(|t| *t == 256).unwrap();
    let answer = run_one(&engine, with_stops(&[&special], 200));
    assert_eq!(answer.end, End::Finished(FinishReason::StopString(0)));
    assert_eq!(answer.tokens, free.tokens[..at]);
}

#[test]
fn bad_stop_strings_are_refused_and_the_engine_goes_on() {
    let engine = engine();
    let huge = "x".repeat(1 << 20);
    for (stops, names) in [
        (vec!["a", ""], "stop_strings[1] is empty"),
        (vec![huge.as_str()], "stop_strings[0] has 1048576 bytes"),
        (vec!["a"; 65], "stop_strings has 65 strings"),
    ] {
        let error = engine.submit(with_stops(&stops, 4)).unwrap_err();
        assert_eq!(error.status(), Status::InvalidArgument);
        assert!(error.message().starts_with(names), "{error}");
    }
    assert_eq!(run_one(&engine, tokens(&[1], 4)).tokens.len(), 4);
}

#[test]
fn a_model_without_a_tokenizer_has_no_stop_strings() {
    let model = TestModel::new(json!({}));
    std::fs::remove_file(model.path().join("tokenizer.json")).unwrap();
    let engine = model.engine();
    let error = engine.submit(with_stops(&["a"], 4)).unwrap_err();
    assert_eq!(error.status(), Status::TokenizerMissing);
}
