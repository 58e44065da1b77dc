//! Text in and out: chat templates, tokenizer, streaming detokenizer, stop strings.
//!
//! A [`Tokenizer`] is built once per model, from `tokenizer.json` or from GGUF metadata, and shared
//! between threads; it turns text into token ids on the caller's thread. A [`Detokenizer`] is one
//! request's way back: it takes tokens one at a time and gives whole UTF-8, in constant time a token,
//! from a table that all requests share.

mod answer;
mod chat;
mod detokenizer;
mod pre_tokenizers;
mod stop;
mod table;
mod tokenizer;

pub use answer::{AnswerFormat, AnswerParser, Part, ToolCall, ToolFormat};
pub use chat::{Chat, ChatTemplate, MAX_RENDERED};
pub use detokenizer::Detokenizer;
pub use stop::{MAX_STOP_BYTES, MAX_STOP_STRINGS, StopMatcher, StopStrings};
pub use tokenizer::Tokenizer;
