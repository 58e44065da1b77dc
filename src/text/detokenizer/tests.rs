use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::{Result, Status};

static FIXTURES: LazyLock<[Tokenizer; 3]> = LazyLock::new(|| {
    ["byte-tokenizer", "byte-level-bpe", "sentencepiece"].map(|name| {
        let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        Tokenizer::from_file(&data.join(name).join("tokenizer.json")).unwrap()
    })
});

/// A tokenizer of whole words with this decoder; `<s>` is special.
fn with_decoder(tokens: &[&str], decoder: &Value) -> Result<Tokenizer> {
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let special = json!({"id": 0, "content": "<s>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true});
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": decoder, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<s>"}});
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokenizer.json");
    std::fs::write(&file, tokenizer.to_string()).unwrap();
    Tokenizer::from_file(&file)
}

const WORDS: [&str; 14] =
    ["<s>", "▁a", "b▁", "▁", " ", "##c", "d", "<0xE2>", "<0x82>", "<0xAC>", "<0x20>", "▁▁", "don", " n't"];

fn streamable_decoders() -> Vec<Value> {
    let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let bytes = json!({"type": "ByteFallback"});
    let fuse = json!({"type": "Fuse"});
    let strip = |start: u32| json!({"type": "Strip", "content": " ", "start": start, "stop": 0});
    let sequence = |steps: &[&Value]| json!({"type": "Sequence", "decoders": steps});
    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    let nested = sequence(&[&replace, &bytes]);
    vec![
        Value::Null,
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        metaspace("always"),
        metaspace("never"),
        json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        json!({"type": "WordPiece", "prefix": "##", "cleanup": false}),
        fuse.clone(),
        bytes.clone(),
        strip(2),
        sequence(&[&replace, &bytes, &fuse, &strip(1)]),
        sequence(&[&replace, &bytes, &fuse, &strip(3)]),
        sequence(&[&replace, &strip(1), &bytes, &fuse]),
        sequence(&[&metaspace("first"), &fuse, &strip(1)]),
        sequence(&[&nested, &fuse]),
    ]
}

