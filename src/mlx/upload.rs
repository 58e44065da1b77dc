//! Numbers from the host for a step's graph.
//!
//! On CUDA an array made on the host lies in memory that moves between the processors page by page, each time one of
//! them touches it: some 100 us for each array of a step. So there the small arrays of a step are parts of one, which
//! the device copies once.
//!
//! Promises: within [`together`], what [`upload`] gives holds the numbers that it was given when it is evaluated after
//! `together` returned, and must not be evaluated before.

use std::cell::RefCell;

use mlx_rs::ops::{self, indexing::TryIndexOp};

use super::{Array, Dtype};
use crate::error::{Error, Result};

/// Words of 32 bits that a step's arrays share.
const WORDS: usize = 2048;

/// A number of 32 bits.
pub trait Word: Copy {
    /// Its type in arrays.
    const DTYPE: Dtype;

    /// Its bits.
    fn bits(self) -> u32;

    /// An array of its own for some.
    fn array(values: &[Self], shape: &[i32]) -> Array;
}

macro_rules! words {
    ($($word:ty: $dtype:ident, $bits:expr;)*) => {$(
        impl Word for $word {
            const DTYPE: Dtype = Dtype::$dtype;

            fn bits(self) -> u32 {
                $bits(self)
            }

            fn array(values: &[Self], shape: &[i32]) -> Array {
                Array::from_slice(values, shape)
            }
        }
    )*};
}

words! {
    u32: Uint32, std::convert::identity;
    i32: Int32, i32::cast_unsigned;
    f32: Float32, f32::to_bits;
}

/// The array that is being filled.
struct Shared {
    /// Where its memory is; it lives as long as `copy`.
    memory: *mut u32,
    used: usize,
    /// The device's copy, not evaluated: `[WORDS]`, unsigned 32-bit.
    copy: Array,
}

thread_local! {
    static SHARED: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Runs `build`, whose small [`upload`]s become parts of one array.
pub fn together<R>(build: impl FnOnce() -> Result<R>) -> Result<R> {
    let own = Array::from_slice(&[0u32; WORDS], &[WORDS as i32]);
    // SAFETY: the array was made from data, so its memory is there; the pointer is used as long as `copy`, which has
    // it as an input, is not evaluated.
    let memory = unsafe { mlx_sys::mlx_array_data_uint32(own.as_ptr()) }.cast_mut();
    if memory.is_null() {
        return Err(Error::internal("an array of numbers has no memory"));
    }
    let copy = ops::add(&own, Array::from_slice(&[0u32], &[1]))?;
    let before = SHARED.replace(Some(Shared { memory, used: 0, copy }));
    let _restore = Restore(Some(before));
    build()
}

/// Ends the sharing, also when `build` panics.
struct Restore(Option<Option<Shared>>);

impl Drop for Restore {
    fn drop(&mut self) {
        SHARED.set(self.0.take().flatten());
    }
}

/// An array of these numbers.
pub fn upload<T: Word>(values: &[T], shape: &[i32]) -> Result<Array> {
    let part = SHARED.with_borrow_mut(|shared| shared.as_mut().and_then(|shared| shared.take(values)));
    match part {
        None => Ok(T::array(values, shape)),
        Some((copy, range)) => {
            let part = copy.try_index(range)?;
            let part = if T::DTYPE == Dtype::Uint32 { part } else { part.view_dtype(T::DTYPE)? };
            Ok(part.reshape(shape)?)
        }
    }
}

impl Shared {
    /// Writes numbers behind those that are there, if they fit.
    fn take<T: Word>(&mut self, values: &[T]) -> Option<(Array, std::ops::Range<i32>)> {
        let (first, end) = (self.used, self.used + values.len());
        if values.is_empty() || end > WORDS {
            return None;
        }
        for (i, value) in values.iter().enumerate() {
            // SAFETY: below `WORDS`, which the memory has; nothing reads it before `copy` is evaluated.
            unsafe { self.memory.add(first + i).write(value.bits()) };
        }
        // The next part begins at a multiple of 16 bytes.
        self.used = end.next_multiple_of(4);
        Some((self.copy.clone(), first as i32..end as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_their_own_numbers() {
        crate::mlx::Device::cpu().unwrap().run(|| {
            let (a, b, c, large) = together(|| {
                let large = vec![7u32; WORDS + 1];
                Ok((
                    upload(&[1u32, 2, 3], &[3])?,
                    upload(&[0.5f32, -2.0], &[2, 1])?,
                    upload(&[-1i32; 4], &[4])?,
                    upload(&large, &[large.len() as i32])?,
                ))
            })
            .unwrap();
            let after = upload(&[9u32], &[1]).unwrap();
            assert_eq!(a.to_vec_exact::<u32>().unwrap(), [1, 2, 3]);
            assert_eq!((b.shape(), b.to_vec_exact::<f32>().unwrap()), (&[2, 1][..], vec![0.5, -2.0]));
            assert_eq!(c.to_vec_exact::<i32>().unwrap(), [-1; 4]);
            assert_eq!(large.to_vec_exact::<u32>().unwrap(), vec![7; WORDS + 1]);
            assert_eq!(after.to_vec_exact::<u32>().unwrap(), [9]);
        });
    }

    #[test]
    fn what_does_not_fit_has_an_array_of_its_own() {
        crate::mlx::Device::cpu().unwrap().run(|| {
            let parts = together(|| {
                let numbers = |i: u32| vec![i; 1000];
                (0..4).map(|i| upload(&numbers(i), &[1000])).collect::<Result<Vec<_>>>()
            });
            for (i, part) in parts.unwrap().iter().enumerate() {
                assert_eq!(part.to_vec_exact::<u32>().unwrap(), vec![i as u32; 1000]);
            }
        });
    }
}
