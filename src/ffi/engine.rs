//! Engines: create, shut down, release.

use std::ffi::{CString, c_char, c_void};
use std::time::Duration;

use super::error::{quire_error, quire_status};
use super::event::{OwnedEvent, quire_event};
use super::guard;
use super::info::{quire_model_info, quire_statistics};
use super::log::quire_release_fn;
use super::options::{
    QUIRE_WEIGHTS_AS_STORED, QUIRE_WEIGHTS_AUTO, QUIRE_WEIGHTS_FLOAT32, quire_engine_options,
};
use super::request::quire_request_options;
use crate::engine::{Engine, EngineOptions, Event, EventHandler, Shutdown};
use crate::error::{Error, Result};
use crate::model::{ModelInfo, WeightFormat};

// SAFETY: all are repr(C) structs whose first field is the size; they hold numbers, pointers and optional
// function pointers, for which zero is valid.
unsafe impl guard::Versioned for quire_engine_options {
    const MIN_SIZE: usize = size_of::<Self>();
}
// SAFETY: as above.
unsafe impl guard::Versioned for quire_request_options {
    const MIN_SIZE: usize = std::mem::offset_of!(Self, stop_strings);
}
// SAFETY: as above.
unsafe impl guard::Versioned for quire_statistics {
    const MIN_SIZE: usize = size_of::<Self>();
}
// SAFETY: as above.
unsafe impl guard::Versioned for quire_model_info {
    const MIN_SIZE: usize = size_of::<Self>();
}

/// A model, its cache, and the thread that runs it.
pub struct quire_engine {
    inner: Engine,
    names: Names,
}

/// The model's names as C strings that live as long as the engine.
pub(super) struct Names {
    pub(super) architecture: CString,
    pub(super) quantization: CString,
    pub(super) device: CString,
}

impl Names {
    fn new(info: &ModelInfo) -> Self {
        // These names come from tables of this library and from device drivers, none holds a NUL.
        let name = |s: &str| CString::new(s).unwrap_or_default();
        Names {
            architecture: name(&info.architecture),
            quantization: name(&info.quantization),
            device: name(&info.device),
        }
    }
}

impl quire_engine {
    pub(super) fn inner(&self) -> &Engine {
        &self.inner
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }
}

/// What an engine does with the requests it still has when it is shut down.
pub type quire_shutdown_mode = i32;

/// Let them finish, within the time given; cancel what is left then.
pub const QUIRE_SHUTDOWN_DRAIN: quire_shutdown_mode = 1;
/// Cancel them all.
pub const QUIRE_SHUTDOWN_CANCEL: quire_shutdown_mode = 2;

/// A C callback with its user data, which it releases when dropped.
struct Callback {
    function: unsafe extern "C" fn(*mut c_void, *const quire_event),
    data: UserData,
}

struct UserData {
    pointer: *mut c_void,
    release: quire_release_fn,
}

// SAFETY: the rules of `quire_event_fn` and `quire_release_fn` say on which threads they are called.
unsafe impl Send for UserData {}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the last use of the pointer.
            unsafe { release(self.pointer) }
        }
    }
}

impl EventHandler for Callback {
    fn handle(&mut self, event: Event) {
        let owned = OwnedEvent::new(event);
        // SAFETY: the event outlives the call.
        unsafe { (self.function)(self.data.pointer, owned.as_event()) }
    }
}

fn weight_format(value: i32) -> Result<WeightFormat> {
    match value {
        QUIRE_WEIGHTS_AUTO => Ok(WeightFormat::Auto),
        QUIRE_WEIGHTS_AS_STORED => Ok(WeightFormat::AsStored),
        QUIRE_WEIGHTS_FLOAT32 => Ok(WeightFormat::Float32),
        _ => Err(Error::argument(format!("weight_format is {value}, want one of QUIRE_WEIGHTS_*"))),
    }
}

/// Reads a caller's options; the callback's user data is owned from the first line on.
///
/// # Safety
/// As for `quire_engine_create`.
unsafe fn read_options(
    options: *const quire_engine_options,
) -> Result<(EngineOptions, Option<Box<dyn EventHandler>>)> {
    // SAFETY: passed on from the caller, field by field.
    unsafe {
        let options = guard::versioned(options, "options")?;
        let data = UserData { pointer: options.on_event_data, release: options.release_on_event_data };
        let handler =
            options.on_event.map(|function| Box::new(Callback { function, data }) as Box<dyn EventHandler>);
        if options.model.is_null() {
            return Err(Error::argument("model is NULL"));
        }
        let model = guard::text(options.model, options.model_len, "model")?.to_owned();
        let read = EngineOptions {
            model,
            max_sequences: options.max_sequences,
            max_waiting: options.max_waiting,
            max_context: (options.max_context > 0).then_some(options.max_context),
            max_step_tokens: options.max_step_tokens,
            block_tokens: options.block_tokens,
            weight_format: weight_format(options.weight_format)?,
            cache_bytes: (options.cache_bytes > 0).then_some(options.cache_bytes),
            prefix_sharing: !guard::flag(options.disable_prefix_sharing, "disable_prefix_sharing")?,
        };
        Ok((read, handler))
    }
}

