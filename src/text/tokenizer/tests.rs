use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::gguf::testing::GgufBytes;
use crate::text::Detokenizer;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn load(name: &str) -> Tokenizer {
    Tokenizer::from_file(&data(name).join("tokenizer.json")).unwrap()
}

fn json_of(name: &str, file: &str) -> Value {
    serde_json::from_slice(&fs::read(data(name).join(file)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Everything in a fixture's `expected.json`.
fn assert_as_expected(tokenizer: &Tokenizer, name: &str) {
    let expected = json_of(name, "expected.json");
    for entry in expected["texts"].as_array().unwrap() {
        let text = entry[0].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, false).unwrap(), ids(&entry[1]), "{text:?}");
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids(&entry[2]), "{text:?} with BOS");
    }
    for entry in expected["sequences"].as_array().unwrap() {
        let sequence = ids(&entry[0]);
        assert_eq!(tokenizer.decode(&sequence, false), entry[1].as_str().unwrap(), "{sequence:?}");
        assert_eq!(tokenizer.decode(&sequence, true), entry[2].as_str().unwrap(), "{sequence:?} skipped");
    }
}

/// GGUF metadata that says what a fixture's `tokenizer.json` says.
fn as_gguf(name: &str, model: &str, pre: &str) -> GgufBytes {
    let json = json_of(name, "tokenizer.json");
    let config = json_of(name, "tokenizer_config.json");
    let mut tokens: Vec<(u64, String, i32)> = Vec::new();
    for (token, id) in json["model"]["vocab"].as_object().unwrap() {
        let kind = if token.starts_with("<0x") { 6 } else { 1 };
        tokens.push((id.as_u64().unwrap(), token.clone(), kind));
    }
    for added in json["added_tokens"].as_array().unwrap() {
        let id = added["id"].as_u64().unwrap();
        let kind = match (added["content"].as_str().unwrap(), added["special"].as_bool().unwrap()) {
            ("<unk>", _) => 2,
            (_, true) => 3,
            (_, false) => 4,
        };
        tokens.retain(|token| token.0 != id);
        tokens.push((id, added["content"].as_str().unwrap().into(), kind));
    }
    tokens.sort();
    assert!(tokens.iter().enumerate().all(|(i, token)| token.0 == i as u64), "no hole");
    let names: Vec<&str> = tokens.iter().map(|token| token.1.as_str()).collect();
    let position = |key: &str| {
        let name = config[key].as_str().or(config[key]["content"].as_str()).unwrap();
        names.iter().position(|token| *token == name).unwrap() as u32
    };
    GgufBytes::default()
        .str("tokenizer.ggml.model", model)
        .str("tokenizer.ggml.pre", pre)
        .strings("tokenizer.ggml.tokens", &names)
        .i32s("tokenizer.ggml.token_type", &tokens.iter().map(|token| token.2).collect::<Vec<_>>())
        .u32("tokenizer.ggml.bos_token_id", position("bos_token"))
        .u32("tokenizer.ggml.eos_token_id", position("eos_token"))
}

fn merges_of(name: &str) -> Vec<String> {
    let json = json_of(name, "tokenizer.json");
    let merges = json["model"]["merges"].as_array().unwrap();
    merges.iter().map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap())).collect()
}

fn byte_level_gguf(pre: &str) -> GgufBytes {
    let merges = merges_of("byte-level-bpe");
    as_gguf("byte-level-bpe", "gpt2", pre)
        .strings("tokenizer.ggml.merges", &merges.iter().map(String::as_str).collect::<Vec<_>>())
}

fn sentencepiece_gguf() -> GgufBytes {
    let expected = json_of("sentencepiece", "expected.json");
    let mut scores: Vec<f32> = serde_json::from_value(expected["scores"].clone()).unwrap();
    let gguf = as_gguf("sentencepiece", "llama", "default");
    scores.resize(load("sentencepiece").vocab_size(), 0.0);
    gguf.f32s("tokenizer.ggml.scores", &scores)
}

