//! An engine from the outside: safe from any thread, and quick, for it only checks and sends messages.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::dispatcher::{self, EventHandler, in_callback};
use super::event::{Event, RequestId};
use super::launch;
use super::options::{EngineOptions, MAX_ANSWERS, Prompt, RequestOptions, Shutdown};
use super::queue::Taken;
use super::shared::{Command, Shared, Submission};
use super::statistics::Statistics;
use crate::error::{Error, Result, Status};
use crate::model::ModelInfo;
use crate::text::{AnswerFormat, Chat, StopStrings, Tokenizer};

/// A model, its cache, and the thread that runs it.
///
/// Dropping it is [`Engine::release`].
pub struct Engine {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
    dispatcher: Option<JoinHandle<()>>,
}

impl Engine {
    /// Loads a model and starts an engine. With a `handler`, events go to it, on a thread of their own;
    /// without one they are taken with [`Engine::poll`] and [`Engine::wait`].
    ///
    /// `progress` is told a fraction from 0 to 1 and a stage, on the calling thread; when it returns false,
    /// loading stops with [`Status::Aborted`].
    pub fn create(
        options: EngineOptions,
        handler: Option<Box<dyn EventHandler>>,
        progress: &mut dyn FnMut(f32, &str) -> bool,
    ) -> Result<Engine> {
        options.validate()?;
        let (shared, worker) = launch::start(options, handler.is_some(), progress)?;
        let mut engine = Engine { shared, worker: Some(worker), dispatcher: None };
        if let Some(handler) = handler {
            engine.dispatcher = Some(dispatcher::spawn(engine.shared.clone(), handler)?);
        }
        Ok(engine)
    }

    /// Accepts a request, or says why not. Its answer comes as events.
    ///
    /// If it asks for `n` answers, each is a request of its own, with its own events; the ids of the others follow
    /// the one returned.
    pub fn submit(&self, mut options: RequestOptions) -> Result<RequestId> {
        self.check_choice(&options)?;
        let stops = StopStrings::new(&options.stop_strings)?;
        if stops.is_some() {
            self.tokenizer_for_text()?;
        }
        let mut format = None;
        let parse = options.parse.unwrap_or(matches!(options.prompt, Prompt::Chat(_)));
        let prompt = match std::mem::replace(&mut options.prompt, Prompt::Tokens(Vec::new())) {
            Prompt::Tokens(tokens) => {
                self.check_tokens(&tokens, "prompt_tokens")?;
                tokens
            }
            Prompt::Text(text) => {
                format = parse.then(|| self.answer_format(&text, None));
                encode_prompt(self.tokenizer_for_text()?, &text)?
            }
            Prompt::Chat(chat) => {
                let text = self.render_chat(&chat)?;
                format = parse.then(|| self.answer_format(&text, Some(&chat)));
                // The template has put in what the model wants around a text.
                self.tokenizer_for_text()?.encode(&text, false)?
            }
        };
        if prompt.is_empty() {
            return Err(Error::argument("the prompt is empty"));
        }
        self.check_length(prompt.len(), options.max_tokens)?;
        let grammar = options.grammar.take();
        let start = |_| grammar.as_ref().map(|grammar| self.shared.start_grammar(grammar)).transpose();
        let mut grammars = (0..options.n).map(start).collect::<Result<Vec<_>>>()?.into_iter();
        let submitted = Instant::now();
        let tag = options.tag;
        self.shared.registry.accept(tag, options.n, |id, index| {
            let mut options = options.clone();
            options.sampling.seed = options.sampling.seed_of(index);
            // The prompt's log-probabilities are the same for all.
            options.logprobs.prompt &= index == 0;
            let grammar = grammars.next().flatten();
            let (prompt, stops, format) = (prompt.clone(), stops.clone(), format.clone());
            let submission = Submission { id, index, prompt, options, stops, format, grammar, submitted };
            self.send(Command::Submit(Box::new(submission)));
        })
    }