/// Loads a model and starts an engine. `*engine` becomes the engine, to be released with
/// `quire_engine_release`. Returns when the model is ready, which can take seconds; `on_progress` tells how
/// far it is and can stop it.
///
/// Any thread but a callback's. Fails with `QUIRE_INVALID_ARGUMENT`, `QUIRE_INVALID_STRUCT_SIZE`,
/// `QUIRE_INVALID_UTF8`, `QUIRE_MODEL_NOT_FOUND`, `QUIRE_MODEL_INVALID`, `QUIRE_MODEL_UNSUPPORTED`,
/// `QUIRE_TOKENIZER_INVALID`, `QUIRE_OUT_OF_MEMORY`, `QUIRE_ABORTED`, `QUIRE_DEVICE_ERROR` or `QUIRE_IO`.
///
/// # Safety
/// `options` was filled by its `_init` and its pointers are valid for the lengths beside them; `engine` is
/// writable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_create(
    options: *const quire_engine_options,
    engine: *mut *mut quire_engine,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let (read, handler) = read_options(options)?;
            guard::writable(engine, "engine")?;
            let (on_progress, data) = ((*options).on_progress, (*options).on_progress_data);
            let mut progress = |fraction: f32, stage: &str| {
                let Some(on_progress) = on_progress else { return true };
                let stage = CString::new(stage).unwrap_or_default();
                on_progress(data, fraction, stage.as_ptr().cast::<c_char>()) == 0
            };
            let inner = Engine::create(read, handler, &mut progress)?;
            let names = Names::new(inner.model_info());
            engine.write(Box::into_raw(Box::new(quire_engine { inner, names })));
        }
        Ok(())
    })
}

/// Ends an engine's work: no request is accepted any more; those it has are drained or cancelled, as `mode`
/// says; returns when the last has had its terminal event. Events not yet taken can still be taken. Calling
/// it again is allowed: from then on the stricter mode and the earlier deadline hold.
///
/// `deadline_ms` bounds `QUIRE_SHUTDOWN_DRAIN`: what is not done by then is cancelled. Negative: no bound.
///
/// Any thread but a callback's. Fails with `QUIRE_INVALID_ARGUMENT` or, from inside a callback,
/// `QUIRE_INVALID_STATE`.
///
/// # Safety
/// `engine` is a live engine; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_shutdown(
    engine: *const quire_engine,
    mode: quire_shutdown_mode,
    deadline_ms: i64,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        let engine = unsafe { guard::reference(engine, "engine")? };
        let mode = match mode {
            QUIRE_SHUTDOWN_DRAIN => {
                Shutdown::Drain(u64::try_from(deadline_ms).ok().map(Duration::from_millis))
            }
            QUIRE_SHUTDOWN_CANCEL => Shutdown::Cancel,
            _ => return Err(Error::argument(format!("mode is {mode}, want one of QUIRE_SHUTDOWN_*"))),
        };
        engine.inner().shutdown(mode)
    })
}

/// Suspends an engine, as an app does that goes to the background: the step that is running ends, and no other
/// begins until `quire_engine_resume`. When this returns the device has nothing to do. Requests are accepted and
/// cancelled meanwhile, wait, and keep their pages; their deadlines run on, and are looked at after the resumption.
/// Saving and loading the cache works too. Suspended twice is suspended once; `quire_engine_shutdown` ends it.
///
/// Any thread, callbacks too; waits for the step. Fails with `QUIRE_SHUT_DOWN`, or with `QUIRE_DEVICE_ERROR` or
/// `QUIRE_OUT_OF_MEMORY` if that step failed; then the engine is suspended all the same.
///
/// # Safety
/// `engine` is a live engine; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_suspend(
    engine: *const quire_engine,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe { guard::reference(engine, "engine")? }.inner().suspend()
    })
}

/// Resumes an engine that was suspended; harmless if it was not.
///
/// Any thread, callbacks too; does not wait.
///
/// # Safety
/// `engine` is a live engine; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_resume(
    engine: *const quire_engine,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe { guard::reference(engine, "engine")? }.inner().resume();
        Ok(())
    })
}

/// Releases an engine: cancels what it still runs, ends its threads, frees the model. The handle is gone,
/// whatever is returned. With callback delivery every terminal event and then `release_on_event_data` come
/// before this returns; without it, events not taken are dropped.
///
/// Any thread, once, when no other call on the engine is running. From inside a callback of this engine it
/// returns at once and the rest happens after the callback has returned. NULL is allowed and does nothing.
///
/// # Safety
/// `engine` is NULL or a live engine that nobody uses any more; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_release(
    engine: *mut quire_engine,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        if engine.is_null() {
            return Ok(());
        }
        // SAFETY: made by `quire_engine_create`, owned by the caller until now.
        let engine = unsafe { Box::from_raw(engine) };
        engine.inner.release();
        Ok(())
    })
}
