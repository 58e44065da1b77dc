//! Sixteen floats at a time: one kernel source, compiled for each instruction set; the machine's best runs.
//!
//! A kernel is an `#[inline(always)]` function generic over [`Vector`]; [`dispatch!`] compiles it inside a
//! function that has the instruction set enabled, into which vector operations then inline.

use super::half;

/// Floats in a vector.
pub(super) const LANES: usize = 16;

/// Sixteen floats in registers. Every operation works lane by lane.
///
/// The methods of an instruction set's type may only run where [`dispatch!`] has checked for that set.
pub(super) trait Vector: Copy {
    /// Whether there are registers for some twenty vectors.
    const ROOMY: bool = false;
    fn splat(value: f32) -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    /// From half precision; exact.
    fn load_half(from: &[u16; LANES]) -> Self;
    /// To half precision, as [`half::from_f32`] rounds.
    fn store_half(self, to: &mut [u16; LANES]);
    /// The bytes as numbers.
    fn from_bytes(bytes: &[u8; LANES]) -> Self;
    /// The low and the high four bits of each byte as numbers.
    fn from_nibbles(bytes: &[u8; LANES]) -> (Self, Self);
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    /// `self * a + b`, rounded once where that is one instruction.
    fn mul_add(self, a: Self, b: Self) -> Self;

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    /// The sum of the lanes, halves first: the same order on every machine.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        let mut width = LANES;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
        }
        lanes[0]
    }

    /// [`Vector::sum`] of several, to the bit.
    #[inline(always)]
    fn sums<const N: usize>(vectors: &[Self; N]) -> [f32; N] {
        let mut sums = [0.0; N];
        for i in 0..N {
            sums[i] = vectors[i].sum();
        }
        sums
    }

    /// The first lanes from numbers, no more than there are lanes; the rest zeros.
    #[inline(always)]
    fn load_some(numbers: &[f32]) -> Self {
        if let Some(all) = numbers.first_chunk() {
            return Self::load(all);
        }
        let mut lanes = [0.0; LANES];
        lanes[..numbers.len()].copy_from_slice(numbers);
        Self::load(&lanes)
    }

    /// The highest lane.
    #[inline(always)]
    fn highest(self) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        let mut width = LANES;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                lanes[i] = if lanes[i] > lanes[i + width] { lanes[i] } else { lanes[i + width] };
            }
        }
        lanes[0]
    }

    /// `e^x` of each lane to about 2 units in the last place, between `e^-87` and `e^88`: 2^n times a
    /// polynomial on the remainder (the coefficients of Cephes' expf).
    #[inline(always)]
    fn exp(self) -> Self {
        // Adding and taking away 1.5 * 2^23 rounds to an integer, which is then in the low bits. Plain loops
        // over lanes, no closures: those would not be compiled for the instruction set.
        const ROUND: f32 = 12_582_912.0;
        let x = self.max(Self::splat(-87.336_55)).min(Self::splat(88.722_83));
        let shifted = x.mul(Self::splat(std::f32::consts::LOG2_E)).add(Self::splat(ROUND));
        let n = shifted.add(Self::splat(-ROUND));
        let r = n.mul_add(Self::splat(-0.693_359_4), x);
        let r = n.mul_add(Self::splat(2.121_944_4e-4), r);
        let mut p = Self::splat(1.987_569_2e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.500_000_03] {
            p = p.mul_add(r, Self::splat(c));
        }
        let p = p.mul(r).mul_add(r, r).add(Self::splat(1.0));
        // 2^n in two factors, for n reaches 128.
        let mut bits = [0.0; LANES];
        shifted.store(&mut bits);
        let (mut half, mut rest) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            let n = bits[i].to_bits().wrapping_sub(ROUND.to_bits()) as i32;
            half[i] = f32::from_bits((((n >> 1) + 127) as u32) << 23);
            rest[i] = f32::from_bits(((n - (n >> 1) + 127) as u32) << 23);
        }
        p.mul(Self::load(&half)).mul(Self::load(&rest))
    }
}

