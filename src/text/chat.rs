//! Chat templates: a conversation to the text of a prompt.
//!
//! Promises:
//! - The text equals what the reference makes of the same conversation (`apply_chat_template` of
//!   `transformers`: Jinja2 with `trim_blocks` and `lstrip_blocks`, keys that are null left out of messages).
//! - A template comes with a model, from anywhere: whatever it does, rendering ends, in bounded memory, with
//!   a text or with an error that names file and line.
//! - A [`ChatTemplate`] is shared between threads without a lock.

mod conversation;
mod environment;
mod files;
mod guard;
mod json;
mod strftime;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minijinja::{Environment, ErrorKind, Value};

pub use self::conversation::Chat;
use crate::error::{Error, Result, Status};
use crate::model::gguf::Gguf;
use crate::model::locate::ModelFiles;

/// The longest text that a template may make, in bytes.
pub const MAX_RENDERED: usize = 64 << 20;

/// What a template may spend, in the interpreter's units: about one an instruction, and one for 64 bytes.
const FUEL: u64 = 500_000;
/// More of it, for each byte of the conversation.
const FUEL_PER_BYTE: u64 = 4;
/// As much as any conversation gets.
const MAX_FUEL: u64 = 8_000_000;
/// How long a template may take. Only one that finds a way around its fuel does.
const TIME: Duration = Duration::from_secs(30);
/// The stack of a template's thread: printing and dropping values recurses as deep as they are nested. (The
/// system gives a stack's pages when they are touched.)
const STACK: usize = 64 << 20;

/// A model's chat templates, compiled.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Where each comes from, which is its name in the environment.
    sources: Vec<Source>,
    /// `bos_token` and its like, by name.
    special_tokens: Vec<(String, String)>,
    /// A rendering did not end in time, and may still run.
    stuck: AtomicBool,
}

/// A template as a model's files have it.
#[derive(Debug, Clone)]
struct Source {
    /// What it is for: `default`, `tool_use`.
    purpose: String,
    /// File and field, for messages.
    place: String,
    text: String,
}

impl ChatTemplate {
    /// Reads and compiles a model's chat templates; `None` if it has none.
    ///
    /// A directory's are in `chat_template.jinja`, or else in `tokenizer_config.json`, where there is one or a
    /// list of them by name; a GGUF file's in its metadata.
    ///
    /// # Errors
    /// [`Status::TemplateError`] for a syntax error, with file and line; [`Status::TokenizerInvalid`] or
    /// [`Status::ModelInvalid`] for a malformed file around it; [`Status::Io`].
    pub fn load(files: &ModelFiles) -> Result<Option<Self>> {
        let (sources, special_tokens) = match files {
            ModelFiles::Directory(directory) => files::of_directory(directory)?,
            ModelFiles::Gguf(path) => files::of_gguf(Gguf::open(path)?.metadata())?,
        };
        Self::compile(sources, special_tokens)
    }

    /// Compiles one template, read from a file of this name.
    ///
    /// # Errors
    /// [`Status::TemplateError`] for a syntax error, with file and line.
    pub fn from_text(file: &Path, text: &str, special_tokens: Vec<(String, String)>) -> Result<Self> {
        let source =
            Source { purpose: "default".into(), place: file.display().to_string(), text: text.to_owned() };
        let template = Self::compile(vec![source], special_tokens)?;
        template.ok_or_else(|| Error::internal("a template without a source"))
    }

    fn compile(sources: Vec<Source>, special_tokens: Vec<(String, String)>) -> Result<Option<Self>> {
        if sources.is_empty() {
            return Ok(None);
        }
        let mut environment = environment::new();
        for Source { place, text, .. } in &sources {
            let text = guard::guard(place, text)?;
            environment.add_template_owned(place.clone(), text).map_err(|e| template_error(place, &e))?;
        }
        Ok(Some(ChatTemplate { environment, sources, special_tokens, stuck: AtomicBool::new(false) }))
    }

    /// The template for a conversation with or without tools.
    fn chosen(&self, has_tools: bool) -> &Source {
        let of = |wanted: &str| self.sources.iter().find(|source| source.purpose == wanted);
        let found = if has_tools { of("tool_use").or_else(|| of("default")) } else { of("default") };
        // Without a default any other will have to do; there is one at least.
        found.unwrap_or(&self.sources[0])
    }

    /// The text of the template for a conversation with or without tools.
    pub fn source(&self, has_tools: bool) -> &str {
        &self.chosen(has_tools).text
    }

    /// The prompt that a conversation makes.
    ///
    /// Runs on a thread of its own, which ends with the call: it has the stack that a hostile template may
    /// need, and can be left behind if all limits fail. Then the template is not used again.
    ///
    /// # Errors
    /// [`Status::TemplateError`], with file and line, if the template fails, refuses the conversation
    /// (`raise_exception`), does too much work, or makes more than [`MAX_RENDERED`] bytes.
    pub fn render(&self, chat: &Chat) -> Result<String> {
        self.render_at(chat, SystemTime::now())
    }

    fn render_at(&self, chat: &Chat, now: SystemTime) -> Result<String> {
        let place = self.chosen(chat.has_tools()).place.clone();
        let failed = |what: String| Error::new(Status::TemplateError, format!("{place}: {what}"));
        if self.stuck.load(Ordering::Relaxed) {
            return Err(failed("is not used any more: it did not end in time".into()));
        }
        let fuel = FUEL.saturating_add(FUEL_PER_BYTE.saturating_mul(chat.size() as u64)).min(MAX_FUEL);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        environment.add_function("strftime_now", move |format: &str| strftime::local(now, format));
        let context = Value::from_pairs(chat.context(&self.special_tokens));
        let (done, wait) = crossbeam_channel::bounded(1);
        let name = place.clone();
        let thread = std::thread::Builder::new()
            .name("quire-template".into())
            .stack_size(STACK)
            .spawn(move || {
                let render = || {
                    let template = environment.get_template(&name).map_err(|e| template_error(&name, &e))?;
                    template.render(context).map_err(|e| template_error(&name, &e))
                };
                // Nobody listens any more if it took too long.
                let _ = done.send(crate::panic::catch(render));
            })
            .map_err(|e| Error::new(Status::OutOfMemory, format!("no thread for the template: {e}")))?;
        let Ok(rendered) = wait.recv_timeout(TIME) else {
            self.stuck.store(true, Ordering::Relaxed);
            return Err(failed(format!("did not end within {} seconds", TIME.as_secs())));
        };
        // It has nothing left to do, and catches panics.
        let _ = thread.join();
        let text = rendered?;
        if text.len() > MAX_RENDERED {
            return Err(failed(format!("makes {} bytes, more than {MAX_RENDERED}", text.len())));
        }
        Ok(text)
    }
}

/// What went wrong in a template, and where.
fn template_error(place: &str, error: &minijinja::Error) -> Error {
    let at = error.line().map_or_else(String::new, |line| format!(":{line}"));
    let place = error.name().unwrap_or(place);
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "does more work than a conversation of this size is allowed".to_owned(),
        kind => error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
    };
    Error::new(Status::TemplateError, format!("{place}{at}: {what}"))
}
