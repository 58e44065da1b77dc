//! One request's way from tokens to deltas: decoded, cut off before a stop string, taken apart.

use std::collections::VecDeque;

use super::event::{Delta, DeltaKind};
use crate::sampling::TokenLogprobs;
use crate::text::{AnswerFormat, AnswerParser, Detokenizer, Part, StopMatcher, StopStrings, Tokenizer};

/// Turns tokens into deltas.
///
/// Without stop strings a token is given as soon as it comes, its text as soon as it is whole characters.
/// With them, text that may be the start of one is held back, and so is a token with a part in such text:
/// the tokens that are given stand for no more than the text that is.
///
/// In an answer that is taken apart, a token comes with the piece that its text is in, or with the next one.
pub(super) struct Output {
    /// `None` for a model without a tokenizer.
    detokenizer: Option<Detokenizer>,
    stops: Option<StopMatcher>,
    parser: Option<AnswerParser>,
    /// What the parser has, and what it has not given a piece for.
    unparsed: Delta,
    parts: Vec<Part>,
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
    pub fn new(
        tokenizer: Option<&Tokenizer>,
        stops: Option<&StopStrings>,
        format: Option<&AnswerFormat>,
    ) -> Self {
        Output {
            detokenizer: tokenizer.map(|tokenizer| Detokenizer::new(tokenizer, false)),
            stops: stops.map(StopMatcher::new),
            parser: format.filter(|f| !f.is_plain()).cloned().map(AnswerParser::new),
            unparsed: Delta::default(),
            parts: Vec::new(),
            decoded: 0,
            given: 0,
            held: VecDeque::new(),
            piece: String::new(),
        }
    }

    /// Takes a token, with its log-probabilities if they were asked for, and adds what is certain now. Returns the
    /// index of the stop string that ended the answer, if one did.
    pub fn push(
        &mut self,
        token: u32,
        logprobs: Option<Box<TokenLogprobs>>,
        deltas: &mut Vec<Delta>,
    ) -> Option<u32> {
        let mut delta = std::mem::take(&mut self.unparsed);
        let stop = self.decode(token, logprobs, &mut delta);
        self.part(delta, deltas);
        stop
    }

    /// Ends the answer: adds what was held back, up to a stop string that is complete only now.
    pub fn finish(&mut self, deltas: &mut Vec<Delta>) -> Option<u32> {
        let mut delta = std::mem::take(&mut self.unparsed);
        let stop = self.decode_rest(&mut delta);
        self.part(delta, deltas);
        stop
    }

    /// Ends the taking apart, when no more text will come: after a stop string, or after [`finish`](Self::finish).
    pub fn close(&mut self, deltas: &mut Vec<Delta>) {
        let Some(parser) = &mut self.parser else { return };
        parser.finish(&mut self.parts);
        let unparsed = std::mem::take(&mut self.unparsed);
        self.give_parts(unparsed, deltas);
        // Tokens of marks that no piece followed.
        if !self.unparsed.tokens.is_empty() {
            deltas.push(std::mem::take(&mut self.unparsed));
        }
    }

    /// Whether the text so far is reasoning that has not ended.
    pub fn is_reasoning(&self) -> bool {
        self.parser.as_ref().is_some_and(AnswerParser::is_reasoning)
    }

    /// Whether there is text behind the reasoning, or may be.
    pub fn is_speaking(&self) -> bool {
        self.parser.as_ref().is_none_or(AnswerParser::is_speaking)
    }

    /// Takes a delta of plain text apart, if that is wanted.
    fn part(&mut self, delta: Delta, deltas: &mut Vec<Delta>) {
        match &mut self.parser {
            Some(parser) => {
                parser.push(&delta.text, &mut self.parts);
                self.give_parts(delta, deltas);
            }
            None if delta.text.is_empty() && delta.tokens.is_empty() => {}
            None => deltas.push(delta),
        }
    }