fn open(gguf: &GgufBytes) -> Result<Option<Tokenizer>> {
    let file = gguf.write();
    Tokenizer::load(&ModelFiles::Gguf(file.path().to_owned()))
}

fn assert_error(result: Result<impl std::fmt::Debug>, status: Status, parts: &[&str]) {
    let e = result.unwrap_err();
    assert_eq!(e.status(), status, "{e}");
    for part in parts {
        assert!(e.message().contains(part), "'{e}' does not say '{part}'");
    }
}

#[test]
fn it_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Tokenizer>();
    shared::<Detokenizer>();
}

#[test]
fn a_byte_level_vocabulary_is_the_references() {
    let tokenizer = load("byte-level-bpe");
    assert_as_expected(&tokenizer, "byte-level-bpe");
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_ids()), (Some(0), &[1][..]));
    assert_eq!(tokenizer.token_id("<|pad|>"), Some(2));
    assert_eq!(tokenizer.token_id("<nothing>"), None);
    assert!(tokenizer.is_special(2));
    let the = tokenizer.encode(" the", false).unwrap();
    assert_eq!(tokenizer.token_bytes(the[0]), Some(&b" the"[..]));
    assert_eq!(tokenizer.token_bytes(tokenizer.vocab_size() as u32), None);
}

#[test]
fn a_sentencepiece_vocabulary_is_the_references() {
    let tokenizer = load("sentencepiece");
    assert_as_expected(&tokenizer, "sentencepiece");
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_ids()), (Some(1), &[2][..]));
    assert_eq!(tokenizer.token_bytes(3), Some(&[0][..]));
}

#[test]
fn gguf_metadata_gives_the_same() {
    let byte_level = open(&byte_level_gguf("smollm").bool("tokenizer.ggml.add_bos_token", true));
    let byte_level = byte_level.unwrap().unwrap();
    assert_as_expected(&byte_level, "byte-level-bpe");
    assert_eq!((byte_level.bos_id(), byte_level.eos_ids()), (Some(0), &[1][..]));

    let sentencepiece = open(&sentencepiece_gguf()).unwrap().unwrap();
    assert_as_expected(&sentencepiece, "sentencepiece");
    assert_eq!((sentencepiece.bos_id(), sentencepiece.eos_ids()), (Some(1), &[2][..]));
}

#[test]
fn gguf_says_what_goes_around_a_text() {
    let around = |gguf: GgufBytes| open(&gguf).unwrap().unwrap().encode("<|pad|>", true).unwrap();
    assert_eq!(around(byte_level_gguf("smollm")), [2]);
    assert_eq!(around(byte_level_gguf("llama-bpe")), [0, 2]);
    assert_eq!(around(byte_level_gguf("llama-bpe").bool("tokenizer.ggml.add_bos_token", false)), [2]);
    assert_eq!(around(byte_level_gguf("smollm").bool("tokenizer.ggml.add_eos_token", true)), [2, 1]);
    let more = byte_level_gguf("smollm")
        .u32("tokenizer.ggml.eot_token_id", 2)
        .u32("tokenizer.ggml.eom_token_id", 1_000_000);
    assert_eq!(open(&more).unwrap().unwrap().eos_ids(), [1, 2]);
}

