//! Functions of ours in MLX's graph: an operation of the CPU stream whose work is a closure.
//!
//! Promises: the closure runs once, on MLX's own thread, after its inputs are computed and in the order of
//! the stream; a panic in it does not unwind into MLX but is noted in [`Faults`], and its output is zeros.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Array, Dtype};
use crate::error::{Error, Result, Status};

/// What failed where MLX cannot say so.
#[derive(Debug, Default)]
pub struct Faults {
    first: Mutex<Option<Error>>,
}

impl Faults {
    /// An error if an operation has failed since the last call.
    pub fn take(&self) -> Result<()> {
        match self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => {
                Err(Error::new(Status::DeviceError, format!("a CPU kernel failed: {}", error.message())))
            }
            None => Ok(()),
        }
    }

    fn note(&self, error: Error) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// The data of an operation's inputs.
pub struct Inputs<'a> {
    data: &'a [*const c_void],
    described: &'a [(Dtype, usize)],
}

impl Inputs<'_> {
    /// An input of 32-bit floats, row-major. Empty if it is of another type.
    pub fn f32(&self, i: usize) -> &[f32] {
        // SAFETY: the type is checked, and MLX keeps `len` elements alive during the operation.
        unsafe { self.typed(i, Dtype::Float32) }
    }

    /// An input of unsigned 32-bit integers, row-major. Empty if it is of another type.
    pub fn u32(&self, i: usize) -> &[u32] {
        // SAFETY: as above.
        unsafe { self.typed(i, Dtype::Uint32) }
    }

    /// # Safety
    /// `T` is the type that `dtype` stands for.
    unsafe fn typed<T>(&self, i: usize, dtype: Dtype) -> &[T] {
        match (self.data.get(i), self.described.get(i)) {
            (Some(&data), Some(&(own, len))) if own == dtype && len > 0 => {
                // SAFETY: by the caller, and because MLX gave this pointer for an input of `len` elements.
                unsafe { std::slice::from_raw_parts(data.cast::<T>(), len) }
            }
            _ => &[],
        }
    }
}

/// An evaluated array that closures read: its memory lives as long as this does.
#[derive(Clone)]
pub struct Held {
    // Freed with the last clone; nothing reads it but through `data`.
    _array: Arc<Owned>,
    data: *const c_void,
    dtype: Dtype,
    len: usize,
}