/// Streams, with what each push appends.
fn stream(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> Vec<String> {
    let mut detokenizer = Detokenizer::new(tokenizer, skip_special);
    let mut deltas = Vec::new();
    for &id in ids {
        let mut delta = String::new();
        detokenizer.push(id, &mut delta);
        deltas.push(delta);
    }
    let mut last = String::new();
    detokenizer.finish(&mut last);
    deltas.push(last);
    deltas
}

fn assert_as_reference(tokenizer: &Tokenizer, ids: &[u32]) -> std::result::Result<(), TestCaseError> {
    for skip_special in [false, true] {
        let reference = tokenizer.reference_decode(ids, skip_special).unwrap();
        prop_assert_eq!(stream(tokenizer, ids, skip_special).concat(), reference, "{:?}", ids);
    }
    Ok(())
}

#[test]
fn a_character_comes_with_its_last_byte() {
    let [bytes, _, pieces] = &*FIXTURES;
    let euro = [0xe2, 0x82, 0xac];
    assert_eq!(stream(bytes, &euro, false), ["", "", "€", ""]);
    assert_eq!(stream(bytes, &[0xe2, 0x82, 0x61], false), ["", "", "\u{fffd}a", ""]);
    assert_eq!(stream(bytes, &[0xe2, 0x82], false), ["", "", "\u{fffd}"]);
    assert_eq!(stream(bytes, &[0xe2, 0xe2, 0x82, 0xac], false), ["", "\u{fffd}", "", "€", ""]);
    assert_eq!(stream(bytes, &[0xff, 0xc0, 0x61], false), ["\u{fffd}", "\u{fffd}", "a", ""]);
    assert_eq!(stream(bytes, &[0x61, 256, 0x62], true), ["a", "", "b", ""]);
    assert_eq!(stream(bytes, &[0xe2, 256, 0x62], false), ["", "\u{fffd}<eos>", "b", ""]);

    // A run of byte tokens ends with the next piece; one bad byte spoils it.
    let run: Vec<u32> = euro.iter().map(|b| b + 3).collect();
    let word = pieces.token_id("▁the").unwrap();
    assert_eq!(stream(pieces, &[&run[..], &[word, word]].concat(), false), ["", "", "", "€ the", " the", ""]);
    let spoilt = [&run[..], &[0x80 + 3], &[word]].concat();
    assert_eq!(stream(pieces, &spoilt, false).concat(), "\u{fffd}\u{fffd}\u{fffd}\u{fffd} the");
    assert_eq!(stream(pieces, &[word, word], false), ["the", " the", ""]);
}

#[test]
fn it_says_whether_text_is_to_come() {
    let mut detokenizer = Detokenizer::new(&FIXTURES[0], false);
    let mut text = String::new();
    detokenizer.push(0xc3, &mut text);
    assert!(detokenizer.is_holding());
    detokenizer.push(0xa9, &mut text);
    assert!(!detokenizer.is_holding());
    assert_eq!(text, "é");
}

#[test]
fn a_finished_detokenizer_starts_anew() {
    let pieces = &FIXTURES[2];
    let word = pieces.token_id("▁the").unwrap();
    let mut detokenizer = Detokenizer::new(pieces, false);
    for _ in 0..2 {
        let mut text = String::new();
        detokenizer.push(word, &mut text);
        detokenizer.push(0xe2 + 3, &mut text);
        detokenizer.finish(&mut text);
        assert_eq!(text, "the\u{fffd}");
    }
    let mut text = String::new();
    detokenizer.push(0xe2 + 3, &mut text);
    detokenizer.reset();
    detokenizer.push(word, &mut text);
    assert_eq!(text, "the");
}

#[test]
fn a_decoder_that_cannot_stream_is_refused() {
    let fuse = json!({"type": "Fuse"});
    let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let bytes = json!({"type": "ByteFallback"});
    let back = json!({"type": "Strip", "content": " ", "start": 0, "stop": 1});
    for (decoder, step) in [
        (json!({"type": "BPEDecoder", "suffix": "</w>"}), "BPEDecoder"),
        (json!({"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true}), "CTC"),
        (json!({"type": "Sequence", "decoders": [bytes, replace, fuse]}), "Replace"),
        (json!({"type": "Sequence", "decoders": [replace, fuse, back]}), "Strip"),
        (back.clone(), "Strip"),
    ] {
        let e = with_decoder(&WORDS, &decoder).unwrap_err();
        assert_eq!(e.status(), Status::ModelUnsupported, "{e}");
        for part in ["tokenizer.json", step] {
            assert!(e.message().contains(part), "'{e}' does not say '{part}'");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_tokens_give_what_the_reference_gives(ids in proptest::collection::vec(0u32..600, 0..40)) {
        for tokenizer in &*FIXTURES {
            assert_as_reference(tokenizer, &ids)?;
        }
    }

    /// Few ids, so that byte tokens meet and leading spaces pile up.
    #[test]
    fn crowded_bytes_give_what_the_reference_gives(
        ids in proptest::collection::vec(prop_oneof![0xc2u32..0xc6, 0xe0u32..0xf8, 0x80u32..0xc0], 0..12),
    ) {
        let shifted: Vec<u32> = ids.iter().map(|id| id + 3).collect();
        assert_as_reference(&FIXTURES[0], &ids)?;
        assert_as_reference(&FIXTURES[2], &shifted)?;
    }

    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        for tokenizer in &*FIXTURES {
            let ids = tokenizer.encode(&text, true).unwrap();
            assert_as_reference(tokenizer, &ids)?;
        }
        let ids = FIXTURES[1].encode(&text, false).unwrap();
        prop_assert_eq!(stream(&FIXTURES[1], &ids, false).concat(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_decoder_gives_what_the_reference_gives(
        sequences in proptest::collection::vec(proptest::collection::vec(0u32..16, 0..8), 100),
    ) {
        for decoder in streamable_decoders() {
            let tokenizer = with_decoder(&WORDS, &decoder).unwrap();
            for ids in &sequences {
                assert_as_reference(&tokenizer, ids)?;
            }
        }
    }
}
