//! Random walks through masks: whatever is accepted must be what the grammar asked for.

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::error::{Error, Status};
use crate::text::Tokenizer;

/// Byte-level BPE with some merges; its last token ends a text.
fn tokenizer() -> Tokenizer {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/byte-level-bpe/tokenizer.json");
    Tokenizer::from_file(&data).unwrap()
}

struct Walker {
    tokenizer: Tokenizer,
    grammars: Grammars,
    eos: u32,
}

impl Walker {
    /// A model with more logits than its tokenizer has tokens.
    fn new() -> Self {
        let tokenizer = tokenizer();
        let eos = tokenizer.eos_ids()[0];
        let grammars = Grammars::new(&tokenizer, tokenizer.vocab_size() + 37, &[eos]).unwrap();
        Walker { tokenizer, grammars, eos }
    }

    fn start(&self, kind: GrammarKind, text: &str) -> Result<GrammarState, Error> {
        self.grammars.start(&Grammar { kind, text: text.to_owned() })
    }

    fn refused(&self, kind: GrammarKind, text: &str) -> String {
        let error = self.start(kind, text).map(drop).unwrap_err();
        assert_eq!(error.status(), Status::GrammarInvalid, "{error}");
        error.message().to_owned()
    }

    /// A text of random allowed tokens; `None` if it became too long. From `hurry` tokens on it ends as soon as it
    /// may.
    fn walk(&self, kind: GrammarKind, text: &str, seed: u64, hurry: usize) -> Option<String> {
        let mut state = self.start(kind, text).unwrap();
        let mut random = seed;
        let mut tokens = Vec::new();
        for _ in 0..hurry + 400 {
            let mask = state.mask(std::iter::empty()).unwrap();
            let allowed: Vec<u32> =
                (0..mask.len() as u32 * 32).filter(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1).collect();
            assert!(
                !allowed.is_empty() && allowed.iter().all(|&t| (t as usize) < self.tokenizer.vocab_size())
            );
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mut token = allowed[(mixed >> 33) as usize % allowed.len()];
            if tokens.len() >= hurry {
                // The shortest way on is often the end of a string or list.
                let ends =
                    |t: &&u32| matches!(self.tokenizer.token_bytes(**t), Some(b"\"" | b"]" | b"}" | b"0"));
                let short = allowed.iter().find(ends).copied();
                token = if allowed.contains(&self.eos) { self.eos } else { short.unwrap_or(token) };
            }
            if token == self.eos {
                return Some(self.tokenizer.decode(&tokens, false));
            }
            tokens.push(token);
            if state.accept(token).unwrap() {
                return Some(self.tokenizer.decode(&tokens, false));
            }
        }
        None
    }

    /// Texts of random walks, of which most must have come to an end.
    fn texts(&self, kind: GrammarKind, text: &str) -> Vec<String> {
        let texts: Vec<String> = (0..25).filter_map(|seed| self.walk(kind, text, seed, 40)).collect();
        assert!(texts.len() >= 15, "{} of 25 walks through {text} ended", texts.len());
        texts
    }
}

#[test]
fn json_validates() {
    let walker = Walker::new();
    let schema = r##"{
        "type": "object",
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 8 },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "tags": { "type": "array", "items": { "enum": ["a", "b", 3] }, "maxItems": 3 },
            "where": { "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/point" }] }
        },
        "required": ["name", "age"],
        "additionalProperties": false,
        "$defs": { "point": { "type": "object", "properties": { "x": { "type": "number" } },
                              "required": ["x"], "additionalProperties": false } }
    }"##;
    for text in walker.texts(GrammarKind::JsonSchema, schema) {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let object = value.as_object().unwrap();
        let name = object["name"].as_str().unwrap().chars().count();
        assert!(
            (1..=8).contains(&name) && object["age"].as_i64().is_some_and(|age| (0..=150).contains(&age))
        );
        for (key, value) in object {
            let sound = match key.as_str() {
                "name" | "age" => true,
                "tags" => value.as_array().is_some_and(|tags| {
                    tags.len() <= 3 && tags.iter().all(|tag| *tag == "a" || *tag == "b" || *tag == 3)
                }),
                "where" => value.is_null() || value["x"].is_number() && value.as_object().unwrap().len() == 1,
                _ => false,
            };
            assert!(sound, "{text}");
        }
    }
    for text in walker.texts(GrammarKind::JsonObject, "") {
        assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{text}");
    }
}

