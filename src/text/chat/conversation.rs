//! A conversation, as JSON has it.

use std::collections::BTreeSet;

use minijinja::Value;
use minijinja::value::ValueKind;

use crate::error::{Error, Result};

/// The most JSON that a conversation may be, in bytes.
const MAX_JSON: usize = 64 << 20;

/// Where a message's reasoning may be: what templates read first, then other names in use.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A conversation and what else a template is given.
#[derive(Debug, Clone)]
pub struct Chat {
    messages: Value,
    tools: Option<Value>,
    documents: Option<Value>,
    /// The template's other variables, by name.
    arguments: Vec<(String, Value)>,
    thinking: Option<bool>,
    generation_prompt: bool,
    /// Bytes of JSON.
    size: usize,
}

impl Chat {
    /// A conversation from a JSON array of messages, objects with a `role` and, usually, a `content`.
    ///
    /// # Errors
    /// `InvalidArgument` for what is not that, naming the message and the field, or the place in the JSON.
    pub fn new(messages: &str) -> Result<Self> {
        let parsed = parse(messages, "messages")?;
        if parsed.kind() != ValueKind::Seq {
            return Err(Error::argument("messages is not a JSON array"));
        }
        let messages_of = parsed.try_iter().map_err(|e| Error::internal(format!("messages: {e}")))?;
        let plain = messages_of.enumerate().map(|(i, m)| message(&m, i)).collect::<Result<Vec<_>>>()?;
        if plain.is_empty() {
            return Err(Error::argument("messages is empty"));
        }
        Ok(Chat {
            messages: Value::from(plain),
            tools: None,
            documents: None,
            arguments: Vec::new(),
            thinking: None,
            generation_prompt: true,
            size: messages.len(),
        })
    }

    /// Adds the tools that the model may call, a JSON array of objects. An empty array is no tools.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the tool or the place in the JSON.
    pub fn with_tools(mut self, tools: &str) -> Result<Self> {
        self.tools = Some(objects(tools, "tools")?).filter(|tools| tools.len() != Some(0));
        self.size += tools.len();
        Ok(self)
    }

    /// Adds documents for the model to consult, a JSON array of objects.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the document or the place in the JSON.
    pub fn with_documents(mut self, documents: &str) -> Result<Self> {
        self.documents = Some(objects(documents, "documents")?);
        self.size += documents.len();
        Ok(self)
    }

    /// Adds variables that the template may look at, a JSON object. They come before all others.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the place in the JSON.
    pub fn with_arguments(mut self, arguments: &str) -> Result<Self> {
        let parsed = parse(arguments, "template_arguments")?;
        if parsed.kind() != ValueKind::Map {
            return Err(Error::argument("template_arguments is not a JSON object"));
        }
        self.arguments = pairs(&parsed, "template_arguments")?;
        self.size += arguments.len();
        Ok(self)
    }

    /// Tells the template whether the model is to think before it answers, where the template has that
    /// switch (`enable_thinking` or `thinking`). Without this call it takes its own default.
    #[must_use]
    pub fn with_thinking(mut self, thinking: bool) -> Self {
        self.thinking = Some(thinking);
        self
    }

    /// Whether the text ends where the model's answer begins; it does unless this says otherwise.
    #[must_use]
    pub fn with_generation_prompt(mut self, wanted: bool) -> Self {
        self.generation_prompt = wanted;
        self
    }

    /// Whether the model may call tools.
    pub fn has_tools(&self) -> bool {
        self.tools.is_some()
    }

