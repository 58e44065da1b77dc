//! Turns ggml's quantized blocks into MLX's affine form: packed words, scales and biases apart.
//!
//! Both compute `scale * q + bias` over groups of 32 elements of a row; only the layout differs. MLX
//! reads element `i` of a row from bits `bits * i` onwards of its little-endian words; ggml's 4-bit
//! block has element `j` in the low and element `j + 16` in the high half of byte `j`. The result is
//! exact: the biases are the scales times a power of two, which f16 represents.

use super::GgufType;
use crate::error::{Error, Result};

/// Elements that share a scale, in ggml's blocks and in the unpacked form.
pub const GROUP: usize = 32;

/// A tensor's data, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unpacked {
    /// F32, F16 or BF16, little-endian, as stored.
    Plain(Vec<u8>),
    /// Groups of [`GROUP`] elements, in the order of the rows.
    Affine {
        /// 4 or 8 bits an element, as unsigned integers: `elements * bits / 32` words.
        weight: Vec<u32>,
        /// One f16 (its bits) a group.
        scales: Vec<u16>,
        /// One f16 (its bits) a group.
        biases: Vec<u16>,
    },
}

/// Unpacks a tensor's data, all of it.
///
/// # Errors
/// [`Status::ModelUnsupported`](crate::error::Status::ModelUnsupported) for a type that has no such form,
/// [`Status::ModelInvalid`](crate::error::Status::ModelInvalid) if `bytes` is no whole number of blocks.
pub fn unpack(kind: GgufType, bytes: Vec<u8>) -> Result<Unpacked> {
    let block = kind.block().1 as usize;
    if block == 0 || !bytes.len().is_multiple_of(block) {
        return Err(Error::model(format!("{} bytes are no whole number of {kind} blocks", bytes.len())));
    }
    match kind {
        GgufType::F32 | GgufType::F16 | GgufType::Bf16 => Ok(Unpacked::Plain(bytes)),
        GgufType::Q4_0 => Ok(blocks(&bytes, block, 4, |block, words| {
            push_nibbles(&block[2..], words);
            let scale = half(block, 0);
            (scale, negative_times_power(scale, 3))
        })),
        GgufType::Q4_1 => Ok(blocks(&bytes, block, 4, |block, words| {
            push_nibbles(&block[4..], words);
            (half(block, 0), half(block, 2))
        })),
        GgufType::Q8_0 => Ok(blocks(&bytes, block, 8, |block, words| {
            // Signed to unsigned: 128 more, which the bias takes back.
            words.extend(
                block[2..]
                    .chunks_exact(4)
                    .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) ^ 0x8080_8080),
            );
            let scale = half(block, 0);
            (scale, negative_times_power(scale, 7))
        })),
        GgufType::Unsupported(name) => {
            Err(Error::unsupported(format!("tensors of type {name} are not supported")))
        }
    }
}

/// Runs `one` over the blocks: it appends a block's words and returns its scale and bias.
fn blocks(
    bytes: &[u8],
    block: usize,
    bits: usize,
    one: impl Fn(&[u8], &mut Vec<u32>) -> (u16, u16),
) -> Unpacked {
    let count = bytes.len() / block;
    let mut weight = Vec::with_capacity(count * GROUP * bits / 32);
    let mut scales = Vec::with_capacity(count);
    let mut biases = Vec::with_capacity(count);
    for block in bytes.chunks_exact(block) {
        let (scale, bias) = one(block, &mut weight);
        scales.push(scale);
        biases.push(bias);
    }
    Unpacked::Affine { weight, scales, biases }
}

