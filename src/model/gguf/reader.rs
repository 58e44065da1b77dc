//! Bounds-checked reads from a GGUF header.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};

use super::MAX_HEADER;
use crate::error::{Error, Result, Status};

/// Reads forward through a header, knowing how much of it can be left.
pub(super) struct Reader {
    file: BufReader<File>,
    position: u64,
    size: u64,
    scratch: Vec<u8>,
}

impl Reader {
    /// Reads `file`, of `size` bytes, from its start.
    pub(super) fn new(file: File, size: u64) -> Self {
        Reader { file: BufReader::with_capacity(1 << 20, file), position: 0, size, scratch: Vec::new() }
    }

    /// How many bytes have been read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Checks that `count` items of at least `bytes` each can still follow. `what` is the thing read.
    pub(super) fn expect(&self, count: u64, bytes: u64, what: &str) -> Result<()> {
        let end = count.checked_mul(bytes).and_then(|n| n.checked_add(self.position));
        if end.is_none_or(|end| end > self.size) {
            return Err(Error::model(format!(
                "ends at byte {} inside {what}: the file is truncated or damaged",
                self.size
            )));
        }
        if end.is_some_and(|end| end > MAX_HEADER) {
            return Err(Error::model(format!("has a header beyond {MAX_HEADER} bytes, in {what}")));
        }
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        self.expect(1, N as u64, what)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(|e| read_error(&e, what))?;
        self.position += N as u64;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String> {
        let mut text = String::new();
        self.append_string(&mut text, what)?;
        Ok(text)
    }

    /// Reads a string onto the end of `text`.
    pub(super) fn append_string(&mut self, text: &mut String, what: &str) -> Result<()> {
        let len = self.u64(what)?;
        self.expect(1, len, what)?;
        // In pieces, so that memory follows bytes that are really there.
        self.scratch.clear();
        while (self.scratch.len() as u64) < len {
            let start = self.scratch.len();
            let piece = (len - start as u64).min(1 << 20) as usize;
            self.scratch.resize(start + piece, 0);
            self.file.read_exact(&mut self.scratch[start..]).map_err(|e| read_error(&e, what))?;
        }
        self.position += len;
        let read = std::str::from_utf8(&self.scratch);
        text.push_str(read.map_err(|_| Error::model(format!("{what} is not UTF-8")))?);
        Ok(())
    }
}

fn read_error(e: &std::io::Error, what: &str) -> Error {
    match e.kind() {
        // The size said otherwise a moment ago.
        ErrorKind::UnexpectedEof => Error::model(format!("was truncated while {what} was being read")),
        _ => Error::new(Status::Io, format!("reading {what}: {e}")),
    }
}
