//! Conversations, and the prompts that a model's chat template makes of them.

use std::ffi::c_char;

use super::engine::quire_engine;
use super::error::{quire_error, quire_status};
use super::guard;
use crate::error::{Error, Result};
use crate::text::Chat;

/// Whether a model is to think before it answers, where its chat template has that switch
/// (`enable_thinking` or `thinking`).
pub type quire_thinking = i32;

/// As the template has it by itself.
pub const QUIRE_THINKING_DEFAULT: quire_thinking = 0;
/// Think.
pub const QUIRE_THINKING_ON: quire_thinking = 1;
/// Do not think.
pub const QUIRE_THINKING_OFF: quire_thinking = 2;

/// A conversation. Zero it, set `struct_size` to `sizeof(quire_chat)`, then set `messages` and what else you
/// like. All JSON is UTF-8; an optional one is left out by length 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct quire_chat {
    /// Size of this struct in bytes; set by the caller.
    pub struct_size: usize,
    /// A JSON array of messages: objects with a "role" ("system", "user", "assistant", "tool") and a
    /// "content". What else a message may have is for the model's template to say; most know "tool_calls"
    /// ([{"type": "function", "function": {"name": ..., "arguments": {...}}}]) and "reasoning_content".
    pub messages: *const c_char,
    /// Length of `messages` in bytes.
    pub messages_len: usize,
    /// Optional: the tools that the model may call, a JSON array of objects
    /// ([{"type": "function", "function": {"name": ..., "description": ..., "parameters": {a JSON schema}}}]).
    pub tools: *const c_char,
    /// Length of `tools` in bytes.
    pub tools_len: usize,
    /// Optional: documents to consult, a JSON array of objects ([{"title": ..., "text": ...}]).
    pub documents: *const c_char,
    /// Length of `documents` in bytes.
    pub documents_len: usize,
    /// Optional: further variables for the template, a JSON object. They come before all others.
    pub template_arguments: *const c_char,
    /// Length of `template_arguments` in bytes.
    pub template_arguments_len: usize,
    /// One of `QUIRE_THINKING_*`.
    pub thinking: quire_thinking,
    /// 1 to end the text after the last message, not where the model's answer begins. Default 0.
    pub no_generation_prompt: i32,
}

// SAFETY: a repr(C) struct whose first field is the size; numbers and pointers, for which zero is valid.
unsafe impl guard::Versioned for quire_chat {
    const MIN_SIZE: usize = size_of::<Self>();
}

/// Reads and checks a caller's conversation.
///
/// # Safety
/// `chat` is NULL or valid for its `struct_size`, and its pointers for the lengths beside them.
pub(super) unsafe fn read_chat(chat: *const quire_chat) -> Result<Chat> {
    // SAFETY: passed on, field by field.
    unsafe {
        let c = guard::versioned(chat, "chat")?;
        let mut chat = Chat::new(guard::text(c.messages, c.messages_len, "messages")?)?;
        if c.tools_len > 0 {
            chat = chat.with_tools(guard::text(c.tools, c.tools_len, "tools")?)?;
        }
        if c.documents_len > 0 {
            chat = chat.with_documents(guard::text(c.documents, c.documents_len, "documents")?)?;
        }
        if c.template_arguments_len > 0 {
            let json = guard::text(c.template_arguments, c.template_arguments_len, "template_arguments")?;
            chat = chat.with_arguments(json)?;
        }
        let chat = chat.with_generation_prompt(!guard::flag(c.no_generation_prompt, "no_generation_prompt")?);
        match c.thinking {
            QUIRE_THINKING_DEFAULT => Ok(chat),
            QUIRE_THINKING_ON => Ok(chat.with_thinking(true)),
            QUIRE_THINKING_OFF => Ok(chat.with_thinking(false)),
            other => Err(Error::argument(format!("thinking is {other}, want 0 to 2"))),
        }
    }
}

/// Makes the prompt that the model's chat template makes of a conversation. `*text_len` becomes its length in
/// bytes; the first `capacity` bytes are written to `text`, without a NUL, so call once with capacity 0 to
/// learn the length. A request with the same `chat` runs on the same text.
///
/// The template is the model's, in the language Jinja: from `chat_template.jinja`, `tokenizer_config.json` or
/// GGUF metadata. It runs in bounded time and memory, on a thread of its own.
///
/// Any thread, callbacks too; does not touch the engine's own thread. Fails with `QUIRE_INVALID_ARGUMENT`
/// (also for JSON that is none, or is no conversation), `QUIRE_INVALID_STRUCT_SIZE`, `QUIRE_INVALID_UTF8`,
/// `QUIRE_TEMPLATE_MISSING`, or `QUIRE_TEMPLATE_ERROR`, with file and line, if the template is malformed or
/// refuses the conversation.
///
/// # Safety
/// `engine` is a live engine; `chat` and its pointers are readable for their lengths; `text` is writable for
/// `capacity` bytes, or NULL if that is 0; `text_len` is writable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_render_chat(
    engine: *const quire_engine,
    chat: *const quire_chat,
    text: *mut c_char,
    capacity: usize,
    text_len: *mut usize,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let engine = guard::reference(engine, "engine")?;
            guard::writable(text_len, "text_len")?;
            let rendered = engine.inner().render_chat(&read_chat(chat)?)?;
            super::text::copy_out(rendered.as_bytes(), text.cast::<u8>(), capacity, "text")?;
            text_len.write(rendered.len());
        }
        Ok(())
    })
}
