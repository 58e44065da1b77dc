//! Writes small GGUF files for tests.

use std::io::Write;

/// A GGUF file in the making.
#[derive(Clone)]
pub(crate) struct GgufBytes {
    pub(crate) version: u32,
    pub(crate) alignment: usize,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    pub(crate) data: Vec<u8>,
}

impl Default for GgufBytes {
    fn default() -> Self {
        GgufBytes { version: 3, alignment: 32, keys: vec![], tensors: vec![], data: vec![] }
    }
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl GgufBytes {
    /// Adds a pair from the value's type code and bytes.
    pub(crate) fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.push([&string(key), &kind.to_le_bytes()[..], value].concat());
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.key(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn bool(self, key: &str, value: bool) -> Self {
        self.key(key, 7, &[value.into()])
    }

    pub(crate) fn str(self, key: &str, value: &str) -> Self {
        self.key(key, 8, &string(value))
    }

    /// Adds an array from its element type code and elements.
    pub(crate) fn array(self, key: &str, kind: u32, elements: &[Vec<u8>]) -> Self {
        let head = [&kind.to_le_bytes()[..], &(elements.len() as u64).to_le_bytes()].concat();
        self.key(key, 9, &[head, elements.concat()].concat())
    }

    pub(crate) fn strings(self, key: &str, list: &[&str]) -> Self {
        self.array(key, 8, &list.iter().map(|s| string(s)).collect::<Vec<_>>())
    }

    pub(crate) fn i32s(self, key: &str, list: &[i32]) -> Self {
        self.array(key, 5, &list.iter().map(|n| n.to_le_bytes().to_vec()).collect::<Vec<_>>())
    }

    pub(crate) fn f32s(self, key: &str, list: &[f32]) -> Self {
        self.array(key, 6, &list.iter().map(|n| n.to_le_bytes().to_vec()).collect::<Vec<_>>())
    }

    /// Adds a tensor info; `ne` has the fastest dimension first. The data is not touched.
    pub(crate) fn info(mut self, name: &str, ne: &[u64], kind: u32, offset: u64) -> Self {
        let mut info = string(name);
        info.extend((ne.len() as u32).to_le_bytes());
        ne.iter().for_each(|n| info.extend(n.to_le_bytes()));
        info.extend(kind.to_le_bytes());
        info.extend(offset.to_le_bytes());
        self.tensors.push(info);
        self
    }

    /// Adds a tensor with its data.
    pub(crate) fn tensor(mut self, name: &str, ne: &[u64], kind: u32, data: &[u8]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(self.alignment), 0);
        let offset = self.data.len() as u64;
        self.data.extend(data);
        self.info(name, ne, kind, offset)
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }

    /// The file, in a temporary place that goes when the result is dropped.
    pub(crate) fn write(&self) -> tempfile::NamedTempFile {
        write(&self.build())
    }
}

pub(crate) fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".gguf").tempfile().expect("a temporary file");
    file.write_all(bytes).expect("written");
    file
}
