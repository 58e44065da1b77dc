//! Stop strings: where an answer ends before one of them.

use std::sync::Arc;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};
use rustc_hash::FxHashMap;

use crate::error::{Error, Result};

/// Most stop strings of a request.
pub const MAX_STOP_STRINGS: usize = 64;
/// Longest stop string, in bytes.
pub const MAX_STOP_BYTES: usize = 1024;

/// A request's stop strings, ready to be looked for: one automaton for all of them (Aho and Corasick, 1975).
#[derive(Debug, Clone)]
pub struct StopStrings(Arc<Search>);

#[derive(Debug)]
struct Search {
    automaton: NFA,
    start: StateID,
    /// How many bytes at the end of the text each state takes for the start of a stop string.
    depths: FxHashMap<StateID, usize>,
}

impl StopStrings {
    /// Prepares a search; `None` for no strings. Time and memory are linear in the strings.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty string, one longer than [`MAX_STOP_BYTES`], or more than
    /// [`MAX_STOP_STRINGS`] of them.
    pub fn new(strings: &[impl AsRef<str>]) -> Result<Option<Self>> {
        if strings.is_empty() {
            return Ok(None);
        }
        if strings.len() > MAX_STOP_STRINGS {
            return Err(Error::argument(format!(
                "stop_strings has {} strings, want at most {MAX_STOP_STRINGS}",
                strings.len()
            )));
        }
        for (i, string) in strings.iter().enumerate() {
            let len = string.as_ref().len();
            if len == 0 {
                return Err(Error::argument(format!("stop_strings[{i}] is empty")));
            }
            if len > MAX_STOP_BYTES {
                return Err(Error::argument(format!(
                    "stop_strings[{i}] has {len} bytes, want at most {MAX_STOP_BYTES}"
                )));
            }
        }
        let search = |e: &dyn std::fmt::Display| Error::internal(format!("preparing stop_strings: {e}"));
        let automaton = NFA::builder()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .build(strings.iter().map(|s| s.as_ref().as_bytes()))
            .map_err(|e| search(&e))?;
        let start = automaton.start_state(Anchored::No).map_err(|e| search(&e))?;
        let mut depths = FxHashMap::default();
        for string in strings {
            let mut state = start;
            for (i, &byte) in string.as_ref().as_bytes().iter().enumerate() {
                // The longest suffix of a string's prefix that begins a string is that prefix itself.
                state = automaton.next_state(Anchored::No, state, byte);
                depths.insert(state, i + 1);
            }
        }
        Ok(Some(StopStrings(Arc::new(Search { automaton, start, depths }))))
    }
}

/// One answer's search for its stop strings.
///
/// Promises:
/// - Text that is, or may still become, part of a stop string is held back; all other text is given at
///   once. What is given is whole characters if what comes in is.
/// - The first stop string to be complete ends the answer; of several that are complete at the same
///   character, the longest.
/// - A byte of text costs constant time on average, whatever the number of stop strings.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    search: Arc<Search>,
    state: StateID,
    /// The end of the text, as far as it may be the start of a stop string.
    held: String,
}

impl StopMatcher {
    /// Starts an answer.
    pub fn new(strings: &StopStrings) -> Self {
        StopMatcher { search: Arc::clone(&strings.0), state: strings.0.start, held: String::new() }
    }

    /// Takes more text and appends to `out` what is certain not to belong to a stop string. If one is
    /// complete, returns its index: `out` then ends where it begins, and the answer is over.
    pub fn push(&mut self, text: &str, out: &mut String) -> Option<usize> {
        let automaton = &self.search.automaton;
        let before = self.held.len();
        self.held.push_str(text);
        for (i, &byte) in text.as_bytes().iter().enumerate() {
            self.state = automaton.next_state(Anchored::No, self.state, byte);
            if automaton.is_match(self.state) {
                let stop = (0..automaton.match_len(self.state))
                    .map(|n| automaton.match_pattern(self.state, n))
                    .max_by_key(|&pattern| automaton.pattern_len(pattern))?;
                let end = before + i + 1;
                out.push_str(&self.held[..end - automaton.pattern_len(stop)]);
                self.held.clear();
                return Some(stop.as_usize());
            }
        }
        let depth = self.search.depths.get(&self.state).copied().unwrap_or(0);
        let certain = self.held.len() - depth;
        out.push_str(&self.held[..certain]);
        self.held.drain(..certain);
        None
    }

    /// Ends the text: what was held back is no stop string.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
        self.state = self.search.start;
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests;
