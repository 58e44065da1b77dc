//! Cached prefixes on disk.
//!
//! - A file is complete or not there: it is written beside its place, synced, and renamed.
//! - Nothing of a file is used before its checksum has been compared, nor if it was written for another
//!   model, another format of pages, or by another version of this format.
//! - It holds no salts, only their hashes.
//!
//! Layout, numbers little-endian: magic, version `u32`, key `[32]`, block size `u32`, bytes of a block's pages
//! `u64`, bytes of a recurrent state `u64`, number of blocks `u64`; then for each block its parent (0 and a root
//! `[32]`, or 1 and a position `u64`), whether it has a state (0 or 1) and its tokens `u32` each; then each block's
//! pages, and its state if it has one; then BLAKE3 of all before `[32]`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::hash::ChainHash;
use super::saved::{SavedBlock, SavedParent};
use crate::error::{Error, Result, Status};

const MAGIC: [u8; 8] = *b"QUIRE-KV";
const VERSION: u32 = 2;

/// What must agree between the engine that saves and the one that loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheKey {
    /// A hash of the model and of how its pages are laid out.
    pub model: [u8; 32],
    /// Tokens in a block.
    pub block_size: u32,
    /// Bytes of a block's pages, all layers together.
    pub block_bytes: u64,
    /// Bytes of a recurrent state; zero for a model without such.
    pub state_bytes: u64,
}

impl CacheKey {
    /// Bytes of a block with all that belongs to it.
    fn bytes_of(&self, block: &SavedBlock) -> u64 {
        self.block_bytes + if block.has_state { self.state_bytes } else { 0 }
    }
}

/// Writes blocks and their pages to `path`; `pages(i)` gives those of block `i`, its state behind them if it has one,
/// in order.
///
/// Errors, with `path` as it was before: `Io`; whatever `pages` fails with; `Internal` if it gives another
/// number of bytes than the key says.
pub fn save(
    path: &Path,
    key: &CacheKey,
    blocks: &[SavedBlock],
    pages: &mut dyn FnMut(usize) -> Result<Vec<u8>>,
) -> Result<()> {
    let io = |e: io::Error| Error::new(Status::Io, format!("{}: {e}", path.display()));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let written = File::create(&partial).map_err(io).and_then(|file| {
        let mut out = Checked { inner: BufWriter::new(file), hash: blake3::Hasher::new() };
        write_header(&mut out, key, blocks).map_err(io)?;
        for (i, block) in blocks.iter().enumerate() {
            let bytes = pages(i)?;
            let want = key.bytes_of(block);
            if bytes.len() as u64 != want {
                return Err(Error::internal(format!("a block of {} bytes, not {want}", bytes.len())));
            }
            out.write_all(&bytes).map_err(io)?;
        }
        let sum = out.hash.finalize();
        out.inner.write_all(sum.as_bytes()).map_err(io)?;
        let file = out.inner.into_inner().map_err(|e| io(e.into_error()))?;
        file.sync_all().map_err(io)
    });
    let done = written.and_then(|()| std::fs::rename(&partial, path).map_err(io));
    if done.is_err() {
        // What is left of a failed attempt helps nobody; that it could not be removed, neither.
        let _ = std::fs::remove_file(&partial);
    }
    done
}

fn write_header(out: &mut impl Write, key: &CacheKey, blocks: &[SavedBlock]) -> io::Result<()> {
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&key.model)?;
    out.write_all(&key.block_size.to_le_bytes())?;
    out.write_all(&key.block_bytes.to_le_bytes())?;
    out.write_all(&key.state_bytes.to_le_bytes())?;
    out.write_all(&(blocks.len() as u64).to_le_bytes())?;
    for block in blocks {
        match block.parent {
            SavedParent::Root(root) => {
                out.write_all(&[0])?;
                out.write_all(root.as_bytes())?;
            }
            SavedParent::Block(at) => {
                out.write_all(&[1])?;
                out.write_all(&(at as u64).to_le_bytes())?;
            }
        }
        out.write_all(&[u8::from(block.has_state)])?;
        for token in &block.tokens {
            out.write_all(&token.to_le_bytes())?;
        }
    }
    Ok(())
}

/// A checked file, its blocks read, its pages still to be.
#[derive(Debug)]
pub struct Loaded {
    /// The blocks, parents before children.
    pub blocks: Vec<SavedBlock>,
    pages: BufReader<File>,
    key: CacheKey,
    next: usize,
    path: std::path::PathBuf,
}

impl Loaded {
    /// The pages of the next block, in the order of `blocks`, its state behind them if it has one. Must be called
    /// once for each.
    pub fn next_pages(&mut self) -> Result<Vec<u8>> {
        let block = self.blocks.get(self.next);
        let block = block.ok_or_else(|| Error::internal("the file has no further block"))?;
        self.next += 1;
        let size = self.key.bytes_of(block) as usize;
        let mut bytes = vec![0; size];
        let read = self.pages.read_exact(&mut bytes);
        read.map_err(|e| Error::new(Status::Io, format!("{}: {e}", self.path.display())))?;
        Ok(bytes)
    }
}

