use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn tagged() -> AnswerFormat {
    AnswerFormat::detect("<think> <tool_call>", "user: ", None)
}

fn llama() -> AnswerFormat {
    AnswerFormat::detect("<|python_tag|>", "user: ", Some(BTreeSet::new()))
}

fn call(name: &str, arguments: &str) -> Part {
    Part::Call(ToolCall { name: name.into(), arguments: arguments.into() })
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

fn reasoning(text: &str) -> Part {
    Part::Reasoning(text.into())
}

fn parse<'a>(format: &AnswerFormat, pieces: impl IntoIterator<Item = &'a str>) -> Vec<Part> {
    let mut parser = AnswerParser::new(format.clone());
    let mut parts = Vec::new();
    for piece in pieces {
        // A list for each push, as the engine has it; then joined.
        let mut new = Vec::new();
        parser.push(piece, &mut new);
        new.into_iter().for_each(|part| give(&mut parts, part));
    }
    let mut new = Vec::new();
    parser.finish(&mut new);
    new.into_iter().for_each(|part| give(&mut parts, part));
    parts
}

/// The answer gives these parts, whole, in two pieces split at every character, and character by character.
fn check(format: &AnswerFormat, answer: &str, parts: &[Part]) {
    assert_eq!(parse(format, [answer]), parts, "{answer}");
    for at in (0..=answer.len()).filter(|&at| answer.is_char_boundary(at)) {
        assert_eq!(parse(format, [&answer[..at], &answer[at..]]), parts, "{answer} split at {at}");
    }
    let characters = answer.char_indices().map(|(i, c)| &answer[i..i + c.len_utf8()]);
    assert_eq!(parse(format, characters), parts, "{answer} by characters");
}

#[test]
fn reasoning_is_split_from_what_is_said() {
    check(
        &tagged(),
        "<think>\nHm, 世界.\n\nSo.\n</think>\n\nHello\nthere\n",
        &[reasoning("Hm, 世界.\n\nSo."), text("Hello\nthere\n")],
    );
    check(&tagged(), "\n<think>\n\n</think>\n\nHello", &[text("Hello")]);
    check(&tagged(), "<think>cut off", &[reasoning("cut off")]);
    check(&tagged(), "A <think> in the middle", &[text("A <think> in the middle")]);
    check(&tagged(), "<thin ice", &[text("<thin ice")]);
    check(&tagged(), "", &[]);
    check(&tagged(), "<thi", &[text("<thi")]);
}

#[test]
fn reasoning_that_the_prompt_began_goes_on() {
    let open = AnswerFormat::detect("<think>", "assistant\n<think>\n", None);
    check(&open, "Well\n</think>\n\n4", &[reasoning("Well"), text("4")]);
    check(&open, "cut </thin", &[reasoning("cut </thin")]);
    let closed = AnswerFormat::detect("<think>", "assistant\n<think>\n\n</think>\n\n", None);
    check(&closed, "4</think>", &[text("4</think>")]);
}

#[test]
fn calls_in_tags_are_json() {
    check(
        &tagged(),
        "<think>\nx\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"get\", \"arguments\": {\"b\": \"Zürich\", \"a\": [1]}}\n</tool_call>\n\
         <tool_call>\n{\"name\": \"now\"}\n</tool_call>",
        &[
            reasoning("x"),
            text("Let me see."),
            call("get", "{\"b\": \"Zürich\", \"a\": [1]}"),
            call("now", "{}"),
        ],
    );
    check(
        &tagged(),
        "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}</tool_call>!",
        &[call("f", "{\"x\": 1}"), text("!")],
    );
    check(
        &tagged(),
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"a</tool_call>b\"}}</tool_call>",
        &[call("f", "{\"x\": \"a</tool_call>b\"}")],
    );
}

#[test]
fn what_is_no_call_is_text() {
    for answer in [
        "<tool_call>nonsense</tool_call> and on",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"argum",
        "<tool_call><function=f><parameter=x></function></tool_call>",
        "a <tool_call",
        "a < b <tool",
    ] {
        check(&tagged(), answer, &[text(answer)]);
    }
    let none = AnswerFormat::detect("a template without marks", "", None);
    assert!(none.is_plain());
    check(
        &none,
        "<tool_call>{\"name\": \"f\"}</tool_call>",
        &[text("<tool_call>{\"name\": \"f\"}</tool_call>")],
    );
}