    /// Refuses settings of sampling that are out of range or contradict each other.
    fn check_choice(&self, options: &RequestOptions) -> Result<()> {
        let vocab_size = self.model_info().vocab_size;
        options.sampling.validate(vocab_size)?;
        options.logprobs.validate(vocab_size)?;
        if options.n == 0 || options.n > MAX_ANSWERS {
            return Err(Error::argument(format!("n is {}, want 1 to {MAX_ANSWERS}", options.n)));
        }
        if options.n > 1 && options.sampling.is_greedy() {
            return Err(Error::argument(format!(
                "n is {} but temperature is 0: the answers would be equal",
                options.n
            )));
        }
        if options.max_tokens == 0 {
            return Err(Error::argument("max_tokens is 0, want at least 1"));
        }
        if options.min_tokens > options.max_tokens {
            return Err(Error::argument(format!(
                "min_tokens is {}, more than max_tokens ({})",
                options.min_tokens, options.max_tokens
            )));
        }
        self.check_tokens(&options.stop_tokens, "stop_tokens")?;
        if options.min_tokens == 0 {
            return Ok(());
        }
        // Something has to be left to choose until then.
        let biased = options.sampling.logit_bias.iter().filter(|(_, bias)| *bias == f32::NEG_INFINITY);
        let mut banned: Vec<u32> = biased.map(|(token, _)| *token).collect();
        banned.extend(&options.stop_tokens);
        banned.extend(self.shared.eos_tokens.iter().filter(|_| !options.ignore_eos));
        banned.sort_unstable();
        banned.dedup();
        if banned.len() >= vocab_size as usize {
            return Err(Error::argument(
                "min_tokens leaves nothing to choose: stop_tokens and logit_bias ban every other token",
            ));
        }
        Ok(())
    }

    /// Refuses what could never run, before it waits for its turn.
    fn check_length(&self, prompt: usize, max_tokens: u32) -> Result<()> {
        let info = self.model_info();
        let total = prompt as u64 + u64::from(max_tokens);
        let pages = u64::from(info.num_blocks) * u64::from(info.block_size);
        let (limit, what) = if total > u64::from(info.max_context) {
            (u64::from(info.max_context), "the context")
        } else if total > pages {
            (pages, "the whole key-value cache")
        } else {
            return Ok(());
        };
        Err(Error::new(
            Status::PromptTooLong,
            format!(
                "the prompt has {prompt} tokens and max_tokens is {max_tokens}; {what} holds {limit} tokens"
            ),
        ))
    }

    /// Refuses ids outside the vocabulary.
    pub fn check_tokens(&self, tokens: &[u32], name: &str) -> Result<()> {
        let vocab_size = self.model_info().vocab_size;
        match tokens.iter().position(|t| *t >= vocab_size) {
            None => Ok(()),
            Some(at) => Err(Error::argument(format!(
                "{name}[{at}] is {}; the vocabulary has {vocab_size} tokens",
                tokens[at]
            ))),
        }
    }

    /// Cancels a live request; its terminal event follows.
    pub fn cancel(&self, id: RequestId) -> Result<()> {
        self.shared.registry.cancel(id)?;
        self.send(Command::Cancel(id));
        Ok(())
    }

    /// Cancels every live request.
    pub fn cancel_all(&self) {
        self.shared.registry.cancel_all();
        self.send(Command::CancelAll);
    }

    /// The next event, if there is one now.
    pub fn poll(&self) -> Result<Option<Event>> {
        match self.take(Some(Duration::ZERO))? {
            Taken::Event(event) => Ok(Some(event)),
            Taken::TimedOut => Ok(None),
            Taken::Closed => Err(shut_down()),
        }
    }

    /// The next event, waiting for it up to `timeout` (`None`: for ever).
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Event> {
        match self.take(timeout)? {
            Taken::Event(event) => Ok(event),
            Taken::TimedOut => Err(Error::new(Status::Timeout, "no event came in the time given")),
            Taken::Closed => Err(shut_down()),
        }
    }

    fn take(&self, timeout: Option<Duration>) -> Result<Taken> {
        if self.shared.has_handler {
            return Err(Error::new(Status::InvalidState, "this engine's events go to its on_event callback"));
        }
        Ok(self.shared.take(timeout))
    }

    /// Writes every cached prefix to a file, beside the running requests, and returns how many blocks it holds.
    /// A file at `path` is replaced only when the new one is complete.
    ///
    /// Errors: `Io`; `ShutDown`.
    pub fn save_cache(&self, path: &Path) -> Result<u64> {
        self.ask(|answer| Command::SaveCache(path.to_owned(), answer))
    }

    /// Takes the prefixes of a file written by [`Engine::save_cache`], as far as there are free pages, and
    /// returns how many blocks came.
    ///
    /// Errors, with nothing changed: `Io`; `CacheInvalid`; `ShutDown`.
    pub fn load_cache(&self, path: &Path) -> Result<u64> {
        self.ask(|answer| Command::LoadCache(path.to_owned(), answer))
    }

