//! Saving and loading the prefix cache.

use std::ffi::c_char;
use std::path::Path;

use super::engine::quire_engine;
use super::error::{quire_error, quire_status};
use super::guard;
use crate::error::{Error, Result};

/// Reads a caller's file name.
///
/// # Safety
/// `path` is NULL or readable for `path_len` bytes.
unsafe fn file<'a>(path: *const c_char, path_len: usize) -> Result<&'a Path> {
    if path.is_null() {
        return Err(Error::argument("path is NULL"));
    }
    // SAFETY: passed on.
    let path = unsafe { guard::text(path, path_len, "path")? };
    if path.is_empty() || path.contains('\0') {
        return Err(Error::argument("path is empty or contains a NUL character"));
    }
    Ok(Path::new(path))
}

/// Writes every cached prefix to a file: its tokens and pages, for an engine of the same model to load later.
/// `*block_count`, unless NULL, becomes the number of pages written. A file that is there already is replaced,
/// and only when the new one is complete and on disk. Cache salts are written as hashes.
///
/// Any thread; waits until it is done, while requests wait too. Fails with `QUIRE_INVALID_ARGUMENT`,
/// `QUIRE_INVALID_UTF8`, `QUIRE_IO`, `QUIRE_DEVICE_ERROR` or `QUIRE_SHUT_DOWN`.
///
/// # Safety
/// `engine` is a live engine; `path` is readable for `path_len` bytes; `block_count` is NULL or writable;
/// `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_save_cache(
    engine: *const quire_engine,
    path: *const c_char,
    path_len: usize,
    block_count: *mut u64,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let engine = guard::reference(engine, "engine")?;
            let count = engine.inner().save_cache(file(path, path_len)?)?;
            if !block_count.is_null() {
                block_count.write(count);
            }
        }
        Ok(())
    })
}

/// Takes the prefixes of a file written by `quire_engine_save_cache`, as far as there are free pages for them.
/// `*block_count`, unless NULL, becomes the number of pages that came.
///
/// Any thread; waits until it is done, while requests wait too. Fails, with nothing changed, with
/// `QUIRE_INVALID_ARGUMENT`, `QUIRE_INVALID_UTF8`, `QUIRE_IO`, `QUIRE_CACHE_INVALID` (damaged, or saved for
/// another model, page format or version) or `QUIRE_SHUT_DOWN`.
///
/// # Safety
/// `engine` is a live engine; `path` is readable for `path_len` bytes; `block_count` is NULL or writable;
/// `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quire_engine_load_cache(
    engine: *const quire_engine,
    path: *const c_char,
    path_len: usize,
    block_count: *mut u64,
    error: *mut *mut quire_error,
) -> quire_status {
    guard::entry(error, || {
        // SAFETY: the caller's contract above.
        unsafe {
            let engine = guard::reference(engine, "engine")?;
            let count = engine.inner().load_cache(file(path, path_len)?)?;
            if !block_count.is_null() {
                block_count.write(count);
            }
        }
        Ok(())
    })
}
