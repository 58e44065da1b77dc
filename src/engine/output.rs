//! One request's way from tokens to deltas: decoded, cut off before a stop string.

use std::collections::VecDeque;

use super::event::Delta;
use crate::text::{Detokenizer, StopMatcher, StopStrings, Tokenizer};

/// Turns tokens into deltas.
///
/// Without stop strings a token is given as soon as it comes, its text as soon as it is whole characters.
/// With them, text that may be the start of one is held back, and so is a token with a part in such text:
/// the tokens that are given stand for no more than the text that is.
pub(super) struct Output {
    /// `None` for a model without a tokenizer.
    detokenizer: Option<Detokenizer>,
    stops: Option<StopMatcher>,
    /// Bytes of text so far.
    decoded: usize,
    /// Of these, given or dropped.
    given: usize,
    /// Tokens held back, oldest first.
    held: VecDeque<Held>,
    /// Text on its way from the detokenizer to the matcher.
    piece: String,
}

/// A token that is held back.
struct Held {
    token: u32,
    /// How much text must have been given before it can be.
    needs: usize,
}

impl Output {
    pub fn new(tokenizer: Option<&Tokenizer>, stops: Option<&StopStrings>) -> Self {
        Output {
            detokenizer: tokenizer.map(|tokenizer| Detokenizer::new(tokenizer, false)),
            stops: stops.map(StopMatcher::new),
            decoded: 0,
            given: 0,
            held: VecDeque::new(),
            piece: String::new(),
        }
    }

    /// Takes a token and adds to `delta` what is certain now. Returns the index of the stop string that
    /// ended the answer, if one did.
    pub fn push(&mut self, token: u32, delta: &mut Delta) -> Option<u32> {
        if self.stops.is_none() {
            delta.tokens.push(token);
            if let Some(detokenizer) = &mut self.detokenizer {
                detokenizer.push(token, &mut delta.text);
            }
            return None;
        }
        self.piece.clear();
        let mut needs = self.decoded;
        if let Some(detokenizer) = &mut self.detokenizer {
            detokenizer.push(token, &mut self.piece);
            // The character that it leaves unfinished comes after all text so far.
            needs += self.piece.len() + usize::from(detokenizer.is_holding());
        }
        self.held.push_back(Held { token, needs });
        self.take_piece(delta)
    }

    /// Ends the answer: what was held back is added to `delta`, up to a stop string that is complete only now.
    pub fn finish(&mut self, delta: &mut Delta) -> Option<u32> {
        let Some(detokenizer) = &mut self.detokenizer else { return None };
        if self.stops.is_none() {
            detokenizer.finish(&mut delta.text);
            return None;
        }
        self.piece.clear();
        detokenizer.finish(&mut self.piece);
        let stop = self.take_piece(delta);
        if stop.is_none() {
            if let Some(stops) = &mut self.stops {
                stops.finish(&mut delta.text);
            }
            delta.tokens.extend(self.held.drain(..).map(|held| held.token));
        }
        stop
    }

    fn take_piece(&mut self, delta: &mut Delta) -> Option<u32> {
        let stops = self.stops.as_mut()?;
        self.decoded += self.piece.len();
        let before = delta.text.len();
        let stop = stops.push(&self.piece, &mut delta.text);
        self.given += delta.text.len() - before;
        let certain = self.held.iter().take_while(|held| held.needs <= self.given).count();
        delta.tokens.extend(self.held.drain(..certain).map(|held| held.token));
        if stop.is_some() {
            self.held.clear();
        }
        // At most `MAX_STOP_STRINGS`.
        stop.map(|index| index as u32)
    }
}
