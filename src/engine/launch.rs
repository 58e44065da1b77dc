//! Starting an engine: the model is loaded on the thread that will own it, its tokenizer beside that.

mod beside;

use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use beside::Beside;
use crossbeam_channel::{Sender, bounded, unbounded};

use super::load;
use super::options::EngineOptions;
use super::queue::EventQueue;
use super::registry::Registry;
use super::runner::Runner;
use super::shared::{Flag, Shared};
use super::statistics::Statistics;
use super::worker::Worker;
use crate::error::{Error, Result, Status};
use crate::model::{self, LoadOptions, ModelFiles, ModelInfo};
use crate::scheduler::{Scheduler, SchedulerConfig};
use crate::text::{ChatTemplate, Tokenizer};
use crate::{log, panic};

/// What the new thread tells the one that started it.
enum Report {
    /// How far loading is; it goes on when the answer is true.
    Progress(f32, String, Sender<bool>),
    /// The end of loading.
    Done(Result<Arc<Shared>>),
}

/// Starts the owner thread and waits until the model is loaded; `progress` is called on this thread.
pub(super) fn start(
    options: EngineOptions,
    has_handler: bool,
    progress: &mut dyn FnMut(f32, &str) -> bool,
) -> Result<(Arc<Shared>, JoinHandle<()>)> {
    let (reports, inbox) = bounded(0);
    let thread = std::thread::Builder::new()
        .name("quire-engine".into())
        .spawn(move || own(&options, has_handler, &reports))
        .map_err(|e| Error::internal(format!("cannot start the engine's thread: {e}")))?;
    for report in inbox {
        match report {
            Report::Progress(fraction, stage, answer) => {
                // Nobody listens only if the thread has died, which ends this loop.
                let _ = answer.send(progress(fraction, &stage));
            }
            Report::Done(Ok(shared)) => return Ok((shared, thread)),
            Report::Done(Err(error)) => {
                let _ = thread.join();
                return Err(error);
            }
        }
    }
    Err(Error::internal("the engine's thread ended before the model was loaded"))
}

/// The owner thread from its first line to its last.
fn own(options: &EngineOptions, has_handler: bool, reports: &Sender<Report>) {
    let loaded = panic::catch(|| load(options, reports));
    let (parts, commands, sender) = match loaded {
        Ok(parts) => {
            let (sender, commands) = unbounded();
            (parts, commands, sender)
        }
        Err(error) => {
            let _ = reports.send(Report::Done(Err(error)));
            return;
        }
    };
    let shared = Arc::new(Shared {
        commands: sender,
        queue: EventQueue::default(),
        registry: Registry::new(options.max_sequences as usize + options.max_waiting as usize),
        eos_tokens: eos_tokens(&parts),
        grammars: OnceLock::new(),
        info: parts.info,
        tokenizer: parts.tokenizer,
        chat_template: parts.chat_template,
        statistics: Mutex::new(Statistics::default()),
        has_handler,
        ended: Flag::default(),
    });
    let worker = Worker::new(shared.clone(), commands, parts.scheduler, parts.runner, parts.fingerprint);
    run(&shared, worker, reports);
}

/// Serves until shut down. However it ends, every request has had its terminal event and nobody is left
/// waiting.
fn run(shared: &Arc<Shared>, worker: Worker, reports: &Sender<Report>) {
    let ended = panic::catch(|| {
        // Nobody takes the report only if the creating thread is gone, and then shutdown follows.
        let _ = reports.send(Report::Done(Ok(shared.clone())));
        worker.run();
        Ok(())
    });
    if let Err(error) = ended {
        log::error!("the engine's thread failed: {error}");
        shared.fail_all(&error);
    }
    shared.queue.close();
    shared.ended.raise();
}

/// The tokens that end an answer. One that the model has no logit for could never come.
fn eos_tokens(parts: &Parts) -> Vec<u32> {
    let tokens = parts.tokenizer.as_ref().map_or(&*parts.info.eos_token_ids, |tokenizer| tokenizer.eos_ids());
    tokens.iter().copied().filter(|&token| token < parts.info.vocab_size).collect()
}

struct Parts {
    runner: Box<dyn Runner>,
    scheduler: Scheduler,
    fingerprint: [u8; 32],
    info: ModelInfo,
    tokenizer: Option<Arc<Tokenizer>>,
    chat_template: Result<Option<ChatTemplate>>,
}

fn load(options: &EngineOptions, reports: &Sender<Report>) -> Result<Parts> {
    let progress = |fraction: f32, stage: &str| {
        let (answer, asked) = bounded(1);
        let told = reports.send(Report::Progress(fraction, stage.to_owned(), answer));
        told.is_ok() && asked.recv().unwrap_or(false)
    };
    let check = |fraction: f32, stage: &str| {
        if progress(fraction, stage) {
            Ok(())
        } else {
            Err(Error::new(Status::Aborted, "loading was stopped by on_progress"))
        }
    };
    check(0.0, "finding the model")?;
    let files = model::locate(&options.model)?;
    let wanted = LoadOptions {
        max_sequences: options.max_sequences as usize,
        block_size: options.block_tokens as usize,
        cache_bytes: options.cache_bytes,
        max_context: options.max_context.map(|n| n as usize),
        weight_format: options.weight_format,
        ..LoadOptions::default()
    };
    let (text, loaded) = std::thread::scope(|scope| {
        let text = Beside::new(scope, "quire-tokenizer", || Text::load(&files));
        // Once the tokenizer is known to be bad, loading goes no further.
        let loaded =
            load::load(&files, &wanted, &mut |fraction, stage| !text.failed() && progress(fraction, stage));
        (text.join(), loaded)
    });
    let (text, loaded) = (text?, loaded?);
    let info = loaded.info;
    let scheduler = Scheduler::new(SchedulerConfig {
        max_sequences: options.max_sequences as usize,
        // One more than the registry lets in, which is where a full queue is refused.
        max_waiting: options.max_sequences as usize + options.max_waiting as usize + 1,
        max_step_tokens: options.max_step_tokens as usize,
        max_prefill_chunk: options.max_step_tokens as usize,
        block_size: info.block_size,
        num_blocks: info.num_blocks,
        max_context: info.max_context as usize,
        prefix_sharing: options.prefix_sharing,
        snapshots: loaded.snapshots,
    })?;
    log::info!(
        "loaded {}: {}, {}, {} layers, {} pages of {} tokens on {}",
        options.model,
        info.architecture,
        info.quantization,
        info.layers,
        info.num_blocks,
        info.block_size,
        info.device
    );
    Ok(Parts {
        runner: loaded.runner,
        scheduler,
        fingerprint: loaded.fingerprint,
        info,
        tokenizer: text.tokenizer,
        chat_template: text.chat_template,
    })
}

/// What turns text into tokens.
struct Text {
    tokenizer: Option<Arc<Tokenizer>>,
    chat_template: Result<Option<ChatTemplate>>,
}

impl Text {
    fn load(files: &ModelFiles) -> Result<Text> {
        let tokenizer = Tokenizer::load(files)?.map(Arc::new);
        // A model whose template is broken still runs on prompts that need none.
        let chat_template = ChatTemplate::load(files);
        if let Err(error) = &chat_template {
            log::error!("the chat template cannot be used: {error}");
        }
        Ok(Text { tokenizer, chat_template })
    }
}
