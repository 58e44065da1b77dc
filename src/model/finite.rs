//! Finds what is no number in a checkpoint's tensors: one such weight makes every answer garbage.

use super::tensors::ElementType;

/// How a tensor's elements say that they are no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// bfloat16.
    Bf16,
    /// 8-bit floats with 4 bits of exponent (E4M3), which have a NaN but no infinity.
    E4m3,
    /// Powers of two (E8M0), which have a NaN.
    E8m0,
}

impl Numbers {
    /// Of a tensor of this element type, if they are floats.
    pub fn of(element: &ElementType) -> Option<Numbers> {
        match element {
            ElementType::F32 => Some(Numbers::F32),
            ElementType::F16 => Some(Numbers::F16),
            ElementType::Bf16 => Some(Numbers::Bf16),
            ElementType::U32 | ElementType::U8 | ElementType::Other(_) => None,
        }
    }

    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            Numbers::F32 => 4,
            Numbers::F16 | Numbers::Bf16 => 2,
            Numbers::E4m3 | Numbers::E8m0 => 1,
        }
    }

    /// The first element of these (little-endian) that is NaN or infinite.
    pub fn first_bad(self, bytes: &[u8]) -> Option<usize> {
        // All bits of the exponent set, whatever the sign.
        match self {
            Numbers::F32 => {
                first(bytes.as_chunks().0, |b: [u8; 4]| u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000)
            }
            Numbers::F16 => first(bytes.as_chunks().0, |b: [u8; 2]| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
            Numbers::Bf16 => {
                first(bytes.as_chunks().0, |b: [u8; 2]| u16::from_le_bytes(b) & 0x7f80 == 0x7f80)
            }
            Numbers::E4m3 => first(bytes, |b| b & 0x7f == 0x7f),
            Numbers::E8m0 => first(bytes, |b| b == 0xff),
        }
    }

    /// The first of these 16-bit IEEE floats that is NaN or infinite.
    pub fn first_bad_half(bits: &[u16]) -> Option<usize> {
        first(bits, |bits| bits & 0x7c00 == 0x7c00)
    }
}

/// Elements looked at before asking whether one of them was bad: a loop without exits runs at memory's pace.
const AT_ONCE: usize = 4096;

fn first<T: Copy>(elements: &[T], bad: impl Fn(T) -> bool) -> Option<usize> {
    let block = elements.chunks(AT_ONCE).position(|some| some.iter().fold(false, |any, &e| any | bad(e)))?;
    let start = block * AT_ONCE;
    elements[start..].iter().position(|&e| bad(e)).map(|i| start + i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_element_is_found_in_every_type() {
        let n = 3 * AT_ONCE + 5;
        // Type, an element of the largest number, elements that are none.
        let cases: [(Numbers, Vec<u8>, Vec<Vec<u8>>); 5] = [
            (
                Numbers::F32,
                f32::MAX.to_le_bytes().into(),
                [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY]
                    .map(|x| x.to_le_bytes().into())
                    .into(),
            ),
            (Numbers::F16, vec![0xff, 0x7b], vec![vec![0x00, 0x7e], vec![0x00, 0xfc]]),
            (Numbers::Bf16, vec![0x7f, 0x7f], vec![vec![0xc0, 0x7f], vec![0x80, 0xff]]),
            (Numbers::E4m3, vec![0x7e], vec![vec![0x7f], vec![0xff]]),
            (Numbers::E8m0, vec![0xfe], vec![vec![0xff]]),
        ];
        for (numbers, largest, bad) in cases {
            let good = largest.repeat(n);
            assert_eq!(numbers.first_bad(&good), None, "{numbers:?}");
            for bad in bad {
                for at in [0, 1, AT_ONCE - 1, AT_ONCE, n - 1] {
                    let mut bytes = good.clone();
                    bytes[at * bad.len()..(at + 1) * bad.len()].copy_from_slice(&bad);
                    assert_eq!(numbers.first_bad(&bytes), Some(at), "{numbers:?} {bad:?}");
                    if numbers == Numbers::F16 {
                        let halves = bytes.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b));
                        assert_eq!(Numbers::first_bad_half(&halves.collect::<Vec<_>>()), Some(at));
                    }
                }
            }
        }
    }
}
