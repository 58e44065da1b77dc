//! Which model this is, as 32 bytes: the key under which its cached prefixes may be found again.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::Checkpoint;
use crate::error::{Error, Result, Status};

/// Bytes hashed at the beginning and at the end of each tensor: a fine-tuned model has the names, shapes and
/// sizes of its parent, but not its numbers, in any tensor that was trained.
const SAMPLE: u64 = 4096;

impl Checkpoint {
    /// A hash of the configuration and of every tensor's name, type, shape and samples of its bytes.
    ///
    /// Errors: `Io` naming the file.
    pub fn fingerprint(&self) -> Result<[u8; 32]> {
        let mut hash = blake3::Hasher::new();
        // Debug formatting names every field, so that no two configurations run together.
        hash.update(format!("{:?}", self.config).as_bytes());
        let index = &self.manifest.index;
        let mut files = Vec::new();
        for path in index.files() {
            let io = |e| Error::new(Status::Io, format!("{}: {e}", path.display()));
            files.push((File::open(path).map_err(io)?, path));
        }
        for (name, tensor) in index.iter() {
            hash.update(format!("{name} {tensor:?}").as_bytes());
            let Some((file, path)) = files.get_mut(tensor.file) else {
                return Err(Error::internal(format!(
                    "tensor '{name}' is in file {} of {}",
                    tensor.file,
                    files.len()
                )));
            };
            let io = |e| Error::new(Status::Io, format!("{}: {e}", path.display()));
            let sample = SAMPLE.min(tensor.bytes);
            for from in [tensor.offset, tensor.offset + tensor.bytes - sample] {
                file.seek(SeekFrom::Start(from)).map_err(io)?;
                let mut bytes = Vec::new();
                file.by_ref().take(sample).read_to_end(&mut bytes).map_err(io)?;
                hash.update(&bytes);
            }
        }
        Ok(*hash.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::model::{Checkpoint, locate};

    fn fingerprint(dir: &Path) -> [u8; 32] {
        Checkpoint::open(&locate(dir.to_str().unwrap()).unwrap()).unwrap().fingerprint().unwrap()
    }

    #[test]
    fn one_changed_weight_makes_another_model() {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mock-model");
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(source.join(name), dir.path().join(name)).unwrap();
        }
        let before = fingerprint(dir.path());
        assert_eq!(before, fingerprint(&source), "where it lies does not matter");
        let weights = dir.path().join("model.safetensors");
        let mut bytes = std::fs::read(&weights).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&weights, bytes).unwrap();
        assert_ne!(before, fingerprint(dir.path()));
    }
}