/// Opens and checks a file written by [`save`].
///
/// Errors: `Io`; `CacheInvalid` if it is damaged, of another version, or for another model or page format,
/// saying which.
pub fn load(path: &Path, key: &CacheKey) -> Result<Loaded> {
    let io = |e: io::Error| Error::new(Status::Io, format!("{}: {e}", path.display()));
    let invalid = |what: &str| Error::new(Status::CacheInvalid, format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut reader = Reader { file: BufReader::new(file), left: len };
    let damaged = |_| invalid("the file is damaged: it ends too early");

    if reader.array::<8>().map_err(damaged)? != MAGIC {
        return Err(invalid("this is not a saved cache"));
    }
    let version = u32::from_le_bytes(reader.array().map_err(damaged)?);
    if version != VERSION {
        return Err(invalid(&format!("version {version} of the format; this library reads {VERSION}")));
    }
    let found = CacheKey {
        model: reader.array().map_err(damaged)?,
        block_size: u32::from_le_bytes(reader.array().map_err(damaged)?),
        block_bytes: u64::from_le_bytes(reader.array().map_err(damaged)?),
        state_bytes: u64::from_le_bytes(reader.array().map_err(damaged)?),
    };
    if found != *key {
        return Err(invalid("saved for another model, or with other weight or page formats"));
    }
    // Now the sum over everything, before a single number of the rest is believed.
    let mut whole = Reader { file: BufReader::new(File::open(path).map_err(io)?), left: len };
    if !whole.sum_agrees().map_err(damaged)? {
        return Err(invalid("the file is damaged: its checksum does not match"));
    }
    let count = u64::from_le_bytes(reader.array().map_err(damaged)?);
    let mut blocks = Vec::new();
    for _ in 0..count {
        blocks.push(reader.block(key.block_size).map_err(damaged)?);
    }
    if usize::try_from(key.block_bytes.saturating_add(key.state_bytes)).is_err() {
        return Err(invalid("its pages do not fit into memory"));
    }
    Ok(Loaded { blocks, pages: reader.file, key: *key, next: 0, path: path.to_owned() })
}

/// Writes through, hashing.
struct Checked<W> {
    inner: W,
    hash: blake3::Hasher,
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Reader {
    file: BufReader<File>,
    left: u64,
}

impl Reader {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.left = self.left.saturating_sub(N as u64);
        Ok(bytes)
    }

    fn block(&mut self, block_size: u32) -> io::Result<SavedBlock> {
        let parent = match self.array::<1>()?[0] {
            0 => SavedParent::Root(ChainHash::from_bytes(self.array()?)),
            _ => SavedParent::Block(u64::from_le_bytes(self.array()?) as usize),
        };
        let has_state = self.array::<1>()? != [0];
        let tokens =
            (0..block_size).map(|_| self.array().map(u32::from_le_bytes)).collect::<io::Result<_>>()?;
        Ok(SavedBlock { parent, tokens, has_state })
    }

    /// Whether the last 32 bytes are the hash of all before.
    fn sum_agrees(&mut self) -> io::Result<bool> {
        let mut body = self.left.checked_sub(32).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut hash = blake3::Hasher::new();
        let mut piece = vec![0; 1 << 16];
        while body > 0 {
            let n = piece.len().min(usize::try_from(body).unwrap_or(usize::MAX));
            self.file.read_exact(&mut piece[..n])?;
            hash.update(&piece[..n]);
            body -= n as u64;
        }
        let mut sum = [0; 32];
        self.file.read_exact(&mut sum)?;
        Ok(hash.finalize() == blake3::Hash::from_bytes(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: CacheKey = CacheKey { model: [7; 32], block_size: 4, block_bytes: 3, state_bytes: 2 };

    fn blocks() -> Vec<SavedBlock> {
        let block = |parent, first, has_state| {
            let tokens = (first..first + 4).collect();
            SavedBlock { parent, tokens, has_state }
        };
        let root = SavedParent::Root(ChainHash::root(&[b"salt"]));
        vec![block(root, 0, false), block(SavedParent::Block(0), 4, true), block(root, 100, false)]
    }

    /// Bytes of each block; the second has a state.
    const SIZES: [usize; 3] = [3, 5, 3];

    fn saved() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        save(&path, &KEY, &blocks(), &mut |i| Ok(vec![i as u8; SIZES[i]])).unwrap();
        (dir, path)
    }

    #[test]
    fn what_was_saved_comes_back() {
        let (dir, path) = saved();
        let mut loaded = load(&path, &KEY).unwrap();
        assert_eq!(loaded.blocks, blocks());
        for (i, size) in SIZES.into_iter().enumerate() {
            assert_eq!(loaded.next_pages().unwrap(), vec![i as u8; size]);
        }
        assert!(loaded.next_pages().is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn every_damaged_byte_and_every_missing_end_is_noticed() {
        let (_dir, path) = saved();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(load(&path, &KEY).unwrap_err().status(), Status::CacheInvalid, "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert_eq!(load(&path, &KEY).unwrap_err().status(), Status::CacheInvalid, "{at} bytes");
        }
    }

    #[test]
    fn another_model_or_format_is_refused_by_name() {
        let (_dir, path) = saved();
        for key in [
            CacheKey { model: [8; 32], ..KEY },
            CacheKey { block_size: 8, ..KEY },
            CacheKey { block_bytes: 4, ..KEY },
            CacheKey { state_bytes: 0, ..KEY },
        ] {
            let error = load(&path, &key).unwrap_err();
            assert!(error.message().contains("another model"), "{error}");
        }
        assert_eq!(load(&path.with_file_name("none"), &KEY).unwrap_err().status(), Status::Io);
    }

    #[test]
    fn a_failed_save_leaves_the_old_file() {
        let (dir, path) = saved();
        let fail = &mut |i| if i == 1 { Err(Error::internal("no")) } else { Ok(vec![9; 3]) };
        assert_eq!(save(&path, &KEY, &blocks(), fail).unwrap_err().message(), "no");
        assert_eq!(load(&path, &KEY).unwrap().next_pages().unwrap(), [0; 3]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
