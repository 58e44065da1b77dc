//! Conversations through the engine on the mock model.
#![cfg(not(feature = "mlx"))]

mod harness;

use harness::{TestModel, run_one, tokens};
use quire::engine::{Prompt, RequestOptions};
use quire::error::Status;
use quire::text::Chat;
use serde_json::json;

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}\
                        {% if add_generation_prompt %}<assistant>{% endif %}";

fn model(template: &str) -> TestModel {
    let model = TestModel::new(json!({}));
    std::fs::write(model.path().join("chat_template.jinja"), template).unwrap();
    model
}

fn chat() -> Chat {
    Chat::new(r#"[{"role": "system", "content": "Terse."}, {"role": "user", "content": "Grüße!"}]"#).unwrap()
}

fn request(chat: Chat) -> RequestOptions {
    RequestOptions { prompt: Prompt::Chat(Box::new(chat)), ..tokens(&[], 10) }
}

#[test]
fn a_conversation_is_the_prompt_that_its_template_makes_of_it() {
    let engine = model(TEMPLATE).engine();
    let text = "<system>Terse.<user>Grüße!<assistant>";
    assert_eq!(engine.render_chat(&chat()).unwrap(), text);
    // No begin-of-sequence token is put in front of what the template made.
    let ids = engine.tokenizer().unwrap().encode(text, false).unwrap();
    assert_eq!(run_one(&engine, request(chat())).tokens, run_one(&engine, tokens(&ids, 10)).tokens);
}

#[test]
fn a_broken_template_breaks_conversations_only() {
    let engine = model("{% if %}").engine();
    let error = engine.submit(request(chat())).unwrap_err();
    assert_eq!(error.status(), Status::TemplateError);
    assert!(error.message().contains("chat_template.jinja:1: syntax error"), "{error}");
    assert_eq!(run_one(&engine, tokens(&[1], 4)).tokens.len(), 4);
}

#[test]
fn a_template_that_refuses_or_loops_fails_its_request_only() {
    let template = "{% if messages | length == 1 %}{{ raise_exception('too short') }}{% endif %}\
                    {% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    let engine = model(template).engine();
    let one = Chat::new(r#"[{"role": "user", "content": "x"}]"#).unwrap();
    assert!(engine.submit(request(one)).unwrap_err().message().ends_with("too short"));
    assert_eq!(engine.submit(request(chat())).unwrap_err().status(), Status::TemplateError);
    assert_eq!(run_one(&engine, tokens(&[1], 4)).tokens.len(), 4);
}

#[test]
fn without_a_template_there_are_no_conversations() {
    let engine = TestModel::new(json!({})).engine();
    assert_eq!(engine.submit(request(chat())).unwrap_err().status(), Status::TemplateMissing);
}
