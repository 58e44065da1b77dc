//! How a GGUF tensor's elements are stored.

use std::fmt;

use crate::error::{Error, Result};

/// A tensor's element type. Quantized types store blocks of elements along the last dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GgufType {
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// bfloat16.
    Bf16,
    /// Blocks of 32: an f16 scale, 4-bit values from -8 to 7.
    Q4_0,
    /// Blocks of 32: an f16 scale and minimum, 4-bit values from 0 to 15.
    Q4_1,
    /// Blocks of 32: an f16 scale, signed 8-bit values.
    Q8_0,
    /// A type of ggml's that is known but not computed with; its name.
    Unsupported(&'static str),
}

/// ggml's types: code, name, elements and bytes of a block.
const TYPES: [(u32, GgufType, u64, u64); 32] = [
    (0, GgufType::F32, 1, 4),
    (1, GgufType::F16, 1, 2),
    (2, GgufType::Q4_0, 32, 18),
    (3, GgufType::Q4_1, 32, 20),
    (6, GgufType::Unsupported("Q5_0"), 32, 22),
    (7, GgufType::Unsupported("Q5_1"), 32, 24),
    (8, GgufType::Q8_0, 32, 34),
    (9, GgufType::Unsupported("Q8_1"), 32, 36),
    (10, GgufType::Unsupported("Q2_K"), 256, 84),
    (11, GgufType::Unsupported("Q3_K"), 256, 110),
    (12, GgufType::Unsupported("Q4_K"), 256, 144),
    (13, GgufType::Unsupported("Q5_K"), 256, 176),
    (14, GgufType::Unsupported("Q6_K"), 256, 210),
    (15, GgufType::Unsupported("Q8_K"), 256, 292),
    (16, GgufType::Unsupported("IQ2_XXS"), 256, 66),
    (17, GgufType::Unsupported("IQ2_XS"), 256, 74),
    (18, GgufType::Unsupported("IQ3_XXS"), 256, 98),
    (19, GgufType::Unsupported("IQ1_S"), 256, 50),
    (20, GgufType::Unsupported("IQ4_NL"), 32, 18),
    (21, GgufType::Unsupported("IQ3_S"), 256, 110),
    (22, GgufType::Unsupported("IQ2_S"), 256, 82),
    (23, GgufType::Unsupported("IQ4_XS"), 256, 136),
    (24, GgufType::Unsupported("I8"), 1, 1),
    (25, GgufType::Unsupported("I16"), 1, 2),
    (26, GgufType::Unsupported("I32"), 1, 4),
    (27, GgufType::Unsupported("I64"), 1, 8),
    (28, GgufType::Unsupported("F64"), 1, 8),
    (29, GgufType::Unsupported("IQ1_M"), 256, 56),
    (30, GgufType::Bf16, 1, 2),
    (34, GgufType::Unsupported("TQ1_0"), 256, 54),
    (35, GgufType::Unsupported("TQ2_0"), 256, 66),
    (39, GgufType::Unsupported("MXFP4"), 32, 17),
];

impl GgufType {
    /// The type with ggml's number `code`.
    pub(super) fn from_code(code: u32) -> Result<GgufType> {
        TYPES
            .iter()
            .find(|t| t.0 == code)
            .map(|t| t.1)
            .ok_or_else(|| Error::unsupported(format!("has type {code}, which is not known")))
    }

    /// Elements and bytes of a block.
    pub fn block(self) -> (u64, u64) {
        // Every value of the type stands in the table.
        TYPES.iter().find(|t| t.1 == self).map_or((1, 0), |t| (t.2, t.3))
    }

    /// The bytes a tensor of row-major `shape` takes.
    ///
    /// # Errors
    /// [`Status::ModelInvalid`](crate::error::Status::ModelInvalid) if the last dimension is no whole
    /// number of blocks or the size overflows.
    pub(super) fn bytes(self, shape: &[usize]) -> Result<u64> {
        let (elements, bytes) = self.block();
        let last = shape.last().copied().unwrap_or(1) as u64;
        if !last.is_multiple_of(elements) {
            return Err(Error::model(format!(
                "has rows of {last} elements, no multiple of {self}'s block of {elements}"
            )));
        }
        shape
            .iter()
            .try_fold(1u64, |n, &dim| n.checked_mul(dim as u64))
            .and_then(|n| (n / elements).checked_mul(bytes))
            .ok_or_else(|| Error::model(format!("has shape {shape:?}, whose size overflows")))
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GgufType::F32 => "F32",
            GgufType::F16 => "F16",
            GgufType::Bf16 => "BF16",
            GgufType::Q4_0 => "Q4_0",
            GgufType::Q4_1 => "Q4_1",
            GgufType::Q8_0 => "Q8_0",
            GgufType::Unsupported(name) => name,
        })
    }
}
