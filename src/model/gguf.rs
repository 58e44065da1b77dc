//! GGUF files: the header, read and checked before anything else looks at the file.
//!
//! Promises:
//! - [`Gguf::open`] reads the header only (metadata and tensor infos), in time linear in its size, and
//!   allocates nothing on the word of a count: memory follows bytes that were really read, and a
//!   header beyond [`MAX_HEADER`] is refused.
//! - What it returns is sound: known version, UTF-8 names, no duplicate key or tensor, every tensor's
//!   extent aligned, inside the file and apart from the others.
//! - A damaged file gives [`Status::ModelInvalid`] with the file, the key or tensor, and what is wrong.
//!
//! The data is read from a tensor's offset and goes through [`unpack`](unpack::unpack). MLX's own reader
//! is not used: it opens the file for writing, takes the alignment for granted, steps 4 bytes over
//! 8-byte floats and follows a null pointer at a type that it does not know.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Versions 2 and 3 are alike
//! for little-endian files; version 1 (32-bit counts) went out of use in August 2023.

mod kind;
mod metadata;
mod reader;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod unpack;

use std::fs::File;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;

pub use self::kind::GgufType;
pub use self::metadata::{Metadata, StringList};
use self::reader::Reader;
use crate::error::{Error, Result, Status};

/// The largest header taken: a 262,144-token vocabulary with merges needs some 20 MB.
pub const MAX_HEADER: u64 = 256 << 20;

/// The most dimensions a tensor may have, as in ggml.
const MAX_DIMS: u32 = 4;

/// Where tensor data is aligned unless `general.alignment` says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;

/// The checked header of a GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    metadata: Metadata,
    tensors: Vec<GgufTensor>,
}

/// One tensor's place in a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Its name, as in `blk.0.attn_q.weight`.
    pub name: String,
    /// Row-major shape, slowest dimension first (the reverse of ggml's `ne`). 1 to 4 dimensions, none 0.
    pub shape: Vec<usize>,
    /// How its elements are stored.
    pub kind: GgufType,
    /// Where its data begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes its data takes.
    pub bytes: u64,
}

impl Gguf {
    /// Reads and checks the header of the file at `path`.
    ///
    /// # Errors
    /// [`Status::ModelNotFound`] if there is no such file, [`Status::Io`] if it cannot be read,
    /// [`Status::ModelInvalid`] if it is damaged, [`Status::ModelUnsupported`] for a version, byte order
    /// or tensor type that is not known.
    pub fn open(path: &Path) -> Result<Gguf> {
        Self::parse(path).map_err(|e| e.within(path.display()))
    }

    fn parse(path: &Path) -> Result<Gguf> {
        // Asked before opening: opening a FIFO would wait for a writer.
        let stat = std::fs::metadata(path).map_err(io_error)?;
        if !stat.is_file() {
            return Err(Error::model("not a regular file"));
        }
        let file = File::open(path).map_err(io_error)?;
        let size = file.metadata().map_err(io_error)?.len();
        let mut reader = Reader::new(file, size);

        if reader.bytes::<4>("the magic number")? != *b"GGUF" {
            return Err(Error::model("not a GGUF file (it does not begin with 'GGUF')"));
        }
        check_version(reader.u32("the version")?)?;
        let tensor_count = reader.u64("the tensor count")?;
        let key_count = reader.u64("the metadata count")?;
        let metadata = Metadata::read(&mut reader, key_count, path)?;
        let alignment = alignment(&metadata)?;

        let mut tensors = Vec::new();
        let mut names = FxHashSet::default();
        for index in 0..tensor_count {
            let tensor = read_tensor_info(&mut reader, alignment)
                .map_err(|e| e.within(format_args!("tensor {index} of {tensor_count}")))?;
            if !names.insert(tensor.name.clone()) {
                return Err(Error::model(format!("tensor '{}' appears twice", tensor.name)));
            }
            tensors.push(tensor);
        }
        let data_start = reader.position().next_multiple_of(alignment);
        place(&mut tensors, data_start, size)?;
        Ok(Gguf { path: path.to_owned(), metadata, tensors })
    }

