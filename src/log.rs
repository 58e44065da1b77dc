//! Log lines go to one process-wide sink, or nowhere: a library does not write to its host's terminal.

use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How important a line is; a smaller number is more important.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something is not as it should be; the library copes.
    Warning = 2,
    /// What happens.
    Info = 3,
    /// Detail for debugging.
    Debug = 4,
}

impl Level {
    /// The level with this number, if there is one.
    pub fn from_code(code: i32) -> Option<Level> {
        [Level::Error, Level::Warning, Level::Info, Level::Debug].into_iter().find(|l| *l as i32 == code)
    }
}

/// Receives lines, from any thread.
pub trait Sink: Send + Sync {
    /// Takes one line, without a newline at its end.
    fn log(&self, level: Level, message: &str);
}

static SINK: RwLock<Option<Arc<dyn Sink>>> = RwLock::new(None);
/// The least important level that is wanted; 0 while there is no sink.
static MAX_LEVEL: AtomicI32 = AtomicI32::new(0);

/// Replaces the sink. The old one is dropped when no line is going through it any more.
pub fn set_sink(sink: Option<Arc<dyn Sink>>, max_level: Level) {
    let level = if sink.is_some() { max_level as i32 } else { 0 };
    let old = std::mem::replace(&mut *SINK.write().unwrap_or_else(PoisonError::into_inner), sink);
    MAX_LEVEL.store(level, Ordering::Relaxed);
    drop(old);
}

/// Writes a line if anybody wants it. The message is made only then.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    if level as i32 > MAX_LEVEL.load(Ordering::Relaxed) {
        return;
    }
    // The lock is not held during the call: a sink may take its time, or be replaced meanwhile.
    let sink = SINK.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(sink) = sink {
        sink.log(level, &message.to_string());
    }
}

macro_rules! error {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Error, format_args!($($arg)*)) };
}
macro_rules! info {
    ($($arg:tt)*) => { $crate::log::write($crate::log::Level::Info, format_args!($($arg)*)) };
}
pub(crate) use {error, info};

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Lines(Mutex<Vec<(Level, String)>>);
    impl Sink for Lines {
        fn log(&self, level: Level, message: &str) {
            self.0.lock().unwrap().push((level, message.to_owned()));
        }
    }

    #[test]
    fn only_wanted_lines_arrive() {
        let lines = Arc::new(Lines(Mutex::new(Vec::new())));
        set_sink(Some(lines.clone()), Level::Warning);
        error!("test-log {}", 1);
        write(Level::Warning, format_args!("test-log 2"));
        info!("test-log 3");
        set_sink(None, Level::Debug);
        error!("test-log 4");
        let seen = lines.0.lock().unwrap();
        // Other tests of this process may log too.
        let seen: Vec<_> = seen.iter().filter(|(_, m)| m.starts_with("test-log")).collect();
        assert_eq!(seen.len(), 2);
        assert_eq!(*seen[0], (Level::Error, "test-log 1".to_owned()));
        assert_eq!(*seen[1], (Level::Warning, "test-log 2".to_owned()));
    }
}