#[test]
fn regular_expressions_grammars_and_choices_match() {
    let walker = Walker::new();
    for text in walker.texts(GrammarKind::Regex, r"[a-c]{2,5}-\d{1,3}(/x)?") {
        let (letters, rest) = text.split_once('-').unwrap();
        let digits = rest.strip_suffix("/x").unwrap_or(rest);
        assert!(
            (2..=5).contains(&letters.len()) && letters.bytes().all(|b| (b'a'..=b'c').contains(&b)),
            "{text}"
        );
        assert!((1..=3).contains(&digits.chars().count()) && digits.chars().all(char::is_numeric), "{text}");
    }
    let lark = "start: \"(\" start \")\" | NAME\nNAME: /[xy]+/";
    for text in walker.texts(GrammarKind::Lark, lark) {
        let opened = text.chars().take_while(|c| *c == '(').count();
        let inner = &text[opened..text.len() - opened];
        assert!(!inner.is_empty() && inner.chars().all(|c| c == 'x' || c == 'y'), "{text}");
        assert!(text[text.len() - opened..].chars().all(|c| c == ')'));
    }
    let choices = ["red", "dark red", "\"quoted\"\n", "grün"];
    let list = serde_json::to_string(&choices).unwrap();
    let texts = walker.texts(GrammarKind::Choice, &list);
    assert!(texts.iter().all(|text| choices.contains(&text.as_str())), "{texts:?}");
    assert!(choices.iter().all(|choice| texts.iter().any(|text| text == choice)), "{texts:?}");
}

#[test]
fn unwanted_tokens_stay_out_until_nothing_else_is_left() {
    let walker = Walker::new();
    let mut state = walker.start(GrammarKind::Regex, "a|b").unwrap();
    let id = |text: &str| walker.tokenizer.token_id(text).unwrap();
    let (a, b) = (id("a"), id("b"));
    let has = |mask: &[u32], token: u32| mask[token as usize / 32] >> (token % 32) & 1 == 1;
    let mask = state.mask([a].into_iter()).unwrap();
    assert!(!has(mask, a) && has(mask, b));
    let mask = state.mask([a, b, u32::MAX].into_iter()).unwrap();
    assert!(has(mask, a) && has(mask, b));
    assert_eq!(state.last_mask().iter().map(|word| word.count_ones()).sum::<u32>(), 2);
    assert!(!state.may_end());
    assert!(state.accept(b).unwrap() && state.may_end());
}

