//! Half precision (IEEE 754 binary16) as bits, one number at a time; without branches, so that loops over these
//! become vector instructions.

/// The largest finite number.
pub const MAX: f32 = 65_504.0;
/// Exponents are biased by 127 in single precision, by 15 in half.
const REBIAS: u32 = 127 - 15;
/// Mantissas have 23 bits in single precision, 10 in half.
const NARROWER: u32 = 23 - 10;

/// Exact, subnormal numbers and infinities included; a NaN stays one.
#[inline(always)]
pub fn to_f32(half: u16) -> f32 {
    let (sign, magnitude) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    // Rebiasing by a multiplication makes subnormal numbers normal ones.
    let scaled = f32::from_bits(magnitude << NARROWER) * f32::from_bits((127 + REBIAS) << 23);
    let unbounded = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(scaled.to_bits() | unbounded | sign)
}

/// Rounds to the nearest, of two equally near to the even one. What is too large becomes the largest finite
/// number: an infinite key or value would turn its whole context's attention into NaN. A NaN stays one.
#[inline(always)]
pub fn from_f32(number: f32) -> u16 {
    let bits = number.to_bits();
    let (sign, magnitude) = ((bits >> 16) as u16 & 0x8000, bits & 0x7fff_ffff);
    let finite = magnitude.min(MAX.to_bits());
    let odd = (finite >> NARROWER) & 1;
    let normal = (finite + 0xfff + odd).wrapping_sub(REBIAS << 23) >> NARROWER;
    // A half's last subnormal bit is the last bit of numbers from 0.5 on: adding 0.5 rounds there.
    let subnormal = (f32::from_bits(finite) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let half = if finite < (127 - 14) << 23 { subnormal } else { normal };
    let half = if magnitude > 0x7f80_0000 { 0x7e00 } else { half };
    half as u16 | sign
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What half precision's bits stand for, by the definition.
    pub fn value(half: u16) -> f64 {
        let sign = if half >> 15 == 0 { 1.0 } else { -1.0 };
        let (exponent, mantissa) = (i32::from(half >> 10 & 31), f64::from(half & 1023));
        sign * match (exponent, mantissa) {
            (0, _) => mantissa * 2f64.powi(-24),
            (31, 0.0) => f64::INFINITY,
            (31, _) => f64::NAN,
            _ => (1.0 + mantissa / 1024.0) * 2f64.powi(exponent - 15),
        }
    }

    /// The number in half precision that is nearest, by the definition, and not infinite.
    pub fn nearest(number: f32) -> f32 {
        let exponent = (number.to_bits() >> 23 & 255) as i32 - 127;
        let unit = 2f64.powi(exponent.max(-14) - 10);
        let rounded = (f64::from(number) / unit).round_ties_even() * unit;
        rounded.clamp(-f64::from(MAX), f64::from(MAX)) as f32
    }

    /// Every half, every number halfway between two, those next to that on either side, and numbers out of reach.
    pub fn numbers() -> Vec<f32> {
        let mut numbers = Vec::new();
        for half in 0..0x7c00 {
            let (here, next) = (value(half), if half == 0x7bff { 65_536.0 } else { value(half + 1) });
            let middle = f32::midpoint(here as f32, next as f32);
            numbers.extend([here as f32, middle.next_down(), middle, middle.next_up()]);
        }
        numbers.extend([65_536.0, 1e9, f32::MAX, f32::INFINITY, f32::MIN_POSITIVE, 1e-45, 1e-20]);
        let negative: Vec<f32> = numbers.iter().map(|x| -x).collect();
        numbers.extend(negative);
        numbers
    }

    #[test]
    fn every_half_is_what_it_stands_for() {
        for half in 0..=u16::MAX {
            let (got, want) = (f64::from(to_f32(half)), value(half));
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{half:x}: {got}");
        }
    }

    #[test]
    fn numbers_become_the_nearest_half() {
        for number in numbers() {
            let (got, want) = (value(from_f32(number)), f64::from(nearest(number)));
            assert_eq!(got.to_bits(), want.to_bits(), "{number:e} became {got:e}");
        }
        for half in 0..=u16::MAX {
            let got = from_f32(to_f32(half));
            let (there, back) = (value(half), value(got));
            assert!(there.is_nan() && back.is_nan() || back == there.clamp(-65_504.0, 65_504.0), "{half:x}");
        }
    }
}