#[test]
fn calls_of_functions_with_parameters() {
    let strings = BTreeSet::from([("get".to_owned(), "code".to_owned())]);
    let format = AnswerFormat::detect("<tool_call> <function=", "", Some(strings));
    // The arguments keep the order in which the model wrote them.
    check(
        &format,
        "<tool_call>\n<function=get>\n<parameter=code>\n12\n</parameter>\n<parameter=days>\n12\n</parameter>\n\
         <parameter=text>\na\n\"b\"\n</parameter>\n<parameter=flag>\nTrue\n</parameter>\n<parameter=list>\n[1, {\"x\": null}]\n\
         </parameter>\n</function>\n</tool_call>",
        &[call("get", r#"{"code":"12","days":12,"text":"a\n\"b\"","flag":true,"list":[1,{"x":null}]}"#)],
    );
    check(&format, "<tool_call><function=now></function></tool_call>", &[call("now", "{}")]);
}

#[test]
fn llamas_calls_are_the_answer() {
    let answer = "{\"name\": \"get\", \"parameters\": {\"city\": \"a } \\\" b\"}}";
    let expected = [call("get", "{\"city\": \"a } \\\" b\"}")];
    check(&llama(), answer, &expected);
    check(&llama(), &format!("<|python_tag|>{answer}"), &expected);
    check(&llama(), &format!("{answer}; {answer}"), &[expected[0].clone(), expected[0].clone()]);
    for other in [
        "{\"city\": 1}",
        "{\"name\": \"cut",
        "plain {\"name\": \"f\"}",
        "<|python_tag|>print(1)",
        "<|py",
        "{]}",
    ] {
        check(&llama(), other, &[text(other)]);
    }
    // Without tools JSON is an answer like any other.
    let format = AnswerFormat::detect("<|python_tag|>", "", None);
    check(&format, answer, &[text(answer)]);
}

#[test]
fn mistrals_calls_stand_behind_a_mark() {
    let format = AnswerFormat::detect("[TOOL_CALLS]", "", None);
    assert_eq!(format.tools(), ToolFormat::Mistral);
    let array =
        "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": \"]\"}, \"id\": \"a\"}, {\"name\": \"g\"}]";
    let expected = [call("f", "{\"x\": \"]\"}"), call("g", "{}")];
    check(&format, array, &expected);
    check(
        &format,
        &format!("So:\n{array}\nDone"),
        &[text("So:"), expected[0].clone(), expected[1].clone(), text("Done")],
    );
    let named = "[TOOL_CALLS]f[CALL_ID]a[ARGS]{\"x\": \"]\"}[TOOL_CALLS]g[ARGS]{}";
    check(&format, named, &expected);
    let long = format!("[TOOL_CALLS]{}[ARGS]{{}}", "n".repeat(257));
    for other in [
        "[TOOL_CALLS][]",
        "[TOOL_CALLS]f[ARGS]1",
        "[TOOL_CALLS]f[ARGS]{]}",
        "[TOOL_CALLS] f\nx [ARGS]{}",
        "[TOOL_CALLS][{\"name\": \"f\", \"arg",
        "[TOOL_CALLS]f[ARGS]{\"cut\"",
        "[TOOL_CA",
        long.as_str(),
    ] {
        check(&format, other, &[text(other)]);
    }
}

proptest! {
    /// However text is split, the same comes of it, and of text without calls nothing is lost.
    #[test]
    fn splits_do_not_matter(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "<think>", "</think>", "<tool_call>", "</tool_call>", "<", "tool", "{\"name\": \"f\"", "}", "\n", "é", " ",
                "<function=f>", "</function>", "<parameter=x>", "</parameter>", "<|python_tag|>", "\"", "a",
            ]),
            0..14,
        ),
        which in 0..3_usize,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let answer = pieces.concat();
        let format = [tagged(), llama(), AnswerFormat::detect("<think>", "<think>", None)][which].clone();
        let whole = parse(&format, [answer.as_str()]);
        let mut at: Vec<usize> = cuts.iter().map(|cut| floor(&answer, cut.index(answer.len() + 1))).collect();
        at.extend([0, answer.len()]);
        at.sort_unstable();
        let split: Vec<&str> = at.windows(2).map(|w| &answer[w[0]..w[1]]).collect();
        prop_assert_eq!(parse(&format, split), whole);
    }
}

/// What a template makes of an assistant's calls is how its model writes them: taken apart it gives the same calls.
#[test]
fn calls_as_the_published_templates_write_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let json = |path: &str| serde_json::from_str::<Value>(&read(path).unwrap()).unwrap();
    let conversations = json("tests/data/chat/conversations.json");
    let chatml = ("<|im_start|>assistant\n", "<|im_end|>");
    let llama = ("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>");
    for (name, (begin, end), tools) in [
        ("Qwen-Qwen2.5-7B-Instruct", chatml, ToolFormat::Tagged),
        ("Qwen-Qwen3-0.6B", chatml, ToolFormat::Tagged),
        ("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", chatml, ToolFormat::Tagged),
        ("meta-llama-Llama-3.1-8B-Instruct", llama, ToolFormat::Llama),
        ("meta-llama-Llama-3.2-3B-Instruct", llama, ToolFormat::Llama),
        ("mistralai-Mistral-Nemo-Instruct-2407", ("[/INST]", "</s>"), ToolFormat::Mistral),
        ("Mistral-Small-3.2-24B-Instruct-2506", ("[/INST]", "</s>"), ToolFormat::Mistral),
    ] {
        // Set-up fetches the templates; what they make is in the repository.
        let Some(template) = read(&format!(".models/templates/{name}.jinja")) else { continue };
        let rendered = json(&format!("tests/data/chat/expected/{name}.json"));
        let mut compared = 0;
        for conversation in ["tool-results", "two-calls"] {
            // Llama's template refuses two calls.
            let Some(text) = rendered[conversation].as_str() else { continue };
            let (_, after) = text.split_once("Oslo?").unwrap();
            let (_, answer) = after.split_once(begin).unwrap();
            let (answer, _) = answer.split_once(end).unwrap();
            let is_this = |c: &&Value| c["name"] == conversation;
            let said = &conversations.as_array().unwrap().iter().find(is_this).unwrap()["messages"][1];
            let strings = BTreeSet::from([("get_weather".to_owned(), "city".to_owned())]);
            let format = AnswerFormat::detect(&template, "", Some(strings));
            assert_eq!(format.tools(), tools, "{name}");
            let parts = parse(&format, [answer]);
            let calls = parts.iter().filter_map(|part| match part {
                Part::Call(call) => {
                    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                    Some(json!({ "name": call.name, "arguments": arguments }))
                }
                _ => None,
            });
            let wanted = said["tool_calls"].as_array().unwrap().iter().map(|call| call["function"].clone());
            assert_eq!(calls.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{name}, {conversation}");
            check(&format, answer, &parts);
            compared += 1;
        }
        assert!(compared > 0, "{name}");
    }
}