/// Moves between threads with the closures that hold it.
struct Owned(#[expect(dead_code, reason = "keeps the memory alive")] Array);

// SAFETY: an array's handle may be moved and dropped on any thread (mlx-rs has it `Send`), and nothing uses
// it by reference.
unsafe impl Sync for Owned {}
// SAFETY: what `data` points at is never written again, and lives as long as `_array`.
unsafe impl Send for Held {}
// SAFETY: as above; it is only read.
unsafe impl Sync for Held {}

impl Held {
    /// Evaluates an array and holds it.
    ///
    /// Errors: those of the evaluation; `Internal` if it is not row-major or neither float32 nor uint32.
    pub fn new(array: &Array) -> Result<Held> {
        let array = array.contiguous()?;
        let dtype = array.dtype();
        let data = match dtype {
            Dtype::Float32 => array.try_as_slice::<f32>().map(|s| s.as_ptr().cast::<c_void>()),
            Dtype::Uint32 => array.try_as_slice::<u32>().map(|s| s.as_ptr().cast::<c_void>()),
            other => return Err(Error::internal(format!("{other:?} is not for CPU kernels"))),
        };
        let data = data.map_err(|e| Error::internal(format!("reading an array: {e}")))?;
        let len = array.size();
        Ok(Held { _array: Arc::new(Owned(array)), data, dtype, len })
    }

    /// Its floats; empty if it has none.
    pub fn f32(&self) -> &[f32] {
        // SAFETY: the type is checked; the memory is valid for `len` elements and not written.
        if self.dtype == Dtype::Float32 { unsafe { self.slice() } } else { &[] }
    }

    /// Its integers; empty if it has none.
    pub fn u32(&self) -> &[u32] {
        // SAFETY: as above.
        if self.dtype == Dtype::Uint32 { unsafe { self.slice() } } else { &[] }
    }

    /// # Safety
    /// `T` is the type that `dtype` stands for.
    unsafe fn slice<T>(&self) -> &[T] {
        // SAFETY: by the caller.
        unsafe { std::slice::from_raw_parts(self.data.cast::<T>(), self.len) }
    }
}

type Work = Box<dyn Fn(&Inputs<'_>, &mut [f32]) + Send>;

/// What the C++ side carries for an operation.
struct Context {
    work: Work,
    described: Vec<(Dtype, usize)>,
    len: usize,
    faults: Arc<Faults>,
}

type Run = unsafe extern "C" fn(*mut c_void, *const *const c_void, *const *mut c_void);
type Drop = unsafe extern "C" fn(*mut c_void);

unsafe extern "C" {
    fn quire_host_op(
        output: *mut mlx_sys::mlx_array,
        inputs: mlx_sys::mlx_vector_array,
        shape: *const i32,
        dims: usize,
        run: Run,
        context: *mut c_void,
        drop: Drop,
        stream: mlx_sys::mlx_stream,
    ) -> i32;
}

/// # Safety
/// Called by the operation with its own context, and as many pointers as it was made with.
unsafe extern "C" fn run(context: *mut c_void, inputs: *const *const c_void, outputs: *const *mut c_void) {
    // SAFETY: `host_op` made the context from a box of this type, and it lives until `drop_context`.
    let context = unsafe { &*context.cast::<Context>() };
    let data = match context.described.len() {
        // Then the array of pointers may be null.
        0 => &[],
        // SAFETY: one pointer an input, by the contract of quire_host_op.
        n => unsafe { std::slice::from_raw_parts(inputs, n) },
    };
    let output = match context.len {
        0 => &mut [],
        // SAFETY: one output of `len` floats, by the same contract.
        len => unsafe { std::slice::from_raw_parts_mut((*outputs).cast::<f32>(), len) },
    };
    let inputs = Inputs { data, described: &context.described };
    let done = crate::panic::catch(|| {
        (context.work)(&inputs, output);
        Ok(())
    });
    if let Err(error) = done {
        output.fill(0.0);
        context.faults.note(error);
    }
}

/// # Safety
/// Called once, with the context of an operation that is gone.
unsafe extern "C" fn drop_context(context: *mut c_void) {
    // SAFETY: `host_op` made it from this box.
    drop(unsafe { Box::from_raw(context.cast::<Context>()) });
}

/// An operation on the thread's default stream, which must be one of the CPU: float32 `shape` out, `work` to
/// compute it from the inputs.
///
/// Errors: `DeviceError` if MLX refuses it.
pub fn host_op(
    faults: &Arc<Faults>,
    inputs: &[&Array],
    shape: &[i32],
    work: impl Fn(&Inputs<'_>, &mut [f32]) + Send + 'static,
) -> Result<Array> {
    let described = inputs.iter().map(|input| (input.dtype(), input.size())).collect();
    let len = shape.iter().map(|&n| n as usize).product();
    let context = Box::new(Context { work: Box::new(work), described, len, faults: faults.clone() });
    let stream = mlx_rs::Stream::thread_local_or_default();
    // SAFETY: the handles live through the call; the operation takes the context over, also when it fails;
    // `run` and `drop_context` keep its contract.
    unsafe {
        let handles = mlx_sys::mlx_vector_array_new();
        for input in inputs {
            mlx_sys::mlx_vector_array_append_value(handles, input.as_ptr());
        }
        let mut output = mlx_sys::mlx_array_new();
        let context = Box::into_raw(context).cast::<c_void>();
        let code = quire_host_op(
            &mut output,
            handles,
            shape.as_ptr(),
            shape.len(),
            run,
            context,
            drop_context,
            stream.as_ptr(),
        );
        mlx_sys::mlx_vector_array_free(handles);
        let output = Array::from_ptr(output);
        if code != 0 {
            return Err(Error::new(Status::DeviceError, "MLX refused an operation of ours"));
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closure_computes_and_a_panic_is_noted() {
        let device = crate::mlx::Device::cpu().unwrap();
        device.run(|| {
            let faults = Arc::new(Faults::default());
            let x = Array::from_slice(&[1f32, 2.0, 3.0, 4.0], &[2, 2]).t();
            let double = |inputs: &Inputs<'_>, out: &mut [f32]| {
                out.iter_mut().zip(inputs.f32(0)).for_each(|(out, x)| *out = 2.0 * x);
            };
            let y = host_op(&faults, &[&x], &[2, 2], double).unwrap();
            let z = mlx_rs::ops::add(&y, &y).unwrap();
            assert_eq!(z.to_vec_exact::<f32>().unwrap(), [4.0, 12.0, 8.0, 16.0]);
            faults.take().unwrap();

            let y = host_op(&faults, &[&x], &[3], |_, _| panic!("injected")).unwrap();
            assert_eq!(y.to_vec_exact::<f32>().unwrap(), [0.0; 3]);
            assert_eq!(faults.take().unwrap_err().status(), Status::DeviceError);
            faults.take().unwrap();
        });
    }

    #[test]
    fn held_arrays_outlive_their_handles() {
        let device = crate::mlx::Device::cpu().unwrap();
        device.run(|| {
            let held = Held::new(&Array::from_slice(&[7u32, 8, 9], &[3])).unwrap();
            assert_eq!((held.u32(), held.f32()), (&[7u32, 8, 9][..], &[][..]));
            let sum = std::thread::spawn(move || held.u32().iter().sum::<u32>()).join().unwrap();
            assert_eq!(sum, 24);
            assert!(Held::new(&mlx_rs::ops::zeros_dtype(&[2], Dtype::Float16).unwrap()).is_err());
        });
    }
}
