//! One request's way from tokens to deltas: decoded, cut off before a stop string.

use std::collections::VecDeque;

use super::event::Delta;
use crate::sampling::TokenLogprobs;
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
    logprobs: Option<Box<TokenLogprobs>>,
    /// How much text must have been given before it can be.
    needs: usize,
}

impl Held {
    fn give(self, delta: &mut Delta) {
        delta.tokens.push(self.token);
        delta.logprobs.extend(self.logprobs.map(|logprobs| *logprobs));
    }
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

    /// Takes a token, with its log-probabilities if they were asked for, and adds to `delta` what is certain now. Returns the index of the stop string that
    /// ended the answer, if one did.
    pub fn push(
        &mut self,
        token: u32,
        logprobs: Option<Box<TokenLogprobs>>,
        delta: &mut Delta,
    ) -> Option<u32> {
        let mut held = Held { token, logprobs, needs: self.decoded };
        if self.stops.is_none() {
            held.give(delta);
            if let Some(detokenizer) = &mut self.detokenizer {
                detokenizer.push(token, &mut delta.text);
            }
            return None;
        }
        self.piece.clear();
        if let Some(detokenizer) = &mut self.detokenizer {
            detokenizer.push(token, &mut self.piece);
            // The character that it leaves unfinished comes after all text so far.
            held.needs += self.piece.len() + usize::from(detokenizer.is_holding());
        }
        self.held.push_back(held);
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
            self.held.drain(..).for_each(|held| held.give(delta));
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
        self.held.drain(..certain).for_each(|held| held.give(delta));
        if stop.is_some() {
            self.held.clear();
        }
        // At most `MAX_STOP_STRINGS`.
        stop.map(|index| index as u32)
    }
}