    /// Lets the step that is running end and starts no other until [`Engine::resume`]. Requests are accepted and
    /// cancelled meanwhile. Suspended twice is suspended once; a shutdown ends it.
    ///
    /// Errors: `DeviceError` if that step failed, the engine being suspended all the same; `ShutDown`.
    pub fn suspend(&self) -> Result<()> {
        self.ask(Command::Suspend)
    }

    /// Ends a suspension, if there is one. Does not wait.
    pub fn resume(&self) {
        self.send(Command::Resume);
    }

    /// Sends a command that is answered, and waits for the answer.
    fn ask<T>(&self, command: impl FnOnce(Sender<Result<T>>) -> Command) -> Result<T> {
        let (answer, answers) = bounded(1);
        self.send(command(answer));
        // The command is dropped unanswered if the engine ends before its turn.
        answers.recv().unwrap_or_else(|_| Err(shut_down()))
    }

    /// Ends the engine's work and waits until every request has had its terminal event.
    pub fn shutdown(&self, mode: Shutdown) -> Result<()> {
        if in_callback() {
            return Err(Error::new(
                Status::InvalidState,
                "shutdown would wait for the callback it is called from",
            ));
        }
        self.begin_shutdown(mode);
        self.shared.ended.wait();
        Ok(())
    }

    fn begin_shutdown(&self, mode: Shutdown) {
        self.shared.registry.close(shut_down());
        self.send(Command::Shutdown(mode));
    }

    /// Cancels what still runs and ends the engine's threads; from inside a callback, without waiting.
    pub fn release(self) {
        // The work is in `drop`, so that no way of letting an engine go can forget it.
    }

    /// What the model is.
    pub fn model_info(&self) -> &ModelInfo {
        &self.shared.info
    }

    /// The model's tokenizer, if it came with one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.shared.tokenizer.as_deref()
    }

    /// The model's tokenizer, for a call that cannot do without.
    pub fn tokenizer_for_text(&self) -> Result<&Tokenizer> {
        self.tokenizer().ok_or_else(|| {
            Error::new(
                Status::TokenizerMissing,
                "the model has no tokenizer; it takes and gives token ids only",
            )
        })
    }

    /// The prompt that the model's chat template makes of a conversation.
    ///
    /// Errors: `TemplateMissing`; `TemplateError` with file and line, if the template is malformed, refuses the
    /// conversation or does too much work.
    pub fn render_chat(&self, chat: &Chat) -> Result<String> {
        match &self.shared.chat_template {
            Ok(Some(template)) => template.render(chat),
            Ok(None) => Err(Error::new(Status::TemplateMissing, "the model has no chat template")),
            Err(error) => Err(error.clone()),
        }
    }

    /// How the model marks reasoning and calls in its answer to a prompt.
    fn answer_format(&self, prompt: &str, chat: Option<&Chat>) -> AnswerFormat {
        let Ok(Some(template)) = &self.shared.chat_template else { return AnswerFormat::default() };
        // A prompt in text may have told of tools.
        let strings = chat.map_or_else(|| Some(BTreeSet::new()), Chat::string_parameters);
        AnswerFormat::detect(template.source(chat.is_some_and(Chat::has_tools)), prompt, strings)
    }

    /// The latest counters.
    pub fn statistics(&self) -> Statistics {
        self.shared.statistics()
    }

    fn send(&self, command: Command) {
        // The receiver is gone only when the engine has ended, and then there is nobody to tell.
        let _ = self.shared.commands.send(command);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.begin_shutdown(Shutdown::Cancel);
        if in_callback() {
            // The dispatcher cannot wait for itself; both threads end by themselves.
            return;
        }
        for thread in [self.worker.take(), self.dispatcher.take()].into_iter().flatten() {
            // Both threads catch panics; what could still come out of one has nowhere to go.
            let _ = thread.join();
        }
    }
}

/// The tokens of a prompt. A text that already begins with the begin-of-sequence token gets no second one.
fn encode_prompt(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let bos = tokenizer.bos_id().and_then(|id| tokenizer.token_bytes(id));
    let has_bos = bos.is_some_and(|bos| !bos.is_empty() && text.as_bytes().starts_with(bos));
    tokenizer.encode(text, !has_bos)
}

pub(super) fn shut_down() -> Error {
    Error::new(Status::ShutDown, "the engine has been shut down")
}
