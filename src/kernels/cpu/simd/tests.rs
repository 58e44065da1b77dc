use super::*;

dispatch!(fn exps(x: &[f32; LANES], out: &mut [f32; LANES]) = exps_body);

#[inline(always)]
fn exps_body<V: Vector>(x: &[f32; LANES], out: &mut [f32; LANES]) {
    V::load(x).exp().store(out);
}

#[test]
fn exp_is_exp() {
    for first in (-8700..8800).step_by(LANES) {
        let x = std::array::from_fn(|i| (first + i as i32) as f32 / 100.0);
        let (mut best, mut portable) = ([0.0; LANES], [0.0; LANES]);
        exps(&x, &mut best);
        exps_body::<Portable>(&x, &mut portable);
        for got in [best, portable] {
            for (got, x) in got.iter().zip(x) {
                assert!((f64::from(*got) / f64::from(x).exp() - 1.0).abs() < 4e-7, "{x}");
            }
        }
    }
    let mut out = [0.0; LANES];
    exps(&[f32::NEG_INFINITY; LANES], &mut out);
    assert!(out.iter().all(|e| *e < 1e-37));
}

dispatch!(fn numbers(bytes: &[u8; LANES], out: &mut [[f32; LANES]; 3]) = numbers_body);

#[inline(always)]
fn numbers_body<V: Vector>(bytes: &[u8; LANES], out: &mut [[f32; LANES]; 3]) {
    let (low, high) = V::from_nibbles(bytes);
    low.store(&mut out[0]);
    high.store(&mut out[1]);
    V::from_bytes(bytes).store(&mut out[2]);
}

#[test]
fn bytes_become_numbers() {
    for first in (0..=255u8).step_by(LANES) {
        let bytes = std::array::from_fn(|i| first + i as u8);
        let mut out = [[0.0; LANES]; 3];
        numbers(&bytes, &mut out);
        assert_eq!(out[0], bytes.map(|b| f32::from(b & 15)));
        assert_eq!(out[1], bytes.map(|b| f32::from(b >> 4)));
        assert_eq!(out[2], bytes.map(f32::from));
    }
}

dispatch!(fn sums(vectors: &[[f32; LANES]; 7], together: &mut [f32; 7], alone: &mut [f32; 7]) = sums_body);

#[inline(always)]
fn sums_body<V: Vector>(vectors: &[[f32; LANES]; 7], together: &mut [f32; 7], alone: &mut [f32; 7]) {
    let mut loaded = [V::zero(); 7];
    for i in 0..7 {
        loaded[i] = V::load(&vectors[i]);
        alone[i] = loaded[i].sum();
    }
    *together = V::sums(&loaded);
}

#[test]
fn several_sums_are_the_sums() {
    let number = |i: usize| ((i * 7919) % 1000) as f32 / 300.0 - 1.5;
    let vectors = std::array::from_fn(|v| std::array::from_fn(|i| number(v * LANES + i)));
    let (mut together, mut alone, mut portable) = ([0.0; 7], [0.0; 7], [0.0; 7]);
    sums(&vectors, &mut together, &mut alone);
    assert_eq!(together, alone, "bit for bit");
    sums_body::<Portable>(&vectors, &mut together, &mut portable);
    assert_eq!((together, alone), (portable, portable), "on every machine");
    for (sum, vector) in alone.iter().zip(&vectors) {
        assert!((sum - vector.iter().sum::<f32>()).abs() < 1e-4, "{sum}");
    }
}

dispatch!(fn some(numbers: &[f32], out: &mut [f32; LANES]) = some_body);

#[inline(always)]
fn some_body<V: Vector>(numbers: &[f32], out: &mut [f32; LANES]) {
    V::load_some(numbers).store(out);
}

#[test]
fn fewer_numbers_are_filled_up_with_zeros() {
    let numbers: [f32; LANES] = std::array::from_fn(|i| i as f32 + 1.0);
    for count in 0..=LANES {
        let (mut best, mut portable) = ([f32::NAN; LANES], [f32::NAN; LANES]);
        some(&numbers[..count], &mut best);
        some_body::<Portable>(&numbers[..count], &mut portable);
        assert_eq!((&best[..count], portable), (&numbers[..count], best));
        assert!(best[count..].iter().all(|x| *x == 0.0), "{count}: {best:?}");
    }
}

dispatch!(fn from_halves(halves: &[u16; LANES], out: &mut [f32; LANES]) = from_halves_body);

#[inline(always)]
fn from_halves_body<V: Vector>(halves: &[u16; LANES], out: &mut [f32; LANES]) {
    V::load_half(halves).store(out);
}

dispatch!(fn to_halves(x: &[f32; LANES], out: &mut [u16; LANES]) = to_halves_body);

#[inline(always)]
fn to_halves_body<V: Vector>(x: &[f32; LANES], out: &mut [u16; LANES]) {
    V::load(x).store_half(out);
}

type FromHalves = fn(&[u16; LANES], &mut [f32; LANES]);
type ToHalves = fn(&[f32; LANES], &mut [u16; LANES]);

/// Both conversions: the machine's best, the portable ones, and those of AVX2 where a better set hides them.
fn conversions() -> Vec<(FromHalves, ToHalves)> {
    let mut all: Vec<(FromHalves, ToHalves)> =
        vec![(from_halves, to_halves), (from_halves_body::<Portable>, to_halves_body::<Portable>)];
    #[cfg(target_arch = "x86_64")]
    if x86::has_avx2() {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn from_halves(halves: &[u16; LANES], out: &mut [f32; LANES]) {
            from_halves_body::<x86::Avx2>(halves, out);
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        fn to_halves(x: &[f32; LANES], out: &mut [u16; LANES]) {
            to_halves_body::<x86::Avx2>(x, out);
        }
        // SAFETY: the processor has just said that it can.
        all.push((|x, out| unsafe { from_halves(x, out) }, |x, out| unsafe { to_halves(x, out) }));
    }
    all
}

#[test]
fn every_half_is_what_it_stands_for() {
    for (from_halves, _) in conversions() {
        for first in (0..=u16::MAX).step_by(LANES) {
            let halves = std::array::from_fn(|i| first + i as u16);
            let mut out = [0.0; LANES];
            from_halves(&halves, &mut out);
            for (got, half) in out.iter().zip(halves) {
                let (got, want) = (f64::from(*got), half::tests::value(half));
                assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{half:x}: {got}");
            }
        }
    }
}

#[test]
fn numbers_become_the_nearest_half() {
    let mut numbers = half::tests::numbers();
    numbers.resize((numbers.len() + 1).next_multiple_of(LANES), f32::NAN);
    for (_, to_halves) in conversions() {
        for x in numbers.as_chunks().0 {
            let mut out = [0; LANES];
            to_halves(x, &mut out);
            for (got, x) in out.iter().zip(x) {
                let (got, want) = (half::tests::value(*got), f64::from(half::tests::nearest(*x)));
                assert!(
                    got.to_bits() == want.to_bits() || got.is_nan() && x.is_nan(),
                    "{x:e} became {got:e}"
                );
            }
        }
    }
}
