//! An answer taken apart as it streams: text, reasoning, tool calls.
//!
//! Promises:
//! - Nothing is lost: what is not certainly a tool call, or a mark around one, comes as text.
//! - Text is held back only while it may be the start of a mark, or is inside a tool call.
//! - The arguments of a tool call are a JSON object.

mod calls;
mod format;
mod mistral;
#[cfg(test)]
mod tests;

pub use self::calls::ToolCall;
pub use self::format::{AnswerFormat, ToolFormat};

const THINK: &str = "<think>";
const THINK_END: &str = "</think>";
const CALL: &str = "<tool_call>";
const CALL_END: &str = "</tool_call>";
const PYTHON: &str = "<|python_tag|>";
const MISTRAL: &str = "[TOOL_CALLS]";

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What the model says.
    Text(String),
    /// What it thinks before.
    Reasoning(String),
    /// A tool that it calls.
    Call(ToolCall),
}

/// Takes one answer apart.
#[derive(Debug, Clone)]
pub struct AnswerParser {
    format: AnswerFormat,
    state: State,
    /// Text that nothing is certain about yet.
    held: String,
    /// Where to look on in `held` for the end of a tool call.
    searched: usize,
    /// Where to look on for the end of JSON.
    nesting: calls::Nesting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    Start,
    Reasoning {
        /// Something of it has been given.
        begun: bool,
    },
    /// Reasoning is over and nothing has been said.
    BeforeText,
    Text,
    /// Behind a call that was JSON.
    AfterJson,
    /// Behind the mark of a call, which is the start of what is held.
    Call,
    /// Inside JSON that may be a call in Llama's way.
    Json,
}

impl AnswerParser {
    /// Starts an answer.
    pub fn new(format: AnswerFormat) -> Self {
        let state = if format.reasoning_is_open() { State::Reasoning { begun: false } } else { State::Start };
        AnswerParser { format, state, held: String::new(), searched: 0, nesting: Default::default() }
    }

    /// Whether what comes is reasoning, as far as is known.
    pub fn is_reasoning(&self) -> bool {
        matches!(self.state, State::Reasoning { .. })
    }

    /// Whether the answer has begun: something other than reasoning and white space has come.
    pub fn is_speaking(&self) -> bool {
        !matches!(self.state, State::Start | State::Reasoning { .. } | State::BeforeText)
    }

    /// Takes more text and adds what is certain now.
    pub fn push(&mut self, text: &str, parts: &mut Vec<Part>) {
        self.held.push_str(text);
        while self.step(parts) {}
    }

