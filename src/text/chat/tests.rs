use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;

/// Noon (UTC) of 7 June 2025, where `make_expected.py` stops the clock.
const NOON: u64 = 1_749_297_600;

#[derive(Deserialize)]
struct Conversation {
    name: String,
    messages: Box<RawValue>,
    tools: Option<String>,
    documents: Option<Box<RawValue>>,
    arguments: Option<Box<RawValue>>,
    thinking: Option<bool>,
    generation_prompt: Option<bool>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn data(name: &str) -> String {
    std::fs::read_to_string(root().join("tests/data/chat").join(name)).unwrap()
}

fn conversations() -> Vec<(String, Chat)> {
    let tools: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&data("tools.json")).unwrap();
    let conversations: Vec<Conversation> = serde_json::from_str(&data("conversations.json")).unwrap();
    let chat = |c: &Conversation| -> Result<Chat> {
        let mut chat =
            Chat::new(c.messages.get())?.with_generation_prompt(c.generation_prompt.unwrap_or(true));
        if let Some(name) = &c.tools {
            chat = chat.with_tools(tools[name].get())?;
        }
        if let Some(documents) = &c.documents {
            chat = chat.with_documents(documents.get())?;
        }
        if let Some(arguments) = &c.arguments {
            chat = chat.with_arguments(arguments.get())?;
        }
        Ok(match c.thinking {
            Some(thinking) => chat.with_thinking(thinking),
            None => chat,
        })
    };
    conversations.iter().map(|c| (c.name.clone(), chat(c).unwrap())).collect()
}