/// For machines without a set of their own below.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Vector for Portable {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Portable([value; LANES])
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Portable(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }
    #[inline(always)]
    fn load_half(from: &[u16; LANES]) -> Self {
        let mut lanes = [0.0; LANES];
        for i in 0..LANES {
            lanes[i] = half::to_f32(from[i]);
        }
        Portable(lanes)
    }
    #[inline(always)]
    fn store_half(self, to: &mut [u16; LANES]) {
        for (to, number) in to.iter_mut().zip(self.0) {
            *to = half::from_f32(number);
        }
    }
    #[inline(always)]
    fn from_bytes(bytes: &[u8; LANES]) -> Self {
        Portable(bytes.map(f32::from))
    }
    #[inline(always)]
    fn from_nibbles(bytes: &[u8; LANES]) -> (Self, Self) {
        (Portable(bytes.map(|b| f32::from(b & 15))), Portable(bytes.map(|b| f32::from(b >> 4))))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, f32::max)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, f32::min)
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        Portable(std::array::from_fn(|i| {
            // Without the instruction, rounding once is a slow library call.
            if cfg!(target_arch = "aarch64") {
                self.0[i].mul_add(a.0[i], b.0[i])
            } else {
                self.0[i] * a.0[i] + b.0[i]
            }
        }))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    //! SAFETY of every block here: [`super::dispatch!`] has asked the processor for the instructions used,
    //! and the loads and stores cover exactly the arrays they are given.
    use super::{LANES, Vector, half};
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    impl Vector for Avx512 {
        const ROOMY: bool = true;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Avx512(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            Avx512(unsafe { _mm512_loadu_ps(from.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn load_half(from: &[u16; LANES]) -> Self {
            // Not `_mm512_cvtph_ps`: it suppresses exceptions, for which a load must be an instruction of its own.
            Avx512(unsafe {
                _mm512_cvt_roundph_ps::<_MM_FROUND_CUR_DIRECTION>(_mm256_loadu_si256(from.as_ptr().cast()))
            })
        }
        #[inline(always)]
        fn store_half(self, to: &mut [u16; LANES]) {
            unsafe {
                // Of a NaN and another operand these return the second.
                let limit = _mm512_set1_ps(half::MAX);
                let x = _mm512_max_ps(_mm512_set1_ps(-half::MAX), _mm512_min_ps(limit, self.0));
                let halves = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
                _mm256_storeu_si256(to.as_mut_ptr().cast(), halves);
            }
        }
        #[inline(always)]
        fn from_bytes(bytes: &[u8; LANES]) -> Self {
            Avx512(unsafe {
                _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())))
            })
        }
        #[inline(always)]
        fn from_nibbles(bytes: &[u8; LANES]) -> (Self, Self) {
            unsafe {
                let wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast()));
                let low = _mm512_and_si512(wide, _mm512_set1_epi32(15));
                let high = _mm512_srli_epi32::<4>(wide);
                (Avx512(_mm512_cvtepi32_ps(low)), Avx512(_mm512_cvtepi32_ps(high)))
            }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Avx512(unsafe { _mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            Avx512(unsafe { _mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            Avx512(unsafe { _mm512_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            Avx512(unsafe { _mm512_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn sum(self) -> f32 {
            unsafe {
                let upper = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self.0));
                sum_halves(_mm256_add_ps(_mm512_castps512_ps256(self.0), _mm256_castpd_ps(upper)))
            }
        }
        #[inline(always)]
        fn sums<const N: usize>(vectors: &[Self; N]) -> [f32; N] {
            let mut sums = [0.0; N];
            let (fours, _) = vectors.as_chunks::<4>();
            let (to, _) = sums.as_chunks_mut::<4>();
            for i in 0..fours.len() {
                unsafe { _mm_storeu_ps(to[i].as_mut_ptr(), four_sums(&fours[i])) };
            }
            for i in N / 4 * 4..N {
                sums[i] = vectors[i].sum();
            }
            sums
        }
        #[inline(always)]
        fn load_some(numbers: &[f32]) -> Self {
            let mask = ((1u32 << numbers.len().min(LANES)) - 1) as u16;
            Avx512(unsafe { _mm512_maskz_loadu_ps(mask, numbers.as_ptr()) })
        }
        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            Avx512(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
        }
    }

    /// Four vectors' sums, added up in [`Vector::sum`]'s order: quarters of several share a register.
    #[inline(always)]
    unsafe fn four_sums([a, b, c, d]: &[Avx512; 4]) -> __m128 {
        unsafe {
            let halves = |x: __m512, y: __m512| {
                _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(x, y), _mm512_shuffle_f32x4::<0xee>(x, y))
            };
            let (ab, cd) = (halves(a.0, b.0), halves(c.0, d.0));
            let v = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
            let v = _mm512_add_ps(v, _mm512_permute_ps::<0b01_00_11_10>(v));
            let v = _mm512_add_ps(v, _mm512_permute_ps::<0b10_11_00_01>(v));
            _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, v))
        }
    }

    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    impl Vector for Avx2 {
        #[inline(always)]
        fn splat(value: f32) -> Self {
            let v = unsafe { _mm256_set1_ps(value) };
            Avx2(v, v)
        }
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            unsafe { Avx2(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), self.0);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
            }
        }
        #[inline(always)]
        fn load_half(from: &[u16; LANES]) -> Self {
            unsafe {
                let (low, high) = (from.as_ptr().cast(), from.as_ptr().add(8).cast());
                Avx2(_mm256_cvtph_ps(_mm_loadu_si128(low)), _mm256_cvtph_ps(_mm_loadu_si128(high)))
            }
        }
        #[inline(always)]
        fn store_half(self, to: &mut [u16; LANES]) {
            unsafe {
                _mm_storeu_si128(to.as_mut_ptr().cast(), halves(self.0));
                _mm_storeu_si128(to.as_mut_ptr().add(8).cast(), halves(self.1));
            }
        }
        #[inline(always)]
        fn from_bytes(bytes: &[u8; LANES]) -> Self {
            unsafe {
                let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
                let low = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
                Avx2(low, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes))))
            }
        }
        #[inline(always)]
        fn from_nibbles(bytes: &[u8; LANES]) -> (Self, Self) {
            unsafe {
                let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
                let (first, second) =
                    (_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes)));
                let mask = _mm256_set1_epi32(15);
                let low = |v| _mm256_cvtepi32_ps(_mm256_and_si256(v, mask));
                let high = |v| _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(v));
                (Avx2(low(first), low(second)), Avx2(high(first), high(second)))
            }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            unsafe { Avx2(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
        }
        #[inline(always)]
        fn sum(self) -> f32 {
            unsafe { sum_halves(_mm256_add_ps(self.0, self.1)) }
        }
        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            unsafe { Avx2(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1)) }
        }
    }

    /// In half precision, as [`half::from_f32`] rounds.
    #[inline(always)]
    unsafe fn halves(v: __m256) -> __m128i {
        unsafe {
            // Of a NaN and another operand these return the second.
            let limit = _mm256_set1_ps(half::MAX);
            let v = _mm256_max_ps(_mm256_set1_ps(-half::MAX), _mm256_min_ps(limit, v));
            _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)
        }
    }

    /// The sum of eight lanes, halves first.
    #[inline(always)]
    unsafe fn sum_halves(v: __m256) -> f32 {
        unsafe {
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }

    pub fn has_avx512() -> bool {
        has_avx2() && is_x86_feature_detected!("avx512f")
    }

    pub fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }
}