#[test]
fn gguf_splits_text_as_it_says() {
    // Merges that would go on over any boundary; one token ("aba") that none makes.
    let mut tokens: Vec<String> = (0..=255u8).map(char_of_byte).map(String::from).collect();
    tokens.extend(["12", "1212", ".Ċ", "aba", "Ġ1"].map(String::from));
    let merges = ["1 2", "12 12", ". Ċ", "Ġ 1"];
    let pieces = |pre: &str, text: &str| {
        let gguf = GgufBytes::default()
            .str("tokenizer.ggml.model", "gpt2")
            .str("tokenizer.ggml.pre", pre)
            .strings("tokenizer.ggml.tokens", &tokens.iter().map(String::as_str).collect::<Vec<_>>())
            .strings("tokenizer.ggml.merges", &merges);
        let tokenizer = open(&gguf).unwrap().unwrap();
        let ids = tokenizer.encode(text, false).unwrap();
        ids.iter().map(|&id| tokenizer.decode(&[id], false)).collect::<Vec<_>>()
    };
    assert_eq!(pieces("gpt-2", "1212"), ["1212"]);
    assert_eq!(pieces("smollm", "1212"), ["1", "2", "1", "2"]);
    assert_eq!(pieces("qwen2", "1212"), ["1", "2", "1", "2"]);
    assert_eq!(pieces("llama-bpe", "1212"), ["12", "1", "2"]);
    assert_eq!(pieces("deepseek-v3", "1212"), ["12", "1", "2"]);
    assert_eq!(pieces("gpt-2", " 1"), [" 1"]);
    assert_eq!(pieces("smollm", " 1"), [" ", "1"]);
    assert_eq!(pieces("gpt-2", ".\n"), [".", "\n"]);
    assert_eq!(pieces("llama-bpe", ".\n"), [".\n"]);
    assert_eq!(pieces("smaug-bpe", "aba"), ["a", "b", "a"]);
    assert_eq!(pieces("llama-bpe", "aba"), ["aba"]);
    // NFC puts the accent on its letter.
    assert_eq!(pieces("qwen2", "e\u{301}").len(), "é".len());
    assert_eq!(pieces("gpt-2", "e\u{301}").len(), "e\u{301}".len());
}

/// GPT-2's character for a byte.
fn char_of_byte(byte: u8) -> char {
    let rest = (0..byte).filter(|b| !matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)).count();
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => char::from_u32(0x100 + rest as u32).unwrap(),
    }
}

#[test]
fn every_known_pre_tokenizer_is_sound() {
    for name in crate::text::pre_tokenizers::TABLE.iter().map(|(names, _)| names[0]) {
        let tokenizer = open(&byte_level_gguf(name)).unwrap().unwrap();
        let text = "It's 1234 things, déjà\r\n  漢字 👩‍👩 (a+b)*c\t\n\n x";
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(tokenizer.decode(&ids, false), text, "{name}");
    }
}

#[test]
fn damaged_gguf_metadata_is_named() {
    use Status::{ModelInvalid, ModelUnsupported, TokenizerInvalid};
    assert!(open(&GgufBytes::default()).unwrap().is_none());
    assert!(open(&GgufBytes::default().str("tokenizer.ggml.model", "none")).unwrap().is_none());
    let base = |model: &str| GgufBytes::default().str("tokenizer.ggml.model", model);
    assert_error(open(&base("gpt2")), ModelInvalid, &[".gguf", "tokenizer.ggml.tokens"]);
    let tokens = |model: &str| base(model).strings("tokenizer.ggml.tokens", &["a", "b", "ab"]);
    assert_error(open(&tokens("gpt2")), ModelInvalid, &[".gguf", "tokenizer.ggml.merges"]);
    assert_error(open(&tokens("llama")), ModelInvalid, &[".gguf", "tokenizer.ggml.scores"]);
    assert_error(open(&tokens("t5")), ModelUnsupported, &[".gguf", "tokenizer.ggml.model", "'t5'"]);
    let unknown = tokens("gpt2").str("tokenizer.ggml.pre", "new-model");
    assert_error(open(&unknown), ModelUnsupported, &[".gguf", "tokenizer.ggml.pre", "'new-model'"]);
    let short = tokens("llama").f32s("tokenizer.ggml.scores", &[0.0]);
    assert_error(open(&short), TokenizerInvalid, &[".gguf", "tokenizer.ggml.scores", "1 entries for 3"]);
    let short = tokens("gpt2").i32s("tokenizer.ggml.token_type", &[1]);
    assert_error(open(&short), TokenizerInvalid, &[".gguf", "tokenizer.ggml.token_type"]);
    for (merge, part) in [("b a", "'ba'"), ("a x", "'x'"), ("ab", "no pair"), ("", "no pair")] {
        let merges = tokens("gpt2").strings("tokenizer.ggml.merges", &[merge]);
        assert_error(open(&merges), TokenizerInvalid, &[".gguf", "tokenizer.ggml.merges", part]);
    }
    let twice = base("gpt2").strings("tokenizer.ggml.tokens", &["a", "b", "a"]);
    assert_error(open(&twice), TokenizerInvalid, &[".gguf", "tokens 0 and 2 are both 'a'"]);
}

