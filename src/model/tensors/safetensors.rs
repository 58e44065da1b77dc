//! Headers of `safetensors` files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata};

use super::{ElementType, TensorInfo};
use crate::error::{Error, Result, Status};

/// The largest header read: a hundred thousand tensors take a tenth of it.
const MAX_HEADER: u64 = 100 << 20;

/// Every tensor, sorted by name, as one of file number `file`. The file's length must be exactly what the
/// header says, so that reading the tensors later cannot run off its end.
pub(super) fn read_header(path: &Path, file: usize) -> Result<Vec<(String, TensorInfo)>> {
    read(path, file).map_err(|e| e.within(path.display()))
}

fn read(path: &Path, number: usize) -> Result<Vec<(String, TensorInfo)>> {
    // Asked before opening: opening a FIFO would wait for a writer.
    let stat = std::fs::metadata(path).map_err(io_error)?;
    if !stat.is_file() {
        return Err(Error::model("not a regular file"));
    }
    let mut file = File::open(path).map_err(io_error)?;
    let size = stat.len();
    let mut length = [0; 8];
    if size < 8 {
        return Err(Error::model(format!("truncated: {size} bytes are too few for a safetensors file")));
    }
    file.read_exact(&mut length).map_err(io_error)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > size - 8 {
        return Err(Error::model(format!(
            "truncated or not a safetensors file: the header should take {length} of {size} bytes"
        )));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(io_error)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|e| Error::model(format!("malformed safetensors header: {e}")))?;
    let end = (header.data_len() as u64).saturating_add(8 + length);
    if end != size {
        return Err(Error::model(format!(
            "truncated or damaged: the tensors should end at byte {end}, the file has {size}"
        )));
    }
    let mut tensors: Vec<_> = header
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let (start, end) = info.data_offsets;
            let info = TensorInfo {
                element: element_type(info.dtype),
                shape: info.shape.clone(),
                file: number,
                offset: 8 + length + start as u64,
                bytes: (end - start) as u64,
            };
            (name, info)
        })
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

fn element_type(dtype: Dtype) -> ElementType {
    match dtype {
        Dtype::F32 => ElementType::F32,
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::Bf16,
        Dtype::U32 => ElementType::U32,
        Dtype::U8 => ElementType::U8,
        other => ElementType::Other(format!("{other:?}")),
    }
}

fn io_error(e: std::io::Error) -> Error {
    let status = match e.kind() {
        std::io::ErrorKind::NotFound => Status::ModelNotFound,
        _ => Status::Io,
    };
    Error::new(status, e.to_string())
}