/// Whether the vector type that [`dispatch!`] picks on this machine is [`Vector::ROOMY`].
pub(super) fn best_is_roomy() -> bool {
    #[cfg(target_arch = "x86_64")]
    return x86::has_avx512();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Has a cache line brought near that will be needed soon.
#[inline(always)]
pub(super) fn prefetch<T>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has it, and it changes nothing that can be seen.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(what).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}

/// Defines `$name`, which runs the kernel `$body::<V>` for the machine's best vector type `V`.
macro_rules! dispatch {
    ($vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:ident) => {
        $vis fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::kernels::cpu::simd::x86;
                #[target_feature(enable = "avx512f,avx2,fma,f16c")]
                fn avx512($($arg: $type),*) {
                    $body::<x86::Avx512>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $type),*) {
                    $body::<x86::Avx2>($($arg),*)
                }
                if x86::has_avx512() {
                    // SAFETY: the processor has just said so.
                    return unsafe { avx512($($arg),*) };
                }
                if x86::has_avx2() {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $body::<$crate::kernels::cpu::simd::Portable>($($arg),*)
        }
    };
}
pub(super) use dispatch;

/// The dot product of two slices of equal length.
#[inline(always)]
pub(super) fn dot<V: Vector>(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = V::zero();
    for i in 0..a_chunks.len().min(b_chunks.len()) {
        lanes = V::load(&a_chunks[i]).mul_add(V::load(&b_chunks[i]), lanes);
    }
    let mut sum = lanes.sum();
    for i in 0..a_rest.len().min(b_rest.len()) {
        sum += a_rest[i] * b_rest[i];
    }
    sum
}

#[cfg(test)]
mod tests;