/// A directory with the byte tokenizer, and other files.
fn directory(files: &[(&str, Value)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(data("byte-tokenizer/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    for (name, value) in files {
        fs::write(dir.path().join(name), value.to_string()).unwrap();
    }
    dir
}

fn from_directory(dir: &tempfile::TempDir) -> Result<Tokenizer> {
    Tokenizer::from_file(&dir.path().join("tokenizer.json"))
}

#[test]
fn the_end_of_text_is_what_any_file_says() {
    let eos = |files: &[(&str, Value)]| from_directory(&directory(files)).unwrap().eos_ids().to_vec();
    let tokenizer = || ("tokenizer_config.json", json!({"eos_token": "<eos>"}));
    let model = || ("config.json", json!({"eos_token_id": 7}));
    assert_eq!(eos(&[]), [0u32; 0]);
    assert_eq!(eos(&[tokenizer()]), [256]);
    assert_eq!(eos(&[tokenizer(), model()]), [7, 256]);
    let generation = ("generation_config.json", json!({"eos_token_id": [9, 8, 9]}));
    assert_eq!(eos(&[tokenizer(), model(), generation]), [8, 9, 256]);
    let null = ("generation_config.json", json!({"eos_token_id": null}));
    assert_eq!(eos(&[model(), null]), [7]);
}

#[test]
fn the_beginning_of_text_is_named_or_numbered() {
    let bos = |files: &[(&str, Value)]| from_directory(&directory(files)).unwrap().bos_id();
    assert_eq!(bos(&[]), None);
    assert_eq!(bos(&[("config.json", json!({"bos_token_id": 5}))]), Some(5));
    let both = [
        ("config.json", json!({"bos_token_id": 5})),
        ("tokenizer_config.json", json!({"bos_token": {"content": "<bos>"}})),
    ];
    assert_eq!(bos(&both), Some(257));
}

#[test]
fn a_token_with_a_role_is_special() {
    // Plain in tokenizer.json, the end of text in tokenizer_config.json.
    let plain = from_directory(&directory(&[])).unwrap();
    assert!(!plain.is_special(u32::from(b'x')));
    let config = json!({"eos_token": "x", "pad_token": "not in the vocabulary", "unk_token": null});
    let marked = from_directory(&directory(&[("tokenizer_config.json", config)])).unwrap();
    assert!(marked.is_special(u32::from(b'x')));
    assert_eq!(marked.decode(&marked.encode("axb", false).unwrap(), true), "ab");
    assert_eq!(marked.vocab_size(), plain.vocab_size());
}

#[test]
fn added_tokens_come_from_either_file() {
    let entry = json!({"content": "<new>", "special": false, "normalized": false});
    let config = |id: &str| json!({"added_tokens_decoder": {id: entry.clone()}});
    let dir = directory(&[("tokenizer_config.json", config("258"))]);
    assert_eq!(from_directory(&dir).unwrap().encode("a<new>", false).unwrap(), [97, 258]);
    let dir = directory(&[("tokenizer_config.json", config("300"))]);
    let parts = ["tokenizer_config.json", "'<new>'", "300", "258"];
    assert_error(from_directory(&dir), Status::TokenizerInvalid, &parts);
    let dir = directory(&[("tokenizer_config.json", config("x"))]);
    assert_error(from_directory(&dir), Status::TokenizerInvalid, &["added_tokens_decoder['x']"]);
}

#[test]
fn a_broken_file_is_named_with_the_place() {
    let sound = fs::read_to_string(data("byte-tokenizer/tokenizer.json")).unwrap();
    let broken = |text: &str| {
        let dir = directory(&[]);
        fs::write(dir.path().join("tokenizer.json"), text).unwrap();
        from_directory(&dir)
    };
    for text in ["", "{", "[]", &sound[..sound.len() / 2], &sound.replace("\"BPE\"", "\"XYZ\"")] {
        assert_error(broken(text), Status::TokenizerInvalid, &["tokenizer.json", "line 1 column"]);
    }
    // The crate panics on a merge that is longer than any token.
    let merges = sound.replace("\"merges\":[]", r#""merges":[["Ġ","Ġ"]]"#);
    assert_ne!(merges, sound);
    assert_error(broken(&merges), Status::TokenizerInvalid, &["tokenizer.json", "cannot be used"]);
    let huge = sound.replace("\"a\":97,", "\"a\":4294967295,");
    assert_ne!(huge, sound);
    assert_error(broken(&huge), Status::TokenizerInvalid, &["tokenizer.json", "4294967295"]);

    for (name, status) in [
        ("tokenizer_config.json", Status::TokenizerInvalid),
        ("generation_config.json", Status::ModelInvalid),
        ("config.json", Status::ModelInvalid),
    ] {
        let dir = directory(&[]);
        fs::write(dir.path().join(name), "{\"a\": ").unwrap();
        assert_error(from_directory(&dir), status, &[name, "line 1 column"]);
        fs::write(dir.path().join(name), "[]").unwrap();
        assert_error(from_directory(&dir), status, &[name, "object"]);
    }
    let missing = Tokenizer::from_file(&data("none/tokenizer.json"));
    assert_error(missing, Status::TokenizerInvalid, &["none", "no such file"]);
}

#[test]
fn a_directory_without_a_tokenizer_has_none() {
    let mut directory = ModelDirectory {
        path: data("byte-tokenizer"),
        config: data("config.json"),
        shards: vec![],
        index: None,
        tokenizer: None,
        tokenizer_config: None,
        generation_config: None,
        chat_template: None,
    };
    assert!(Tokenizer::from_directory(&directory).unwrap().is_none());
    directory.tokenizer = Some(data("byte-tokenizer/tokenizer.json"));
    let tokenizer = Tokenizer::load(&ModelFiles::Directory(directory)).unwrap().unwrap();
    assert_eq!((tokenizer.eos_ids(), tokenizer.bos_id()), (&[256][..], Some(257)));
}

proptest! {
    #[test]
    fn the_byte_tokenizer_is_the_identity(text in any::<String>()) {
        let tokenizer = load("byte-tokenizer");
        let ids = tokenizer.encode(&text, true).unwrap();
        if !text.contains("<eos>") && !text.contains("<bos>") {
            prop_assert!(ids.iter().copied().eq(text.bytes().map(u32::from)));
        }
        prop_assert_eq!(tokenizer.decode(&ids, false), text);
    }

    /// Whatever is changed in a file: an error or a tokenizer that works, never a panic.
    #[test]
    fn a_damaged_file_never_panics(at in 0usize..10_000, with in any::<u8>()) {
        let mut bytes = fs::read(data("sentencepiece/tokenizer.json")).unwrap();
        let at = at % bytes.len();
        bytes[at] = with;
        let dir = directory(&[]);
        fs::write(dir.path().join("tokenizer.json"), bytes).unwrap();
        if let Ok(tokenizer) = from_directory(&dir)
            && let Ok(ids) = tokenizer.encode("Hello <|end|> 1é👍", true)
        {
            tokenizer.decode(&ids, true);
        }
    }
}