    /// Ends the answer: what is left is text, or reasoning.
    pub fn finish(&mut self, parts: &mut Vec<Part>) {
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Reasoning { .. } => give(parts, Part::Reasoning(rest)),
            _ => give(parts, Part::Text(rest)),
        }
        self.state = State::Text;
        self.searched = 0;
    }

    /// One step onward; false when more text is needed.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match self.state {
            State::Start => self.start(),
            State::Reasoning { begun } => self.reason(begun, parts),
            State::BeforeText => self.skip(&['\n']),
            State::AfterJson => self.skip(&[';', '\n', ' ']),
            State::Text => self.speak(parts),
            State::Call if self.format.tools == ToolFormat::Mistral => self.mistral(parts),
            State::Call => self.call(parts),
            State::Json => self.json(parts),
        }
    }

    /// At the start, behind white space: reasoning, a tool call, JSON, or text.
    fn start(&mut self) -> bool {
        let said = self.held.trim_start();
        if said.is_empty() {
            return false;
        }
        if self.format.reasoning {
            if let Some(rest) = said.strip_prefix(THINK) {
                self.held = rest.to_owned();
                self.state = State::Reasoning { begun: false };
                return true;
            }
            if THINK.starts_with(said) {
                return false;
            }
        }
        self.begin_text()
    }

    /// Decides what text that begins like the one held is, where a Llama model may call; false if it needs more
    /// of it.
    fn begin_text(&mut self) -> bool {
        let said = self.held.trim_start();
        let llama = self.format.tools == ToolFormat::Llama;
        self.state = if llama && (said.starts_with('{') || said.starts_with(PYTHON)) {
            self.nesting = Default::default();
            State::Json
        } else if llama && PYTHON.starts_with(said) {
            return false;
        } else {
            State::Text
        };
        true
    }

    fn reason(&mut self, begun: bool, parts: &mut Vec<Part>) -> bool {
        if !begun {
            let blank = self.held.len() - self.held.trim_start_matches('\n').len();
            self.held.drain(..blank);
        }
        if let Some(at) = self.held.find(THINK_END) {
            let rest = self.held.split_off(at);
            give(parts, Part::Reasoning(self.held.trim_end_matches('\n').to_owned()));
            self.held = rest[THINK_END.len()..].to_owned();
            self.state = State::BeforeText;
            return true;
        }
        // Line breaks at the end of reasoning belong to its mark.
        let kept = self.held.len() - held_back(&self.held, &[THINK_END], true);
        if kept > 0 {
            give(parts, Part::Reasoning(self.held.drain(..kept).collect()));
            self.state = State::Reasoning { begun: true };
        }
        false
    }

    /// Line breaks behind a mark belong to it, as do semicolons between calls that are JSON.
    fn skip(&mut self, separators: &[char]) -> bool {
        let blank = self.held.len() - self.held.trim_start_matches(separators).len();
        self.held.drain(..blank);
        if self.held.trim_start().is_empty() {
            return false;
        }
        self.begin_text()
    }

    fn speak(&mut self, parts: &mut Vec<Part>) -> bool {
        let marks = self.format.call_marks();
        if let Some(at) = marks.iter().find_map(|mark| self.held.find(mark)) {
            let rest = self.held.split_off(at);
            // Line breaks before a call belong to it.
            give(parts, Part::Text(self.held.trim_end_matches('\n').to_owned()));
            self.held = rest;
            self.searched = CALL.len();
            self.nesting = Default::default();
            self.state = State::Call;
            return true;
        }
        let kept = self.held.len() - held_back(&self.held, marks, !marks.is_empty());
        if kept > 0 {
            give(parts, Part::Text(self.held.drain(..kept).collect()));
        }
        false
    }

    fn call(&mut self, parts: &mut Vec<Part>) -> bool {
        let Some(found) = self.held[self.searched..].find(CALL_END) else {
            // A mark that has begun is looked at again with what follows.
            self.searched = floor(&self.held, self.held.len().saturating_sub(CALL_END.len()).max(CALL.len()));
            return false;
        };
        let inside = CALL.len()..self.searched + found;
        let end = inside.end + CALL_END.len();
        match calls::tagged(&self.held[inside], &self.format) {
            calls::Read::Call(call) => {
                parts.push(Part::Call(call));
                self.held.drain(..end);
                self.state = State::BeforeText;
            }
            // The mark stands in a string of the arguments.
            calls::Read::Unfinished => self.searched = end,
            calls::Read::Unknown => {
                give(parts, Part::Text(self.held.drain(..end).collect()));
                self.state = State::Text;
            }
        }
        true
    }

    fn mistral(&mut self, parts: &mut Vec<Part>) -> bool {
        match mistral::read(&self.held[MISTRAL.len()..], &mut self.nesting) {
            mistral::Read::Calls(calls, end) => {
                parts.extend(calls.into_iter().map(Part::Call));
                self.held.drain(..MISTRAL.len() + end);
                self.state = State::BeforeText;
            }
            mistral::Read::Unfinished => return false,
            mistral::Read::Unknown => {
                give(parts, Part::Text(self.held.drain(..MISTRAL.len()).collect()));
                self.state = State::Text;
            }
        }
        true
    }

    fn json(&mut self, parts: &mut Vec<Part>) -> bool {
        let begin = self.held.find('{').unwrap_or(self.held.len());
        let before = self.held[..begin].trim();
        if !(before.is_empty() || PYTHON.starts_with(before)) {
            self.state = State::Text;
            return true;
        }
        if let Some(end) = self.nesting.end(&self.held[begin..]) {
            let rest = self.held.split_off(begin + end);
            match calls::json(&self.held[begin..]) {
                Some(call) => {
                    parts.push(Part::Call(call));
                    self.held = rest;
                    self.state = State::AfterJson;
                }
                None => {
                    self.held.push_str(&rest);
                    self.state = State::Text;
                }
            }
            return true;
        }
        false
    }
}

/// Adds a piece, joined with the one before it if that is of its kind.
fn give(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (_, Part::Text(new) | Part::Reasoning(new)) if new.is_empty() => {}
        (Some(Part::Text(text)), Part::Text(new)) | (Some(Part::Reasoning(text)), Part::Reasoning(new)) => {
            text.push_str(&new);
        }
        (_, part) => parts.push(part),
    }
}

/// How many bytes at the end of a text may be the start of a mark, line breaks before it included where these
/// would belong to it.
fn held_back(text: &str, marks: &[&str], line_breaks: bool) -> usize {
    let longest = marks.iter().map(|mark| mark.len() - 1).max().unwrap_or(0).min(text.len());
    let mark = (1..=longest).rev().find(|&n| {
        let end = &text.as_bytes()[text.len() - n..];
        marks.iter().any(|mark| mark.as_bytes().starts_with(end))
    });
    let mark = mark.unwrap_or(0);
    let before = &text[..text.len() - mark];
    if line_breaks { text.len() - before.trim_end_matches('\n').len() } else { mark }
}

/// The last place that is not behind `at` and where a character begins.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}
