//! Reads what an array holds out of a checkpoint's files, with several threads, and looks at every number as it
//! passes.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result, Status};
use crate::model::finite::Numbers;

/// Bytes read at once: they are looked at while they are in a processor's cache. A multiple of any element's size.
const AT_ONCE: usize = 1 << 20;
/// Threads that read one array, at most.
const MAX_THREADS: usize = 8;

/// One of the checkpoint's files, open.
#[derive(Debug)]
pub(super) struct Shard {
    file: File,
    path: PathBuf,
}

impl Shard {
    pub fn open(path: &Path) -> Result<Shard> {
        let file = File::open(path);
        let file = file.map_err(|e| Error::new(Status::Io, format!("{}: {e}", path.display())))?;
        Ok(Shard { file, path: path.to_owned() })
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => self.error("the file became shorter while it was read"),
            _ => Error::new(Status::Io, format!("{}: {e}", self.path.display())),
        })
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::model(message).within(self.path.display())
    }
}

/// A run of bytes of a file, all of one tensor: part of what an array holds.
#[derive(Debug)]
pub(super) struct Piece {
    /// The file.
    pub shard: Arc<Shard>,
    /// Where the run begins in it.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// The tensor's name, for errors.
    pub tensor: String,
    /// What its elements are, if they have to be numbers.
    pub numbers: Option<Numbers>,
}

impl Piece {
    /// Reads some of it, from byte `from` on.
    fn read(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        self.shard.read(bytes, self.offset + from as u64)?;
        match self.numbers.and_then(|numbers| Some(numbers.first_bad(bytes)? + from / numbers.size())) {
            Some(i) => Err(self.shard.error(not_a_number(&self.tensor, i))),
            None => Ok(()),
        }
    }
}

/// What is wrong if an element of a tensor is no number.
pub(super) fn not_a_number(tensor: &str, i: usize) -> String {
    format!("tensor '{tensor}': number {i} is NaN or infinite")
}

/// Bytes that all pieces have together.
///
/// Errors: `OutOfMemory` if no memory is so large.
pub(super) fn size(pieces: &[Piece]) -> Result<usize> {
    let sum = pieces.iter().try_fold(0u64, |sum, piece| sum.checked_add(piece.bytes));
    sum.and_then(|sum| usize::try_from(sum).ok())
        .ok_or_else(|| Error::new(Status::OutOfMemory, "a tensor is larger than memory"))
}

/// All pieces' bytes, one after the other.
///
/// Errors: as [`read`]; `OutOfMemory`.
pub(super) fn to_vec(pieces: &[Piece]) -> Result<Vec<u8>> {
    let size = size(pieces)?;
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(size)
        .map_err(|_| Error::new(Status::OutOfMemory, format!("no memory for a tensor of {size} bytes")))?;
    bytes.resize(size, 0);
    read(pieces, &mut bytes)?;
    Ok(bytes)
}

/// Fills `bytes` with the pieces, one after the other; they must be as long together.
///
/// Errors, of several the first in the order of bytes: `ModelInvalid` naming the file if it became shorter, and the
/// tensor too for what is no number; `Io`.
pub(super) fn read(pieces: &[Piece], bytes: &mut [u8]) -> Result<()> {
    if size(pieces)? != bytes.len() {
        return Err(Error::internal(format!("pieces of {} bytes for {}", size(pieces)?, bytes.len())));
    }
    // Starting a thread pays when it has several parts to do.
    let threads = (bytes.len() / (4 * AT_ONCE)).min(MAX_THREADS);
    let mut parts = Vec::new();
    let mut rest = bytes;
    for piece in pieces {
        let (own, others) = std::mem::take(&mut rest).split_at_mut(piece.bytes as usize);
        rest = others;
        parts.extend(own.chunks_mut(AT_ONCE).enumerate().map(|(i, part)| (piece, i * AT_ONCE, part)));
    }
    in_parallel(threads, parts, |(piece, from, part)| piece.read(from, part))
}

