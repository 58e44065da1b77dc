//! What every exported function shares: panics caught, pointers checked, errors handed over.

use super::error::{QUIRE_OK, quire_error, quire_status};
use crate::error::{Error, Result, Status};

/// Runs the body of an exported function. An error, or a panic, becomes a status and, where the caller
/// wants one (`error` is not NULL), a `quire_error` that the caller owns.
///
/// `error` is the caller's: NULL or writable, by the contract of every exported function.
pub(super) fn entry(error: *mut *mut quire_error, body: impl FnOnce() -> Result<()>) -> quire_status {
    let result = crate::panic::catch(body);
    match result {
        Ok(()) => QUIRE_OK,
        Err(e) => {
            if !error.is_null() {
                // SAFETY: not NULL, hence writable by the exported function's contract.
                unsafe { error.write(Box::into_raw(Box::new(quire_error::new(&e)))) };
            }
            e.status().code()
        }
    }
}

fn null(name: &str) -> Error {
    Error::argument(format!("{name} is NULL"))
}

/// A caller's handle as a reference; `name` is the argument's name.
///
/// # Safety
/// `pointer` is NULL or valid for `'a`.
pub(super) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: passed on.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// Refuses a NULL output pointer.
pub(super) fn writable<T>(pointer: *mut T, name: &str) -> Result<()> {
    if pointer.is_null() { Err(null(name)) } else { Ok(()) }
}

/// A caller's array. NULL goes with a length of 0 only.
///
/// # Safety
/// `pointer` is NULL or valid for reading `len` elements for `'a`.
pub(super) unsafe fn slice<'a, T>(pointer: *const T, len: usize, name: &str) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Error::argument(format!("{name} is NULL but its length is {len}")));
    }
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Error::argument(format!("the length of {name} is {len}, more than memory can hold")));
    }
    // SAFETY: not NULL, and the caller vouches for `len` elements.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// A caller's UTF-8 text.
///
/// # Safety
/// As for [`slice`].
pub(super) unsafe fn text<'a>(pointer: *const std::ffi::c_char, len: usize, name: &str) -> Result<&'a str> {
    // SAFETY: passed on.
    let bytes = unsafe { slice(pointer.cast::<u8>(), len, name)? };
    std::str::from_utf8(bytes).map_err(|e| {
        Error::new(Status::InvalidUtf8, format!("{name} is not valid UTF-8 from byte {} on", e.valid_up_to()))
    })
}

/// A flag of the C ABI: 0 or 1.
pub(super) fn flag(value: i32, name: &str) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::argument(format!("{name} is {value}, want 0 or 1"))),
    }
}

/// A struct that begins with `size_t struct_size` and can grow at its end.
///
/// # Safety
/// Implemented only for `repr(C)` structs whose first field is that size and for which all bytes zero is a
/// valid value.
pub(super) unsafe trait Versioned: Sized {
    /// The struct's size in the first version of the ABI: the smallest a caller can have.
    const MIN_SIZE: usize;
}

fn check_size<T: Versioned>(struct_size: usize, name: &str) -> Result<()> {
    let (min, max) = (T::MIN_SIZE, size_of::<T>());
    if (min..=max).contains(&struct_size) {
        return Ok(());
    }
    let wants = if min == max { format!("{max}") } else { format!("{min} to {max}") };
    Err(Error::new(
        Status::InvalidStructSize,
        format!("the struct_size of {name} is {struct_size}, this library knows {wants}"),
    ))
}

/// A caller's struct, copied; fields its version does not have are zero.
///
/// # Safety
/// `pointer` is NULL or valid for reading as many bytes as its `struct_size` says.
pub(super) unsafe fn versioned<T: Versioned>(pointer: *const T, name: &str) -> Result<T> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: the first field is the size (`Versioned`), and the caller vouches for that much.
    let struct_size = unsafe { pointer.cast::<usize>().read() };
    check_size::<T>(struct_size, name)?;
    let mut copy = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: both sides hold `struct_size` bytes, checked against `T`; zero is valid for the rest.
    Ok(unsafe {
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), struct_size);
        copy.assume_init()
    })
}

/// Writes `value` into a caller's struct of `struct_size` bytes, which may be an older, shorter version.
///
/// # Safety
/// `pointer` is NULL or valid for writing `struct_size` bytes.
pub(super) unsafe fn init_struct<T: Versioned>(
    pointer: *mut T,
    struct_size: usize,
    name: &str,
    value: T,
) -> Result<()> {
    writable(pointer, name)?;
    check_size::<T>(struct_size, name)?;
    // SAFETY: the caller vouches for `struct_size` bytes; `T` has at least as many.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), pointer.cast::<u8>(), struct_size);
    }
    Ok(())
}

/// Like [`init_struct`], for a struct whose `struct_size` the caller has filled in.
///
/// # Safety
/// `pointer` is NULL or valid for reading and writing as many bytes as its `struct_size` says.
pub(super) unsafe fn fill_struct<T: Versioned>(
    pointer: *mut T,
    name: &str,
    value: impl FnOnce(usize) -> T,
) -> Result<()> {
    writable(pointer, name)?;
    // SAFETY: the first field is the size (`Versioned`), and the caller vouches for that much.
    unsafe {
        let struct_size = pointer.cast::<usize>().read();
        init_struct(pointer, struct_size, name, value(struct_size))
    }
}

/// A random seed: `RandomState` draws its keys from the system's randomness.
pub(super) fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    struct Grown {
        struct_size: usize,
        old: u32,
        new: u32,
    }
    // SAFETY: repr(C), size first, plain numbers.
    unsafe impl Versioned for Grown {
        const MIN_SIZE: usize = std::mem::offset_of!(Grown, new);
    }

    #[test]
    fn an_older_caller_gets_zero_for_new_fields_and_keeps_its_bytes() {
        let mut caller = Grown { struct_size: Grown::MIN_SIZE, old: 7, new: 99 };
        let read = unsafe { versioned(&raw const caller, "x") }.unwrap();
        assert_eq!((read.old, read.new), (7, 0));
        let fill = |struct_size| Grown { struct_size, old: 1, new: 2 };
        unsafe { fill_struct(&raw mut caller, "x", fill) }.unwrap();
        assert_eq!((caller.struct_size, caller.old, caller.new), (Grown::MIN_SIZE, 1, 99));
    }

    #[test]
    fn unknown_sizes_are_refused() {
        for struct_size in [0, Grown::MIN_SIZE - 1, size_of::<Grown>() + 1, usize::MAX] {
            let caller = Grown { struct_size, old: 0, new: 0 };
            let error = unsafe { versioned(&raw const caller, "x") }.err().unwrap();
            assert_eq!(error.status(), Status::InvalidStructSize);
        }
    }

    #[test]
    fn a_panic_becomes_an_internal_error() {
        let mut error = std::ptr::null_mut();
        let status = entry(&raw mut error, || panic!("boom {}", 1));
        assert_eq!(status, Status::Internal.code());
        let message = unsafe { std::ffi::CStr::from_ptr(super::super::quire_error_message(error)) };
        assert!(message.to_str().unwrap().starts_with("panic: boom 1 at "));
        unsafe { super::super::quire_error_free(error) };
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(fresh_seed(), fresh_seed());
    }
}