    /// The parameters of its tools that are declared as strings, by tool and name; `None` without tools.
    pub fn string_parameters(&self) -> Option<BTreeSet<(String, String)>> {
        let mut strings = BTreeSet::new();
        for tool in self.tools.as_ref()?.try_iter().ok()? {
            let member = |value: &Value, name: &str| value.get_attr(name).ok().filter(|v| !v.is_undefined());
            let function = member(&tool, "function").unwrap_or(tool);
            let Some(name) = member(&function, "name") else { continue };
            let parameters = member(&function, "parameters").and_then(|p| member(&p, "properties"));
            let Some(properties) = parameters else { continue };
            for key in properties.try_iter().into_iter().flatten() {
                let schema = properties.get_item(&key).ok();
                let kind = schema.and_then(|schema| member(&schema, "type"));
                if kind.is_some_and(|kind| kind.as_str() == Some("string")) {
                    strings.insert((name.to_string(), key.to_string()));
                }
            }
        }
        Some(strings)
    }

    /// Bytes of JSON that it was made of.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The template's variables. Of two with one name the later counts.
    pub(super) fn context(&self, special_tokens: &[(String, String)]) -> Vec<(String, Value)> {
        let mut context: Vec<(String, Value)> =
            special_tokens.iter().map(|(name, token)| (name.clone(), Value::from(token.as_str()))).collect();
        let none = || Value::from(());
        context.push(("messages".into(), self.messages.clone()));
        context.push(("tools".into(), self.tools.clone().unwrap_or_else(none)));
        context.push(("documents".into(), self.documents.clone().unwrap_or_else(none)));
        context.push(("add_generation_prompt".into(), self.generation_prompt.into()));
        if let Some(thinking) = self.thinking {
            context.push(("enable_thinking".into(), thinking.into()));
            context.push(("thinking".into(), thinking.into()));
        }
        context.extend(self.arguments.iter().cloned());
        context
    }
}

fn parse(json: &str, name: &str) -> Result<Value> {
    if json.len() > MAX_JSON {
        return Err(Error::argument(format!("{name} has {} bytes, want at most {MAX_JSON}", json.len())));
    }
    // Nesting is limited by `serde_json`.
    serde_json::from_str(json).map_err(|e| Error::argument(format!("{name} is not valid JSON: {e}")))
}

/// A JSON array of objects.
fn objects(json: &str, name: &str) -> Result<Value> {
    let parsed = parse(json, name)?;
    if parsed.kind() != ValueKind::Seq {
        return Err(Error::argument(format!("{name} is not a JSON array")));
    }
    let mut items = parsed.try_iter().map_err(|e| Error::internal(format!("{name}: {e}")))?;
    match items.position(|item| item.kind() != ValueKind::Map) {
        None => Ok(parsed),
        Some(i) => Err(Error::argument(format!("{name}[{i}] is not a JSON object"))),
    }
}

/// The members of a JSON object.
fn pairs(object: &Value, name: &str) -> Result<Vec<(String, Value)>> {
    let broken = |e: minijinja::Error| Error::internal(format!("{name}: {e}"));
    let keys = object.try_iter().map_err(broken)?;
    keys.map(|key| object.get_item(&key).map(|value| (key.to_string(), value)).map_err(broken)).collect()
}

/// A message as templates are to see it: without members that are null, for many print those, and with its
/// reasoning under the names that they look for.
fn message(message: &Value, index: usize) -> Result<Value> {
    let name = format!("messages[{index}]");
    if message.kind() != ValueKind::Map {
        return Err(Error::argument(format!("{name} is not a JSON object")));
    }
    let mut members = pairs(message, &name)?;
    members.retain(|(_, value)| !value.is_none());
    let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    if member("role").is_none_or(|role| role.as_str().is_none()) {
        return Err(Error::argument(format!("{name}.role is not a string")));
    }
    if let Some(reasoning) = REASONING.iter().find_map(|name| member(name)) {
        if member("thinking").is_none() {
            members.insert(0, ("thinking".into(), reasoning.clone()));
        }
        match members.iter_mut().find(|(key, _)| key == REASONING[0]) {
            Some((_, value)) => *value = reasoning,
            None => members.push((REASONING[0].into(), reasoning)),
        }
    }
    Ok(Value::from_pairs(members))
}