    /// The file this header was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key-value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Every tensor, in the order of the header.
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.tensors
    }

    /// Checks that every tensor is of a type that [`unpack`](unpack::unpack) takes and of dimensions that
    /// MLX can count (below 2^31).
    ///
    /// # Errors
    /// [`Status::ModelUnsupported`], naming the tensor.
    pub fn check_supported(&self) -> Result<()> {
        for GgufTensor { name, shape, kind, .. } in &self.tensors {
            let problem = if let GgufType::Unsupported(kind) = kind {
                format!("tensor '{name}' has type {kind}, which is not supported")
            } else if shape.iter().any(|&n| i32::try_from(n).is_err()) {
                format!("tensor '{name}' has shape {shape:?}, beyond 2^31 - 1")
            } else {
                continue;
            };
            return Err(Error::unsupported(format!("{}: {problem}", self.path.display())));
        }
        Ok(())
    }
}

fn check_version(version: u32) -> Result<()> {
    match version {
        2 | 3 => Ok(()),
        1 => Err(Error::unsupported("GGUF version 1 is not supported; convert the model anew")),
        v if matches!(v.swap_bytes(), 1..=3) => {
            Err(Error::unsupported("a big-endian GGUF file is not supported"))
        }
        v => Err(Error::unsupported(format!("GGUF version {v} is not supported"))),
    }
}

/// The alignment of tensor data: a power of two, so that later sums stay small.
fn alignment(metadata: &Metadata) -> Result<u64> {
    let Some(alignment) = metadata.find_u64("general.alignment")? else { return Ok(DEFAULT_ALIGNMENT) };
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        return Err(Error::model(format!("general.alignment is {alignment}, not a small power of two")));
    }
    Ok(alignment)
}

/// Reads one tensor info. Its offset is still relative to the data section.
fn read_tensor_info(reader: &mut Reader, alignment: u64) -> Result<GgufTensor> {
    let name = reader.string("its name")?;
    let read = |reader: &mut Reader| -> Result<(Vec<usize>, GgufType, u64, u64)> {
        let dims = reader.u32("its number of dimensions")?;
        if !(1..=MAX_DIMS).contains(&dims) {
            return Err(Error::model(format!("has {dims} dimensions, not 1 to {MAX_DIMS}")));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            let n = reader.u64("its shape")?;
            let n = usize::try_from(n).ok().filter(|&n| n > 0);
            shape.push(n.ok_or_else(|| Error::model("has a dimension of 0 or too large"))?);
        }
        shape.reverse();
        let kind = GgufType::from_code(reader.u32("its type")?)?;
        let bytes = kind.bytes(&shape)?;
        let offset = reader.u64("its offset")?;
        if !offset.is_multiple_of(alignment) {
            return Err(Error::model(format!("offset {offset} is no multiple of {alignment}")));
        }
        Ok((shape, kind, offset, bytes))
    };
    let (shape, kind, offset, bytes) = read(reader).map_err(|e| e.within(format_args!("tensor '{name}'")))?;
    Ok(GgufTensor { name, shape, kind, offset, bytes })
}

/// Makes offsets absolute and checks that the extents lie in the file and apart from each other.
fn place(tensors: &mut [GgufTensor], data_start: u64, size: u64) -> Result<()> {
    for tensor in tensors.iter_mut() {
        let end = data_start.checked_add(tensor.offset).and_then(|o| o.checked_add(tensor.bytes));
        match end {
            Some(end) if end <= size => tensor.offset += data_start,
            _ => {
                return Err(Error::model(format!(
                    "tensor '{}' ({} bytes at {} of the data) ends after the file's {size} bytes: \
                     the file is truncated or damaged",
                    tensor.name, tensor.bytes, tensor.offset
                )));
            }
        }
    }
    let mut by_offset: Vec<&GgufTensor> = tensors.iter().collect();
    by_offset.sort_by_key(|t| t.offset);
    for pair in by_offset.windows(2) {
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            return Err(Error::model(format!("tensors '{}' and '{}' overlap", pair[0].name, pair[1].name)));
        }
    }
    Ok(())
}

fn io_error(e: std::io::Error) -> Error {
    let status = match e.kind() {
        std::io::ErrorKind::NotFound => Status::ModelNotFound,
        _ => Status::Io,
    };
    Error::new(status, e.to_string())
}
