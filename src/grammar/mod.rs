//! Structured output: JSON schemas, regular expressions and grammars as masks over the vocabulary (llguidance).
//!
//! Promises:
//! - A [`Grammars`] belongs to a model's vocabulary; a [`GrammarState`] to one request. Compiling happens on the
//!   caller's thread, within limits, and the last grammars are kept compiled.
//! - What cannot be compiled, or allows no text at all, is refused with
//!   [`Status::GrammarInvalid`](crate::error::Status::GrammarInvalid) and the place.
//! - The tokens that the masks allow, one after the other, make a text of the grammar; an end-of-sequence token is
//!   allowed exactly where the text may end. Special tokens are no text.
//! - A panic in the grammar library becomes an error of the one request.

mod cache;
mod check;
mod compile;
#[cfg(target_os = "linux")]
mod exports;
mod state;
mod vocabulary;

pub use compile::Grammars;
pub use state::GrammarState;

/// The form in which a grammar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrammarKind {
    /// A JSON schema: the answer is JSON that it validates.
    JsonSchema,
    /// Any JSON object. There is no text.
    JsonObject,
    /// A regular expression (syntax of Rust's regex crate) that the whole answer matches.
    Regex,
    /// A grammar in llguidance's dialect of Lark.
    Lark,
    /// A JSON array of strings, of which the answer is one.
    Choice,
}

/// What an answer has to look like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grammar {
    /// How `text` is to be read.
    pub kind: GrammarKind,
    /// The grammar.
    pub text: String,
}

/// Longest grammar in bytes.
pub const MAX_GRAMMAR_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests;
