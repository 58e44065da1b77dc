//! Tensors of GGUF files, whose blocks are unpacked on the host.

use super::{Weights, array, read, shape};
use crate::error::{Error, Result};
use crate::mlx::{self, Array};
use crate::model::finite::Numbers;
use crate::model::from_gguf;
use crate::model::gguf::GgufType;
use crate::model::gguf::unpack::{Unpacked, unpack};
use crate::model::tensors::TensorInfo;

impl Weights<'_> {
    /// A tensor of floats.
    pub(super) fn unpacked_floats(&mut self, name: &str, info: &TensorInfo, kind: GgufType) -> Result<Array> {
        let bytes = self.blocks(name, info)?;
        let Unpacked::Plain(bytes) = unpack(kind, bytes)? else {
            return Err(Error::model(format!("tensor '{name}' is quantized, want floats")));
        };
        self.check_finite(name, info, &bytes)?;
        self.in_order(name, array(&bytes, info, name)?)
    }

    /// A GGUF matrix: weight, and scales and biases if it is quantized.
    pub(super) fn unpacked(&mut self, module: &str) -> Result<(Array, Option<Array>, Option<Array>)> {
        let name = format!("{module}.weight");
        let info = self.info(&name)?;
        let Some(&kind) = self.kinds.get(&name) else {
            return Err(Error::internal(format!("'{name}' is not in the GGUF file")));
        };
        let bytes = self.blocks(&name, &info)?;
        match unpack(kind, bytes)? {
            Unpacked::Plain(bytes) => {
                self.check_finite(&name, &info, &bytes)?;
                let weight = array(&bytes, &info, &name)?;
                Ok((self.in_order(&name, weight)?, None, None))
            }
            Unpacked::Affine { weight, scales, biases } => {
                let groups = self.info(&format!("{module}.scales"))?;
                let bad = [&scales, &biases].into_iter().find_map(|part| Numbers::first_bad_half(part));
                self.none_bad(&name, &groups, bad)?;
                let weight = mlx::from_u32(&weight, &shape(&info)?)?;
                let scales = mlx::from_f16_bits(&scales, &shape(&groups)?)?;
                let biases = mlx::from_f16_bits(&biases, &shape(&groups)?)?;
                Ok((
                    self.in_order(&name, weight)?,
                    Some(self.in_order(&name, scales)?),
                    Some(self.in_order(&name, biases)?),
                ))
            }
        }
    }

    /// Undoes the row permutation of a llama GGUF's queries and keys: each head's rows are stored as
    /// `0, d/2, 1, d/2 + 1, ...` (rotated pairs side by side) and belong as `0, 1, ..., d - 1`.
    fn in_order(&self, name: &str, array: Array) -> Result<Array> {
        if !from_gguf::is_permuted(self.checkpoint.config.architecture, name) {
            return Ok(array);
        }
        let (shape, head_dim) = (array.shape().to_vec(), self.checkpoint.config.head_dim as i32);
        let columns: i32 = shape.iter().skip(1).product();
        let pairs = array.reshape(&[-1, head_dim / 2, 2, columns])?;
        Ok(pairs.swap_axes(1, 2)?.reshape(&shape)?)
    }

    /// A GGUF tensor's bytes, not looked at.
    fn blocks(&mut self, name: &str, info: &TensorInfo) -> Result<Vec<u8>> {
        let bytes = read::to_vec(&[self.piece(name, info, None)?])?;
        self.read += info.bytes;
        Ok(bytes)
    }

    /// An error that names the file and the tensor if one of these elements is no number.
    fn check_finite(&self, name: &str, info: &TensorInfo, bytes: &[u8]) -> Result<()> {
        let numbers = self.numbers(name, &info.element);
        self.none_bad(name, info, numbers.and_then(|numbers| numbers.first_bad(bytes)))
    }

    fn none_bad(&self, name: &str, info: &TensorInfo, bad: Option<usize>) -> Result<()> {
        match bad {
            None => Ok(()),
            Some(i) => Err(self.checkpoint.manifest.index.error(info.file, read::not_a_number(name, i))),
        }
    }
}
