//! How a model marks reasoning and tool calls, told from its chat template.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{CALL, MISTRAL, PYTHON, THINK};

/// How a model calls tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolFormat {
    /// It does not, or in a way that is not known: calls come as text.
    #[default]
    None,
    /// Between `<tool_call>` and `</tool_call>`: JSON with `name` and `arguments` (Hermes, Qwen), or
    /// `<function=name>` around `<parameter=name>` (Qwen3-Coder, Nemotron 3).
    Tagged,
    /// The answer is JSON with `name` and `parameters`, maybe behind `<|python_tag|>` (Llama 3.1 and later).
    Llama,
    /// Behind `[TOOL_CALLS]`: a JSON array of calls, or a name, `[ARGS]` and the arguments (Mistral).
    Mistral,
}

/// How one answer is marked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnswerFormat {
    /// Reasoning stands between `<think>` and `</think>`, at the start.
    pub(super) reasoning: bool,
    /// The prompt ends inside of it.
    pub(super) open: bool,
    pub(super) tools: ToolFormat,
    /// The parameters that are strings, with their tool: in a format without quotes `1` may be one.
    pub(super) strings: Arc<BTreeSet<(String, String)>>,
}

impl AnswerFormat {
    /// The format of the model with this chat template, for an answer to `prompt`. `strings` are the
    /// parameters of the request's tools that are strings, by tool and name; `None` without tools.
    ///
    /// Llama's calls look like any other JSON, so they are looked for only where there are tools.
    pub fn detect(template: &str, prompt: &str, strings: Option<BTreeSet<(String, String)>>) -> Self {
        let tools = if template.contains(CALL) {
            ToolFormat::Tagged
        } else if strings.is_some() && (template.contains(PYTHON) || template.contains("ipython")) {
            ToolFormat::Llama
        } else if template.contains(MISTRAL) {
            ToolFormat::Mistral
        } else {
            ToolFormat::None
        };
        AnswerFormat {
            reasoning: template.contains(THINK),
            open: prompt.trim_end().ends_with(THINK),
            tools,
            strings: Arc::new(strings.unwrap_or_default()),
        }
    }

    /// Whether there is anything to look for.
    pub fn is_plain(&self) -> bool {
        !self.reasoning && !self.open && self.tools == ToolFormat::None
    }

    /// How tools are called.
    pub fn tools(&self) -> ToolFormat {
        self.tools
    }

    /// What a call begins with, where that is a mark.
    pub(super) fn call_marks(&self) -> &'static [&'static str] {
        match self.tools {
            ToolFormat::Tagged => &[CALL],
            ToolFormat::Mistral => &[MISTRAL],
            ToolFormat::None | ToolFormat::Llama => &[],
        }
    }

    pub(super) fn reasoning_is_open(&self) -> bool {
        self.open
    }
}
