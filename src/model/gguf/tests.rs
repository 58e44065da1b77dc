use proptest::prelude::*;

use super::testing::{GgufBytes, string, write};
use super::*;

fn small() -> GgufBytes {
    GgufBytes::default()
        .str("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .key("eps", 6, &1e-5f32.to_le_bytes())
        .bool("flag", true)
        .strings("words", &["a", "", "ﷺ", "b c"])
        .i32s("types", &[3, -1])
        .f32s("scores", &[0.5, -2.0])
        .tensor("a.weight", &[64, 2], 3, &[7; 80])
        .tensor("norm.weight", &[5], 0, &[0; 20])
}

fn error(bytes: &[u8]) -> Error {
    let file = write(bytes);
    let e = Gguf::open(file.path()).expect_err("an error");
    assert!(e.message().starts_with(&file.path().display().to_string()), "{e} does not name the file");
    e
}

fn assert_invalid(file: &GgufBytes, part: &str) {
    let e = error(&file.build());
    assert_eq!(e.status(), Status::ModelInvalid, "{e}");
    assert!(e.message().contains(part), "'{e}' does not say '{part}'");
}

#[test]
fn a_sound_file_reads_back() {
    let file = small().write();
    let gguf = Gguf::open(file.path()).unwrap();
    let m = gguf.metadata();
    assert_eq!(m.str("general.architecture").unwrap(), "llama");
    assert_eq!(m.u64("llama.block_count").unwrap(), 2);
    assert_eq!(m.f32("eps").unwrap(), 1e-5);
    assert_eq!(m.find_bool("flag").unwrap(), Some(true));
    let words = m.strings("words").unwrap();
    assert_eq!(words.iter().collect::<Vec<_>>(), ["a", "", "ﷺ", "b c"]);
    assert_eq!((words.get(2), words.get(4)), (Some("ﷺ"), None));
    assert_eq!(m.i32s("types").unwrap(), [3, -1]);
    assert_eq!(m.f32s("scores").unwrap(), [0.5, -2.0]);
    assert_eq!(m.find_u64("absent").unwrap(), None);

    let [a, norm] = gguf.tensors() else { panic!("two tensors") };
    assert_eq!((a.name.as_str(), a.shape.as_slice(), a.kind), ("a.weight", &[2, 64][..], GgufType::Q4_1));
    assert_eq!(a.bytes, 80);
    assert_eq!(norm.offset - a.offset, 96);
    let bytes = std::fs::read(file.path()).unwrap();
    assert_eq!(bytes[a.offset as usize..][..80], [7; 80]);
    gguf.check_supported().unwrap();
}

#[test]
fn version_2_is_read_and_others_are_not() {
    let v2 = GgufBytes { version: 2, ..small() }.write();
    Gguf::open(v2.path()).unwrap();
    for version in [0, 1, 4, 3u32.swap_bytes()] {
        let e = error(&GgufBytes { version, ..small() }.build());
        assert_eq!(e.status(), Status::ModelUnsupported, "{e}");
    }
    assert!(error(&GgufBytes { version: 3u32.swap_bytes(), ..small() }.build()).message().contains("big"));
}

#[test]
fn a_lookup_says_which_key_of_which_file() {
    let file = small().write();
    let gguf = Gguf::open(file.path()).unwrap();
    let missing = gguf.metadata().u64("llama.head_count").unwrap_err();
    let mistyped = gguf.metadata().u64("general.architecture").unwrap_err();
    for (e, key, part) in
        [(missing, "llama.head_count", "missing"), (mistyped, "general.architecture", "a string")]
    {
        assert_eq!(e.status(), Status::ModelInvalid);
        for part in [key, part, file.path().to_str().unwrap()] {
            assert!(e.message().contains(part), "'{e}' does not say '{part}'");
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = small().build();
    // From the data section on a cut hits the last tensor; before, the header.
    for len in 0..bytes.len() {
        let e = error(&bytes[..len]);
        assert_eq!(e.status(), Status::ModelInvalid, "at {len}: {e}");
    }
}

#[test]
fn hostile_counts_cost_nothing() {
    let huge = u64::MAX.to_le_bytes();
    let mut bytes = small().build();
    bytes[16..24].copy_from_slice(&huge);
    assert!(error(&bytes).message().contains("metadata"));
    let mut bytes = small().build();
    bytes[8..16].copy_from_slice(&huge);
    assert!(error(&bytes).message().contains("tensor 2 of"));
    let array = [&8u32.to_le_bytes()[..], &huge].concat();
    assert_invalid(&GgufBytes::default().key("k", 9, &array), "'k'");
    assert_invalid(&GgufBytes::default().key("k", 8, &huge), "'k'");
    // A length that a sparse file does have room for still meets the header's limit.
    let file = write(&GgufBytes::default().key("k", 8, &(1u64 << 33).to_le_bytes()).build());
    file.as_file().set_len(1 << 34).unwrap();
    let e = Gguf::open(file.path()).unwrap_err();
    assert!(e.message().contains("header beyond"), "{e}");
}

#[test]
fn damaged_metadata_is_named() {
    assert_invalid(&small().u32("eps", 1), "'eps' appears twice");
    assert_invalid(&small().key("k", 13, &[0; 8]), "value type 13");
    assert_invalid(&small().key("k", 7, &[2]), "truth value of 2");
    assert_invalid(&small().key("k", 8, &[&string("ab")[..8], &[0xff, 0xfe]].concat()), "UTF-8");
    assert_invalid(&small().array("k", 99, &[]), "element type 99");
    let nested = error(&small().array("k", 9, &[vec![0; 12]]).build());
    assert_eq!(nested.status(), Status::ModelUnsupported);
    assert!(nested.message().contains("'k'"), "{nested}");
    for alignment in [0, 24, 1 << 30] {
        assert_invalid(&small().u32("general.alignment", alignment), "general.alignment");
    }
}

#[test]
fn damaged_tensors_are_named() {
    assert_invalid(&small().info("norm.weight", &[1], 0, 128), "'norm.weight' appears twice");
    assert_invalid(&small().info("x", &[], 0, 0), "tensor 'x': has 0 dimensions");
    assert_invalid(&small().info("x", &[1; 5], 0, 0), "tensor 'x': has 5 dimensions");
    assert_invalid(&small().info("x", &[4, 0], 0, 0), "tensor 'x': has a dimension of 0");
    assert_invalid(&small().info("x", &[33], 8, 0), "rows of 33 elements");
    assert_invalid(&small().info("x", &[1 << 32, 1 << 32], 0, 0), "overflows");
    assert_invalid(&small().info("x", &[1], 0, 4), "offset 4 is no multiple of 32");
    assert_invalid(&small().info("x", &[1], 0, u64::MAX - 31), "ends after the file's");
    assert_invalid(&small().info("x", &[1], 0, 1 << 20), "ends after the file's");
    assert_invalid(&small().info("x", &[1], 0, 64), "'a.weight' and 'x' overlap");
    let e = error(&small().info("x", &[1], 77, 0).build());
    assert_eq!(e.status(), Status::ModelUnsupported);
    assert!(e.message().contains("tensor 'x': has type 77"), "{e}");
}

#[test]
fn what_cannot_be_computed_with_is_named() {
    let refusal = |file: GgufBytes| {
        let file = file.write();
        let e = Gguf::open(file.path()).unwrap().check_supported().unwrap_err();
        assert_eq!(e.status(), Status::ModelUnsupported);
        e.message().to_owned()
    };
    assert!(refusal(small().tensor("k", &[256], 14, &[0; 210])).contains("'k' has type Q6_K"));
    let bf16 = small().tensor("b", &[2], 30, &[0; 4]).write();
    Gguf::open(bf16.path()).unwrap().check_supported().unwrap();
    // A sparse file has room for the largest dimension.
    let huge = small().info("h", &[1 << 31], 0, 128).write();
    huge.as_file().set_len((1 << 33) + 4096).unwrap();
    let e = Gguf::open(huge.path()).unwrap().check_supported().unwrap_err();
    assert!(e.message().contains("'h' has shape [2147483648]"), "{e}");
}

#[test]
fn another_alignment_moves_the_data() {
    let file = GgufBytes { alignment: 64, ..GgufBytes::default() }
        .u32("general.alignment", 64)
        .tensor("a", &[2], 0, &[1; 8])
        .tensor("b", &[2], 0, &[2; 8])
        .write();
    let gguf = Gguf::open(file.path()).unwrap();
    let bytes = std::fs::read(file.path()).unwrap();
    for (tensor, byte) in gguf.tensors().iter().zip([1, 2]) {
        assert_eq!(bytes[tensor.offset as usize..][..8], [byte; 8]);
    }
}

#[test]
fn paths_that_are_no_file() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Gguf::open(&dir.path().join("none")).unwrap_err().status(), Status::ModelNotFound);
    assert_eq!(Gguf::open(dir.path()).unwrap_err().status(), Status::ModelInvalid);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// One damaged byte: either noticed, or what remains is sound.
    #[test]
    fn a_flipped_byte_never_breaks_a_promise(at in 0usize..10_000, xor in 1u8..=255) {
        let mut bytes = small().build();
        let at = at % bytes.len();
        bytes[at] ^= xor;
        let file = write(&bytes);
        if let Ok(gguf) = Gguf::open(file.path()) {
            for t in gguf.tensors() {
                prop_assert!(t.offset + t.bytes <= bytes.len() as u64);
                prop_assert!(t.bytes > 0 && t.offset > 0);
            }
        }
    }
}