#[test]
fn what_cannot_be_used_is_refused_with_the_place() {
    let walker = Walker::new();
    let deep = format!("{}{}{}", r#"{"items":"#.repeat(10_000), "{}", "}".repeat(10_000));
    let schemas = [
        ("{\"type\": \"object\",\n  oops}", "line 2 column 3"),
        (deep.as_str(), "recursion limit exceeded at line 1"),
        (r#"{"type": "strin"}"#, "its root"),
        (
            r#"{"properties": {"a/b": {"type": "array", "items": {"type": "nope"}}}}"#,
            "/properties/a~1b/items",
        ),
        (r#"{"anyOf": [{"type": "null"}, {"not": {}}]}"#, "/anyOf/1"),
        (r##"{"items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"type": "wrong"}}}"##, "/$defs/x"),
        (r##"{"$ref": "#/$defs/missing"}"##, "missing"),
        (
            r#"{"type": "object", "properties": {"n": {"type": "integer", "minimum": 5, "maximum": 2}},
             "required": ["n"]}"#,
            "/properties/n",
        ),
        ("false", "its root"),
        ("[]", "its root"),
        ("", "line 1 column 0"),
    ];
    for (schema, names) in schemas {
        let message = walker.refused(GrammarKind::JsonSchema, schema);
        assert!(message.contains(names), "{message} should name {names}");
        assert!(message.len() < 4000);
    }
    for (kind, text, names) in [
        (GrammarKind::Regex, "a(b", "unclosed"),
        (GrammarKind::Regex, "[", "regular expression"),
        (GrammarKind::Regex, r"a\", "within an escape"),
        (GrammarKind::Lark, "start: \"a\" foo", "foo"),
        (GrammarKind::Lark, "", "grammar"),
        (GrammarKind::Lark, "start: (((", "grammar"),
        (GrammarKind::Choice, "[\"a\", 2]", "choice [1]"),
    ] {
        let message = walker.refused(kind, text);
        assert!(message.contains(names), "{message} should name {names}");
    }
    // Nothing that came before matters to what comes now.
    assert!(!walker.texts(GrammarKind::Choice, "[\"still fine\"]").is_empty());
}

#[test]
fn bombs_are_refused_or_go_off_within_limits() {
    let walker = Walker::new();
    let bombs = [
        "(a{1000}){1000}{1000}",
        "((a*)*)*b",
        "(x+x+)+y",
        "(a|a?){60}a{60}",
        "[a-z]{0,100000}[0-9]{100000}",
        "(?:(?:(?:.{99}){99}){99}){99}",
        "(.*a.{30})|(.*b.{30})",
    ];
    for bomb in bombs {
        match walker.start(GrammarKind::Regex, bomb) {
            Ok(mut state) => {
                // A few steps into it: a mask, or an error that says it is too much.
                for _ in 0..8 {
                    let Ok(mask) = state.mask(std::iter::empty()) else { break };
                    let mut tokens = 0..mask.len() as u32 * 32;
                    let token = tokens.find(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1).unwrap();
                    if token == walker.eos || !matches!(state.accept(token), Ok(false)) {
                        break;
                    }
                }
            }
            Err(error) => assert_eq!(error.status(), Status::GrammarInvalid, "{error}"),
        }
    }
}

#[test]
fn damaged_grammars_are_refused_or_followed() {
    let walker = Walker::new();
    let seeds = [
        (
            GrammarKind::JsonSchema,
            r##"{"type":"object","properties":{"a":{"$ref":"#/$defs/b"},"c":{"type":"array",
          "items":{"anyOf":[{"type":"string","pattern":"^x+$"},{"enum":[1,null]}]},"minItems":1}},"required":["a"],
          "$defs":{"b":{"type":"integer","multipleOf":3,"maximum":1e3}},"additionalProperties":{"type":"number"}}"##,
        ),
        (GrammarKind::Regex, r"([a-z]+\d{2,4}|(?i:ab|cd)*)\.(x|\u{61}[^\n\t])?"),
        (
            GrammarKind::Lark,
            "start: a b* | \"x\"i~2\na: /y+/ %json {\"type\":\"null\"}\nb: \"(\" start \")\"\n%ignore / /",
        ),
        (GrammarKind::Choice, r#"["one", "two words", "\u00e9"]"#),
    ];
    let mut random = 7u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below.max(1)
    };
    let (mut refused, mut followed) = (0, 0);
    for round in 0..400 {
        let (kind, text) = seeds[round % seeds.len()];
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..1 + next(3) {
            let (at, other) = (next(bytes.len()), next(bytes.len()));
            match next(4) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, b"{}[]()\"\\|*+?,:9a/"[next(17)]),
                2 => bytes.swap(at, other),
                _ => bytes.truncate(bytes.len() - next(9)),
            }
        }
        let Ok(text) = String::from_utf8(bytes) else { continue };
        match walker.start(kind, &text) {
            Err(error) => {
                assert_eq!(error.status(), Status::GrammarInvalid, "{error}: {text}");
                refused += 1;
            }
            Ok(_) => {
                // However far it gets, each step is a mask that can be followed.
                walker.walk(kind, &text, round as u64, 10);
                followed += 1;
            }
        }
    }
    assert!(refused > 50 && followed > 50, "{refused} refused, {followed} followed");
}