/// Does this with every part, in any order, on this thread and so many others as make `threads`, or as the machine
/// has; once something fails, with no further parts.
///
/// Errors: that of the first part in the list that failed.
fn in_parallel<T: Send>(threads: usize, parts: Vec<T>, work: impl Fn(T) -> Result<()> + Sync) -> Result<()> {
    let parts = Mutex::new(parts.into_iter().enumerate());
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let run = || {
        while lock(&failed).is_none() {
            let Some((place, part)) = lock(&parts).next() else { return };
            if let Err(error) = crate::panic::catch(|| work(part)) {
                // Parts are taken in order: who is still at an earlier one will say so if that fails too.
                let mut failed = lock(&failed);
                if failed.as_ref().is_none_or(|(first, _)| place < *first) {
                    *failed = Some((place, error));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 1..threads.min(cores) {
            // Without another thread this one does it all.
            if std::thread::Builder::new().name("quire-read".into()).spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two files of a few parts each, and pieces of both in turn, all bfloat16.
    fn files(dir: &Path) -> (Vec<Vec<u8>>, Vec<Piece>) {
        let lengths = [5 * AT_ONCE + 12, 4 * AT_ONCE];
        let stored: Vec<Vec<u8>> =
            lengths.iter().map(|&n| (0..n).map(|i| ((i * 31 + i / 4096) % 113) as u8).collect()).collect();
        let shards: Vec<Arc<Shard>> = (0..2)
            .map(|i| {
                let path = dir.join(format!("{i}.safetensors"));
                std::fs::write(&path, &stored[i]).unwrap();
                Arc::new(Shard::open(&path).unwrap())
            })
            .collect();
        let piece = |file: usize, offset: usize, bytes: usize| Piece {
            shard: shards[file].clone(),
            offset: offset as u64,
            bytes: bytes as u64,
            tensor: format!("t{file}.{offset}"),
            numbers: Some(Numbers::Bf16),
        };
        let long = 3 * AT_ONCE + 10;
        let pieces = vec![
            piece(0, 2, long),
            piece(1, 0, 6),
            piece(1, AT_ONCE, 3 * AT_ONCE),
            piece(0, long + 2, AT_ONCE),
        ];
        (stored, pieces)
    }

    fn expected(stored: &[Vec<u8>], pieces: &[Piece]) -> Vec<u8> {
        let file = |piece: &Piece| usize::from(piece.tensor.starts_with("t1"));
        let run =
            |piece: &Piece| stored[file(piece)][piece.offset as usize..][..piece.bytes as usize].to_vec();
        pieces.iter().flat_map(run).collect()
    }

    fn write_over(piece: &Piece, at: u64, bytes: &[u8]) {
        let file = std::fs::OpenOptions::new().write(true).open(&piece.shard.path).unwrap();
        file.write_all_at(bytes, piece.offset + at).unwrap();
    }

    #[test]
    fn pieces_come_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let (stored, pieces) = files(dir.path());
        let read = to_vec(&pieces).unwrap();
        assert!(read == expected(&stored, &pieces));
        assert!(to_vec(&[]).unwrap().is_empty());
        let e = super::read(&pieces, &mut [0; 5]).unwrap_err();
        assert_eq!(e.status(), Status::Internal);
    }

    #[test]
    fn the_first_of_several_bad_numbers_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (_, pieces) = files(dir.path());
        let nan = 0x7fc0u16.to_le_bytes();
        // From the last to the first, each with the ones behind it.
        for (i, element) in [(3, 0), (2, 3 * AT_ONCE / 2 - 1), (2, AT_ONCE), (1, 1), (0, AT_ONCE / 2), (0, 7)]
        {
            let piece = &pieces[i];
            write_over(piece, 2 * element as u64, &nan);
            let e = to_vec(&pieces).unwrap_err();
            assert_eq!(e.status(), Status::ModelInvalid);
            let path = piece.shard.path.display();
            let message = format!("{path}: tensor '{}': number {element} is NaN or infinite", piece.tensor);
            assert_eq!(e.message(), message);
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (stored, pieces) = files(dir.path());
        let path = &pieces[2].shard.path;
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(stored[1].len() as u64 - 1).unwrap();
        let e = to_vec(&pieces).unwrap_err();
        assert_eq!(e.status(), Status::ModelInvalid);
        assert!(e.message().starts_with(&format!("{}: the file became shorter", path.display())), "{e}");
    }

    #[test]
    fn a_panic_is_an_error() {
        let e = in_parallel(8, (0..64).collect(), |i| if i == 40 { panic!("injected") } else { Ok(()) });
        assert!(e.unwrap_err().message().contains("injected"));
    }
}