fn template(text: &str) -> ChatTemplate {
    let special =
        vec![("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
    ChatTemplate::from_text(Path::new("test.jinja"), text, special).unwrap()
}

fn at_noon(template: &ChatTemplate, chat: &Chat) -> Result<String> {
    template.render_at(chat, UNIX_EPOCH + Duration::from_secs(NOON))
}

/// Where two texts part, and what follows there.
fn difference(name: &str, conversation: &str, expected: Option<&str>, got: Result<String>) -> String {
    let (expected, got) = (expected.unwrap_or("an error"), got.unwrap_or_else(|e| e.to_string()));
    let at = expected.chars().zip(got.chars()).take_while(|(a, b)| a == b).count();
    let rest = |text: &str| text.chars().skip(at).take(60).collect::<String>();
    format!("{name}, {conversation}, character {at}: want {:?}, got {:?}", rest(expected), rest(&got))
}

/// Renders every conversation with the templates of `folder` that `expected` knows, compares, and returns how
/// many templates there were.
fn compare(folder: &str, expected: &str) -> usize {
    let conversations = conversations();
    let mut templates = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/data/chat").join(expected)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let Ok(text) = std::fs::read_to_string(root().join(folder).join(format!("{name}.jinja"))) else {
            continue;
        };
        let texts: BTreeMap<String, Option<String>> =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let template = template(&text);
        for (conversation, chat) in &conversations {
            let got = at_noon(&template, chat);
            let Some(text) = texts.get(conversation) else { continue };
            match (text, got) {
                (Some(text), Ok(got)) if got == *text => {}
                (None, Err(e)) if e.status() == Status::TemplateError => {}
                (expected, got) => wrong.push(difference(&name, conversation, expected.as_deref(), got)),
            }
        }
        templates += 1;
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    templates
}

#[test]
fn templates_of_our_own_render_as_the_reference_renders_them() {
    assert_eq!(compare("tests/data/chat/templates", "expected"), 6);
}

/// Set-up fetches these; they are not in the repository.
#[test]
fn templates_of_published_models_render_as_the_reference_renders_them() {
    let folder = ".models/templates";
    if root().join(folder).is_dir() {
        assert!(compare(folder, "expected") >= 18);
    }
}

fn hello() -> Chat {
    Chat::new(r#"[{"role": "user", "content": "hello"}]"#).unwrap()
}

fn error_of(text: &str) -> Error {
    let error = match ChatTemplate::from_text(Path::new("test.jinja"), text, vec![]) {
        Ok(template) => template.render(&hello()).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.status(), Status::TemplateError, "{error}");
    error
}

#[test]
fn errors_name_file_and_line() {
    for (text, message) in [
        ("ok\n{% if %}", "test.jinja:2: syntax error: "),
        ("a\nb\n{{ messages.nothing.more }}", "test.jinja:3: undefined value"),
        ("\n{{ raise_exception('no ' ~ messages[0].role) }}", "test.jinja:2: invalid operation: no user"),
        ("{{ messages | nonsense }}", "test.jinja:1: unknown filter"),
        ("{{ messages[0].content.nonsense() }}", "test.jinja:1: unknown method"),
        ("{% include 'other' %}", "test.jinja:1: "),
        (
            "{{ nothing | tojson }}",
            "test.jinja:1: could not serialize to value: tojson: the value is undefined",
        ),
    ] {
        let error = error_of(text);
        assert!(error.message().starts_with(message), "{text}: {error}");
    }
}

#[test]
fn whatever_a_template_does_it_ends() {
    let nest = |inner: &str| {
        format!("{{% for a in range(9999) %}}{{% for b in range(9999) %}}{inner}{{% endfor %}}{{% endfor %}}")
    };
    for text in [
        nest("{{ a }}"),
        nest(""),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        format!("{{% set ns = namespace(x='x') %}}{}", nest("{% set ns.x = ns.x ~ ns.x %}")),
        format!("{{% set ns = namespace(x=[1]) %}}{}", nest("{% set ns.x = ns.x + ns.x %}")),
        "{{ 'x' * 1000000000000 }}".into(),
        "{{ '%1000000000d' | format(1) }}".into(),
        "{{ range(10000000000) | list }}".into(),
        // Lists that are put together only when looked at, and lists that share what is in them.
        format!("{{% set ns = namespace(x=[1]) %}}{}{{{{ ns.x }}}}", nest("{% set ns.x = ns.x * 1000 %}")),
        format!("{{{{ messages * 1000000000000{} }}}}", " + []".repeat(40)),
        format!("{{% set ns = namespace(x=[]) %}}{}{{{{ ns.x == [ns.x] }}}}", nest("{% set ns.x = [ns.x, ns.x] %}")),
        format!("{{% set ns = namespace(x={{}}) %}}{}", nest("{% set ns.x = dict(a=ns.x, b=ns.x) %}")),
        "{{ messages * 1000000000000 }}".into(),
        // Deep values.
        format!("{{% set ns = namespace(x=[]) %}}{}", nest("{% set ns.x = [ns.x] %}")),
        "{% set ns = namespace(x=[]) %}{% for a in range(150) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.y.z }}".into(),
        format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        "{% if x %}".repeat(100_000),
    ] {
        error_of(&text);
    }
    // And the next conversation is none the worse.
    assert_eq!(template("{{ messages[0].content }}").render(&hello()).unwrap(), "hello");
}

#[test]
fn conversations_that_are_none_are_refused_by_place() {
    let deep = format!("[{{\"role\": \"user\", \"content\": {}{}}}]", "[".repeat(10_000), "]".repeat(10_000));
    for (messages, says) in [
        ("", "messages is not valid JSON: "),
        ("{}", "messages is not a JSON array"),
        ("[]", "messages is empty"),
        ("[1]", "messages[0] is not a JSON object"),
        (r#"[{"role": "user"}, {"content": "x"}]"#, "messages[1].role is not a string"),
        (r#"[{"role": 1}]"#, "messages[0].role is not a string"),
        (deep.as_str(), "messages is not valid JSON: recursion limit"),
    ] {
        let error = Chat::new(messages).unwrap_err();
        assert_eq!(error.status(), Status::InvalidArgument);
        assert!(error.message().starts_with(says), "{error}");
    }
    let refused = |error: Result<Chat>| error.unwrap_err().message().to_owned();
    assert_eq!(refused(hello().with_tools("[3]")), "tools[0] is not a JSON object");
    assert_eq!(refused(hello().with_documents("{}")), "documents is not a JSON array");
    assert_eq!(refused(hello().with_arguments("[]")), "template_arguments is not a JSON object");
    assert!(!hello().with_tools("[]").unwrap().has_tools());
}

/// A model directory with these files besides the mock model's.
fn model_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Option<ChatTemplate>>) {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("tests/data/mock-model")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let files = crate::model::locate::locate(dir.path().to_str().unwrap()).unwrap();
    let loaded = ChatTemplate::load(&files);
    (dir, loaded)
}

#[test]
fn templates_are_found_in_each_of_their_places() {
    let config = |template: &str| {
        format!(r#"{{"bos_token": "<s>", "eos_token": {{"content": "</s>"}}, "chat_template": {template}}}"#)
    };
    let render =
        |files: &[(&str, &str)], chat: &Chat| model_with(files).1.unwrap().unwrap().render(chat).unwrap();
    let one = config(r#""one {{ bos_token }}{{ eos_token }}{{ pad_token }}""#);
    let list = config(
        r#"[{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools | length }} tool"}]"#,
    );
    let with_tools = hello().with_tools(r#"[{"name": "f"}]"#).unwrap();
    assert_eq!(render(&[("tokenizer_config.json", &one)], &hello()), "one <s></s>");
    assert_eq!(render(&[("tokenizer_config.json", &list)], &hello()), "plain");
    assert_eq!(render(&[("tokenizer_config.json", &list)], &with_tools), "1 tool");
    let both = [("tokenizer_config.json", one.as_str()), ("chat_template.jinja", "its own {{ bos_token }}")];
    assert_eq!(render(&both, &hello()), "its own <s>");
    assert!(model_with(&[]).1.unwrap().is_none());
}

#[test]
fn broken_places_are_named() {
    let refused = |file: &str, text: &str| model_with(&[(file, text)]).1.unwrap_err();
    let error = refused("chat_template.jinja", "\n{% for %}");
    assert_eq!(error.status(), Status::TemplateError);
    assert!(error.message().contains("chat_template.jinja:2: syntax error"), "{error}");
    let error = refused("tokenizer_config.json", r#"{"chat_template": "{{"}"#);
    assert!(error.message().contains("tokenizer_config.json: chat_template:1: syntax error"), "{error}");
    for template in ["3", r#"[{"name": "default"}]"#] {
        let error = refused("tokenizer_config.json", &format!(r#"{{"chat_template": {template}}}"#));
        assert_eq!(error.status(), Status::TokenizerInvalid, "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a template is made of, there is a text or an error about the template.
    #[test]
    fn any_template_ends(pieces in prop::collection::vec(
        prop::sample::select(vec![
            "{{", "}}", "{%", "%}", "{#", "#}", "-", " set x = ", " x ", "x", "messages", "[", "]", "(", ")", "'", "\"", "\\",
            " for m in ", " endfor ", " if ", " else ", " endif ", " macro f(x) ", " endmacro ", "f(", "|", "tojson", "length",
            " + ", " * ", "~", ".content", "[0]", "1", "=", ",", " in ", "é", "\n", "raw", "endraw", "generation",
            "namespace(", "range(", "loop.", "{", "}", ":", "true", "none", "split(", "indent", "%s", "format",
        ]),
        0..24,
    )) {
        let text = pieces.concat();
        let rendered = ChatTemplate::from_text(Path::new("test.jinja"), &text, vec![])
            .and_then(|template| template.render(&hello()));
        if let Err(error) = rendered {
            prop_assert_eq!(error.status(), Status::TemplateError);
        }
    }
}
