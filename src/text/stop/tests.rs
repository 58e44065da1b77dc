use proptest::prelude::*;

use super::*;
use crate::error::Status;

fn matcher(strings: &[&str]) -> StopMatcher {
    StopMatcher::new(&StopStrings::new(strings).unwrap().unwrap())
}

/// What comes out of these pieces of text: text, and the stop string that ended it.
fn run<'a>(strings: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, Option<usize>) {
    let mut matcher = matcher(strings);
    let mut out = String::new();
    for piece in pieces {
        if let Some(stop) = matcher.push(piece, &mut out) {
            return (out, Some(stop));
        }
    }
    matcher.finish(&mut out);
    (out, None)
}

/// The same by the definition: the stop string that ends first, the longest of those.
fn by_definition(strings: &[&str], text: &str) -> (String, Option<usize>) {
    let found = strings.iter().enumerate().filter_map(|(i, s)| text.find(s).map(|at| (at + s.len(), at, i)));
    match found.min() {
        Some((_, at, i)) => (text[..at].to_owned(), Some(i)),
        None => (text.to_owned(), None),
    }
}

#[test]
fn a_stop_split_at_every_character_is_found_and_nothing_of_it_given() {
    for stop in ["</s>", "\n\nUser:", "世界", "👩‍🚀!", "aabaab", "STOP"] {
        let text = format!("before {stop} after");
        for at in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
            assert_eq!(run(&[stop], [&text[..at], &text[at..]]), ("before ".into(), Some(0)), "{stop} {at}");
        }
        let characters = text.char_indices().map(|(i, c)| &text[i..i + c.len_utf8()]);
        assert_eq!(run(&[stop], characters), ("before ".into(), Some(0)), "{stop}");
    }
}

#[test]
fn only_what_may_be_a_stop_is_held_and_only_as_long() {
    let mut matcher = matcher(&["<end>"]);
    let mut out = String::new();
    for (piece, given, held) in
        [("a<", "a", 1), ("en", "", 3), ("x", "<enx", 0), ("<<e", "<", 2), ("nd", "", 4), ("", "", 4)]
    {
        out.clear();
        assert_eq!(matcher.push(piece, &mut out), None);
        assert_eq!((out.as_str(), matcher.held()), (given, held), "{piece}");
    }
    out.clear();
    matcher.finish(&mut out);
    assert_eq!((out.as_str(), matcher.held()), ("<end", 0));
}

#[test]
fn of_several_the_first_complete_one_ends_it_and_the_longest_of_those() {
    assert_eq!(run(&["b", "abc"], ["xabc"]), ("xa".into(), Some(0)));
    assert_eq!(run(&["c", "abc", "bc"], ["xabc"]), ("x".into(), Some(1)));
    assert_eq!(run(&["abcd", "bc"], ["xab", "ce"]), ("xa".into(), Some(1)));
    assert_eq!(run(&["same", "same"], ["a same"]).0, "a ");
}

#[test]
fn bad_stop_strings_are_refused_by_name() {
    let refused = |strings: &[String]| StopStrings::new(strings).unwrap_err();
    let long = "x".repeat(1 << 20);
    for (strings, names) in [
        (vec!["ok".into(), String::new()], "stop_strings[1] is empty"),
        (vec![long], "stop_strings[0] has 1048576 bytes"),
        (vec!["x".to_owned(); MAX_STOP_STRINGS + 1], "stop_strings has 65 strings"),
    ] {
        let error = refused(&strings);
        assert_eq!(error.status(), Status::InvalidArgument);
        assert!(error.message().starts_with(names), "{error}");
    }
    assert!(StopStrings::new(&[""; 0]).unwrap().is_none());
    let most = vec!["y".repeat(MAX_STOP_BYTES); MAX_STOP_STRINGS];
    assert!(StopStrings::new(&most).unwrap().is_some());
}

proptest! {
    #[test]
    fn any_split_gives_what_the_definition_says(
        strings in prop::collection::vec("[abé]{1,4}", 1..5),
        pieces in prop::collection::vec("[abé]{0,5}", 0..12),
    ) {
        let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
        let expected = by_definition(&strings, &pieces.concat());
        let got = run(&strings, pieces.iter().map(String::as_str));
        prop_assert_eq!(&got.0, &expected.0);
        prop_assert_eq!(got.1.map(|i| strings[i]), expected.1.map(|i| strings[i]));
    }
}