fn half(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// Appends a block's 16 bytes as four words: the low halves of all bytes, then the high ones.
fn push_nibbles(bytes: &[u8], words: &mut Vec<u32>) {
    for shift in [0, 4] {
        for b in bytes.chunks_exact(8) {
            let eight = u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
            words.push(gather_low_halves(eight >> shift));
        }
    }
}

/// The low four bits of each of eight bytes, side by side, the lowest byte's lowest.
fn gather_low_halves(eight: u64) -> u32 {
    let x = eight & 0x0f0f_0f0f_0f0f_0f0f;
    let x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// `-x * 2^power` of an f16 given by its bits; infinite beyond its range.
fn negative_times_power(x: u16, power: u32) -> u16 {
    const INFINITY: u16 = 0x7c00;
    let sign = !x & 0x8000;
    let mut magnitude = x & 0x7fff;
    for _ in 0..power {
        magnitude = match magnitude >> 10 {
            // Subnormal: a carry into the exponent makes it normal, with the right value.
            0 => magnitude << 1,
            31 => magnitude,
            30 => INFINITY,
            _ => magnitude + 0x400,
        };
    }
    sign | magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An f16's value.
    fn value(bits: u16) -> f64 {
        let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
        sign * match exponent {
            0 => fraction * 2f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            e => (1.0 + fraction / 1024.0) * 2f64.powi(e - 15),
        }
    }

    /// What MLX computes from an unpacked tensor.
    fn affine(unpacked: &Unpacked) -> Vec<f64> {
        let Unpacked::Affine { weight, scales, biases } = unpacked else { panic!("not affine") };
        let bits = weight.len() * 32 / (scales.len() * GROUP);
        assert_eq!(scales.len(), biases.len());
        (0..scales.len() * GROUP)
            .map(|i| {
                let q = weight[i * bits / 32] >> (i * bits % 32) & ((1 << bits) - 1);
                value(scales[i / GROUP]) * f64::from(q) + value(biases[i / GROUP])
            })
            .collect()
    }

    /// Blocks of `bytes`, with varied contents and finite scales.
    fn sample(bytes: usize, blocks: usize) -> Vec<u8> {
        let mut data: Vec<u8> = (0..bytes * blocks).map(|i| (i * 37 + i / 7 * 11) as u8).collect();
        for block in data.chunks_exact_mut(bytes) {
            block[1] &= 0xbb;
            block[3] = if bytes == 20 { block[3] & 0xbb } else { block[3] };
        }
        data
    }

    #[test]
    fn four_bits_without_minimum() {
        let data = sample(18, 5);
        let expected = data.chunks_exact(18).flat_map(|b| {
            let scale = value(u16::from_le_bytes([b[0], b[1]]));
            let low = b[2..].iter().map(|b| b & 15);
            let high = b[2..].iter().map(|b| b >> 4);
            low.chain(high).map(move |q| scale * (f64::from(q) - 8.0))
        });
        let expected: Vec<f64> = expected.collect();
        assert_eq!(affine(&unpack(GgufType::Q4_0, data).unwrap()), expected);
    }

    #[test]
    fn four_bits_with_minimum() {
        let data = sample(20, 5);
        let expected = data.chunks_exact(20).flat_map(|b| {
            let scale = value(u16::from_le_bytes([b[0], b[1]]));
            let minimum = value(u16::from_le_bytes([b[2], b[3]]));
            let low = b[4..].iter().map(|b| b & 15);
            let high = b[4..].iter().map(|b| b >> 4);
            low.chain(high).map(move |q| scale * f64::from(q) + minimum)
        });
        let expected: Vec<f64> = expected.collect();
        assert_eq!(affine(&unpack(GgufType::Q4_1, data).unwrap()), expected);
    }

    #[test]
    fn eight_bits() {
        let data = sample(34, 8);
        let expected = data.chunks_exact(34).flat_map(|b| {
            let scale = value(u16::from_le_bytes([b[0], b[1]]));
            b[2..].iter().map(move |&q| scale * f64::from(q as i8))
        });
        let expected: Vec<f64> = expected.collect();
        assert_eq!(affine(&unpack(GgufType::Q8_0, data).unwrap()), expected);
    }

    #[test]
    fn plain_types_stay_as_they_are() {
        for kind in [GgufType::F32, GgufType::F16, GgufType::Bf16] {
            assert_eq!(unpack(kind, vec![1, 2, 3, 4]).unwrap(), Unpacked::Plain(vec![1, 2, 3, 4]));
        }
        assert!(unpack(GgufType::F32, vec![1, 2, 3]).is_err());
        assert!(unpack(GgufType::Q4_0, vec![0; 20]).is_err());
        let e = unpack(GgufType::Unsupported("Q6_K"), vec![0; 210]).unwrap_err();
        assert!(e.message().contains("Q6_K"), "{e}");
    }

    #[test]
    fn every_half_times_a_power() {
        for bits in 0..=u16::MAX {
            for power in [3, 7] {
                let exact = -value(bits) * 2f64.powi(power as i32);
                let result = value(negative_times_power(bits, power));
                let expected = if exact.abs() > 65504.0 { exact.signum() * f64::INFINITY } else { exact };
                assert!(result == expected || (result.is_nan() && exact.is_nan()), "{bits:#x}: {result}");
            }
        }
    }
}