    /// Gives what the parser found, the tokens of `delta` and their log-probabilities with the first of it; they wait
    /// if there is nothing.
    fn give_parts(&mut self, mut delta: Delta, deltas: &mut Vec<Delta>) {
        for part in self.parts.drain(..) {
            (delta.kind, delta.text) = match part {
                Part::Text(text) => (DeltaKind::Text, text),
                Part::Reasoning(text) => (DeltaKind::Reasoning, text),
                Part::Call(call) => (DeltaKind::ToolCall(call.name), call.arguments),
            };
            deltas.push(std::mem::take(&mut delta));
        }
        delta.text.clear();
        self.unparsed = delta;
    }

    fn decode(&mut self, token: u32, logprobs: Option<Box<TokenLogprobs>>, delta: &mut Delta) -> Option<u32> {
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

    fn decode_rest(&mut self, delta: &mut Delta) -> Option<u32> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// An answer given byte by byte, for its tokens are bytes: its deltas, joined where the queue would join
    /// them, and the stop string that ended it. Each token's log-probability is its number.
    fn run(answer: &str, stops: &[&str], format: Option<AnswerFormat>) -> (Vec<Delta>, Option<u32>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/byte-tokenizer/tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path).unwrap();
        let stops = StopStrings::new(stops).unwrap();
        let mut output = Output::new(Some(&tokenizer), stops.as_ref(), format.as_ref());
        let mut deltas = Vec::new();
        let tokens = tokenizer.encode(answer, false).unwrap();
        assert_eq!(tokens.len(), answer.len());
        let mut stop =
            tokens.iter().find_map(|&token| output.push(token, Some(logprobs(token)), &mut deltas));
        if stop.is_none() {
            stop = output.finish(&mut deltas);
        }
        output.close(&mut deltas);
        let mut joined: Vec<Delta> = Vec::new();
        for delta in deltas {
            // However long it was held back, a token has its own log-probability beside it.
            let of_tokens: Vec<_> = delta.tokens.iter().map(|&token| *logprobs(token)).collect();
            assert_eq!(delta.logprobs, of_tokens);
            match joined.last_mut() {
                Some(last) if last.kind == delta.kind => {
                    last.text.push_str(&delta.text);
                    last.tokens.extend(delta.tokens);
                }
                _ => joined.push(delta),
            }
        }
        (joined, stop)
    }

    fn logprobs(token: u32) -> Box<TokenLogprobs> {
        Box::new(TokenLogprobs { logprob: -(token as f32), top: vec![(token, -0.5)] })
    }

    fn format() -> Option<AnswerFormat> {
        Some(AnswerFormat::detect("<think> <tool_call>", "", None))
    }

    #[test]
    fn an_answer_is_taken_apart_and_every_token_comes_once() {
        let answer = "<think>\nÜber\n</think>\n\nSo 世界.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
        let (deltas, stop) = run(answer, &[], format());
        assert_eq!(stop, None);
        let said: Vec<_> = deltas.iter().map(|d| (d.kind.clone(), d.text.as_str())).collect();
        let call = || DeltaKind::ToolCall("f".into());
        assert_eq!(
            said,
            [(DeltaKind::Reasoning, "Über"), (DeltaKind::Text, "So 世界."), (call(), "{\"x\": 1}")]
        );
        let tokens: Vec<u32> = deltas.iter().flat_map(|d| d.tokens.iter().copied()).collect();
        assert_eq!(tokens.len(), answer.len());
        assert_eq!(tokens, run(answer, &[], None).0[0].tokens);
    }

    #[test]
    fn a_stop_string_ends_what_is_taken_apart_too() {
        let (deltas, stop) = run("<think>\nlong thoughts STOP more", &["nothing", "STOP"], format());
        assert_eq!(stop, Some(1));
        assert_eq!(deltas.len(), 1);
        assert_eq!(
            (deltas[0].kind.clone(), deltas[0].text.as_str()),
            (DeltaKind::Reasoning, "long thoughts ")
        );
        assert_eq!(deltas[0].tokens.len(), "<think>\nlong thoughts ".len());
    }

    #[test]
    fn marks_that_nothing_follows_leave_their_tokens() {
        let (deltas, _) = run("<think>\n</think>\n", &[], format());
        let text: String = deltas.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(text, "");
        assert_eq!(deltas.iter().map(|d| d.tokens.len()).sum::<usize>(), "<think>\n</think>\n".len());
    }
}
