//! What the engine's thread, the dispatcher and the callers share.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::event::{Event, EventKind, RequestId, Usage};
use super::options::{RequestOptions, Shutdown};
use super::queue::{EventQueue, Taken};
use super::registry::Registry;
use super::statistics::Statistics;
use crate::error::{Error, Result, Status};
use crate::grammar::{Grammar, GrammarState, Grammars};
use crate::model::ModelInfo;
use crate::text::{AnswerFormat, ChatTemplate, StopStrings, Tokenizer};

/// A message to the engine's thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Run this request.
    Submit(Box<Submission>),
    /// Cancel one request.
    Cancel(RequestId),
    /// Cancel every request submitted before.
    CancelAll,
    /// End.
    Shutdown(Shutdown),
    /// Run no step until told to go on; answered when none is running.
    Suspend(Sender<Result<()>>),
    /// Go on.
    Resume,
    /// Write the cached prefixes to a file and say how many blocks there were.
    SaveCache(PathBuf, Sender<Result<u64>>),
    /// Take cached prefixes from a file and say how many blocks came.
    LoadCache(PathBuf, Sender<Result<u64>>),
}

/// A checked request on its way to the engine's thread.
#[derive(Debug)]
pub(super) struct Submission {
    pub id: RequestId,
    /// Which of its prompt's answers it is.
    pub index: u32,
    pub prompt: Vec<u32>,
    pub options: RequestOptions,
    /// Its stop strings, ready to be looked for.
    pub stops: Option<StopStrings>,
    /// How its answer is to be taken apart, if it is.
    pub format: Option<AnswerFormat>,
    /// Where its grammar begins.
    pub grammar: Option<GrammarState>,
    pub submitted: std::time::Instant,
}

/// Everything of an engine that more than one thread touches.
pub(super) struct Shared {
    pub commands: Sender<Command>,
    pub queue: EventQueue,
    pub registry: Registry,
    pub info: ModelInfo,
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// What puts conversations into text: none if the model has none, or what is wrong with it.
    pub chat_template: Result<Option<ChatTemplate>>,
    /// Tokens that end an answer.
    pub eos_tokens: Vec<u32>,
    /// Made when the first request asks for a grammar.
    pub grammars: OnceLock<Result<Grammars>>,
    pub statistics: Mutex<Statistics>,
    /// Whether events go to a handler, not to poll and wait.
    pub has_handler: bool,
    pub ended: Flag,
}

impl Shared {
    /// Compiles a grammar, on the calling thread.
    pub fn start_grammar(&self, grammar: &Grammar) -> Result<GrammarState> {
        let tokenizer = self.tokenizer.as_deref().ok_or_else(|| {
            let message = "the model has no tokenizer, which a grammar needs";
            Error::new(Status::TokenizerMissing, message)
        })?;
        let size = self.info.vocab_size as usize;
        let grammars = self.grammars.get_or_init(|| Grammars::new(tokenizer, size, &self.eos_tokens));
        grammars.as_ref().map_err(Clone::clone)?.start(grammar)
    }

    /// Takes the next event; a terminal one makes room for another request.
    pub fn take(&self, timeout: Option<Duration>) -> Taken {
        let taken = self.queue.wait(timeout);
        if let Taken::Event(event) = &taken
            && event.kind.is_terminal()
        {
            self.registry.taken();
        }
        taken
    }

    /// Ends every live request with `error`; nothing is accepted any more.
    pub fn fail_all(&self, error: &Error) {
        self.registry.close(error.clone());
        let ended = self.registry.end_all();
        self.queue.push(ended.into_iter().map(|(request, index, tag)| Event {
            request,
            index,
            tag,
            kind: EventKind::Failed(error.clone(), Usage::default()),
        }));
    }

    /// The latest statistics.
    pub fn statistics(&self) -> Statistics {
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that happens once and can be waited for.
#[derive(Debug, Default)]
pub(super) struct Flag {
    raised: Mutex<bool>,
    condvar: Condvar,
}

impl Flag {
    pub fn raise(&self) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condvar.notify_all();
    }

    pub fn wait(&self) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        while !*raised {
            raised = self.condvar.wait(raised).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
