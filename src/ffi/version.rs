//! Version and ABI version.

use std::ffi::c_char;

/// The ABI this header describes. Two versions with the same number are binary compatible; compare it
/// with `quire_abi_version()` at start-up when the library is loaded at run time.
pub const QUIRE_ABI_VERSION: u32 = 1;

/// The ABI version of the library that is linked, to compare with `QUIRE_ABI_VERSION`.
///
/// Any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn quire_abi_version() -> u32 {
    QUIRE_ABI_VERSION
}

/// The library's version as "major.minor.patch", NUL-terminated and never freed.
///
/// Any thread, any time.
#[unsafe(no_mangle)]
pub extern "C" fn quire_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
