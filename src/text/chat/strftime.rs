//! The date and time, as chat templates ask for it.

use minijinja::{Error, ErrorKind};

/// The longest result taken, in bytes.
const MAX_LEN: usize = 512;

/// `now` (seconds since 1970), in the system's time zone, written as a `strftime` format says.
pub(super) fn local(now: u64, format: &str) -> Result<String, Error> {
    let refuse = |what: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {what}"));
    if format.is_empty() {
        return Ok(String::new());
    }
    let format = std::ffi::CString::new(format).map_err(|_| refuse("the format contains a NUL"))?;
    let seconds = libc::time_t::try_from(now).map_err(|_| refuse("the clock is wrong"))?;
    let mut buffer = [0_u8; MAX_LEN];
    // SAFETY: all pointers are to live locals; `strftime` writes at most `MAX_LEN` bytes.
    let len = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&raw const seconds, &raw mut parts).is_null() {
            return Err(refuse("the clock is wrong"));
        }
        libc::strftime(buffer.as_mut_ptr().cast(), MAX_LEN, format.as_ptr(), &raw const parts)
    };
    if len == 0 {
        return Err(refuse("the result is empty or too long"));
    }
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}
