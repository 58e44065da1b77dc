//! Chat templates. The input is a template; whatever it is, rendering ends with a text or an error about the template.

use std::path::Path;

use quire::error::Status;
use quire::text::{Chat, ChatTemplate};

const MESSAGES: &str = r#"[{"role": "system", "content": "s"}, {"role": "user", "content": "Grüße"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, null]}}}]}]"#;
const TOOLS: &str = r#"[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]"#;

/// Takes one input; panics if something does not hold.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let chat = Chat::new(MESSAGES).and_then(|chat| chat.with_tools(TOOLS)).expect("a conversation");
    let rendered = ChatTemplate::from_text(Path::new("fuzz.jinja"), text, vec![])
        .and_then(|template| template.render(&chat));
    if let Err(error) = rendered {
        assert_eq!(error.status(), Status::TemplateError, "{error}");
        assert!(!error.message().contains("did not end"), "{error}");
    }
}
