//! Arrays whose bytes are read when they are first computed, by MLX's own `Load`: on CUDA into the device's memory
//! (an array made from bytes of the host lies in managed memory, which moves page by page when it is touched), on
//! a CPU and with Metal straight into the array's own.
//!
//! Promises: the bytes are read once, on whichever thread MLX loads with; nothing is kept of where they come from
//! once the array is computed or dropped; reading that fails or panics does not unwind into MLX but is noted in
//! [`LazyReads`], and such an array is zeros.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mlx_rs::Stream;

use super::{Array, Dtype};
use crate::error::{Error, Result, Status};

/// Makes arrays that are read later, and knows what went wrong then.
#[derive(Debug, Clone, Default)]
pub struct LazyReads {
    first: Arc<Mutex<Option<Error>>>,
}

impl LazyReads {
    /// An array of this shape and type. `fill` writes its bytes (the host's byte order, rows first), all of them,
    /// when it is computed; ask [`LazyReads::check`] afterwards.
    ///
    /// Errors: `Internal` for a type that files are not read as; `DeviceError` if MLX refuses it.
    pub fn array(
        &self,
        shape: &[i32],
        dtype: Dtype,
        fill: impl Fn(&mut [u8]) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Array> {
        let (header, bytes) = describe(shape, dtype)?;
        let fill: Fill = Box::new(fill);
        let reader =
            Box::new(Reader { header, passed: AtomicUsize::new(0), bytes, fill, reads: self.clone() });
        let stream = load_stream();
        // SAFETY: the callbacks are given the reader and keep to the table's contract; MLX owns the reader from
        // `mlx_io_reader_new` on and drops it by `free`; the array's handle is written on success only, and is
        // then owned by the array made of it.
        unsafe {
            let reader = Box::into_raw(reader);
            let handle = mlx_sys::mlx_io_reader_new(reader.cast::<c_void>(), TABLE);
            if handle.ctx.is_null() {
                drop(Box::from_raw(reader));
                return Err(Error::new(Status::OutOfMemory, "no memory for a reader"));
            }
            let mut array = mlx_sys::mlx_array_new();
            let code = mlx_sys::mlx_load_reader(&mut array, handle, stream.as_ptr());
            mlx_sys::mlx_io_reader_free(handle);
            let array = Array::from_ptr(array);
            if code != 0 {
                return Err(Error::new(Status::DeviceError, "MLX refused to load an array"));
            }
            Ok(array)
        }
    }

    /// The first error of reading since the last call, if there was one.
    pub fn check(&self) -> Result<()> {
        match self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn note(&self, error: Error) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Where MLX loads: on CUDA the calling thread's own stream. Metal has no such operation: there the CPU does it,
/// into memory that the two share.
fn load_stream() -> Stream {
    if super::device::is_cuda() { Stream::thread_local_or_default() } else { Stream::cpu() }
}

/// Writes all of an array's bytes.
type Fill = Box<dyn Fn(&mut [u8]) -> Result<()> + Send + Sync>;

/// What MLX takes for an open file in NumPy's format: a header that says shape and type, and an array's bytes.
struct Reader {
    header: Vec<u8>,
    /// Bytes of the header that MLX has read.
    passed: AtomicUsize,
    bytes: usize,
    fill: Fill,
    reads: LazyReads,
}

/// The header of NumPy's format, version 1.0 (numpy.lib.format), with MLX's own name of bfloat16; and the bytes
/// that the array takes.
fn describe(shape: &[i32], dtype: Dtype) -> Result<(Vec<u8>, usize)> {
    let (name, size) = match dtype {
        Dtype::Float32 => ("<f4", 4),
        Dtype::Uint32 => ("<u4", 4),
        Dtype::Float16 => ("<f2", 2),
        Dtype::Bfloat16 => ("|V2", 2),
        Dtype::Uint8 => ("|u1", 1),
        other => return Err(Error::internal(format!("arrays of {other:?} are not read from files"))),
    };
    let dimensions: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let text = format!("{{'descr': '{name}', 'fortran_order': False, 'shape': ({dimensions}), }}\n");
    let length = u16::try_from(text.len())
        .map_err(|_| Error::internal(format!("an array of {} dimensions", shape.len())))?;
    let header = [b"\x93NUMPY\x01\x00", &length.to_le_bytes()[..], text.as_bytes()].concat();
    Ok((header, shape.iter().map(|&n| n as usize).product::<usize>() * size))
}

const TABLE: mlx_sys::mlx_io_vtable = mlx_sys::mlx_io_vtable {
    is_open: Some(is_open),
    good: Some(is_open),
    tell: Some(tell),
    seek: Some(seek),
    read: Some(read_header),
    read_at_offset: Some(read_data),
    write: None,
    label: Some(label),
    free: Some(free),
};

const LABEL: &CStr = c"a tensor";

unsafe extern "C" fn is_open(_: *mut c_void) -> bool {
    true
}

/// # Safety
/// `reader` is a live [`Reader`].
unsafe extern "C" fn tell(reader: *mut c_void) -> usize {
    // SAFETY: by the caller.
    unsafe { &*reader.cast::<Reader>() }.passed.load(Ordering::Relaxed)
}

/// MLX reads the header from its start to its end.
unsafe extern "C" fn seek(_: *mut c_void, _: i64, _: c_int) -> c_int {
    -1
}

unsafe extern "C" fn label(_: *mut c_void) -> *const c_char {
    LABEL.as_ptr()
}

/// # Safety
/// `reader` is a live [`Reader`], and `data` has room for `n` bytes.
unsafe extern "C" fn read_header(reader: *mut c_void, data: *mut c_char, n: usize) -> usize {
    // SAFETY: by the caller.
    let reader = unsafe { &*reader.cast::<Reader>() };
    let from = reader.passed.fetch_add(n, Ordering::Relaxed);
    let Some(part) = from.checked_add(n).and_then(|end| reader.header.get(from..end)) else { return 0 };
    // SAFETY: by the caller; the two do not overlap, as one is ours.
    unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), data.cast::<u8>(), n) };
    n
}

/// # Safety
/// `reader` is a live [`Reader`], and `data` is null or has room for `n` bytes.
unsafe extern "C" fn read_data(reader: *mut c_void, data: *mut c_char, n: usize, offset: usize) -> usize {
    // SAFETY: by the caller.
    let reader = unsafe { &*reader.cast::<Reader>() };
    if data.is_null() {
        // MLX does not look at what its allocator says.
        reader.reads.note(Error::new(Status::OutOfMemory, format!("no memory to read {n} bytes")));
        return 0;
    }
    if (n, offset) != (reader.bytes, reader.header.len()) {
        reader.reads.note(Error::internal(format!("MLX loads {n} bytes from {offset} on, not an array")));
        return 0;
    }
    // SAFETY: by the caller, and nobody else uses it during the call; what is in it is not read before it is
    // written.
    let bytes = unsafe { std::slice::from_raw_parts_mut(data.cast::<u8>(), n) };
    if let Err(error) = crate::panic::catch(|| (reader.fill)(bytes)) {
        bytes.fill(0);
        reader.reads.note(error);
    }
    // Also on failure: an exception would reach other arrays of the stream.
    n
}

/// # Safety
/// Called once, with a [`Reader`] that [`LazyReads::array`] boxed.
unsafe extern "C" fn free(reader: *mut c_void) {
    // SAFETY: by the caller.
    drop(unsafe { Box::from_raw(reader.cast::<Reader>()) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::{Device, to_bytes};

    fn on_device(test: impl FnOnce(LazyReads)) {
        Device::best().unwrap().run(|| test(LazyReads::default()));
    }

    #[test]
    fn every_type_is_read_as_it_is_stored_and_only_when_it_is_computed() {
        on_device(|reads| {
            for (dtype, size) in [
                (Dtype::Float32, 4),
                (Dtype::Uint32, 4),
                (Dtype::Float16, 2),
                (Dtype::Bfloat16, 2),
                (Dtype::Uint8, 1),
            ] {
                for shape in [&[][..], &[5], &[2, 3], &[4, 128, 17]] {
                    let n = shape.iter().product::<i32>() as usize * size;
                    let stored: Vec<u8> = (0..n).map(|i| (i * 7 % 61) as u8).collect();
                    let calls = Arc::new(AtomicUsize::new(0));
                    let (own, source) = (calls.clone(), stored.clone());
                    let fill = move |bytes: &mut [u8]| {
                        own.fetch_add(1, Ordering::Relaxed);
                        bytes.copy_from_slice(&source);
                        Ok(())
                    };
                    let array = reads.array(shape, dtype, fill).unwrap();
                    assert_eq!((array.shape(), array.dtype()), (shape, dtype));
                    assert_eq!(calls.load(Ordering::Relaxed), 0);
                    for _ in 0..2 {
                        assert_eq!(to_bytes(&array).unwrap(), stored, "{dtype:?} {shape:?}");
                        assert_eq!(calls.load(Ordering::Relaxed), 1);
                    }
                    // The array is there, what it was read from goes: MLX's threads let go of it when they are done.
                    while Arc::strong_count(&calls) > 1 {
                        std::thread::yield_now();
                    }
                }
            }
            reads.check().unwrap();
            let e = reads.array(&[1], Dtype::Int64, |_| Ok(())).unwrap_err();
            assert_eq!(e.status(), Status::Internal);
        });
    }

    #[test]
    fn what_fails_is_noted_and_others_are_computed() {
        on_device(|reads| {
            let ones = |bytes: &mut [u8]| {
                bytes.fill(1);
                Ok(())
            };
            let good = reads.array(&[64], Dtype::Uint8, ones).unwrap();
            let failing = reads.array(&[64], Dtype::Uint8, |bytes| {
                bytes.fill(9);
                Err(Error::model("file.safetensors: the file became shorter"))
            });
            let failing = failing.unwrap();
            let sum = mlx_rs::ops::add(&good, &failing).unwrap();
            assert_eq!(sum.to_vec_exact::<u8>().unwrap(), [1; 64]);
            let e = reads.check().unwrap_err();
            assert_eq!(e.status(), Status::ModelInvalid);
            assert!(e.message().contains("became shorter"), "{e}");
            reads.check().unwrap();

            let panics = reads.array(&[3], Dtype::Float32, |_| panic!("injected")).unwrap();
            assert_eq!(panics.to_vec_exact::<f32>().unwrap(), [0.0; 3]);
            let e = reads.check().unwrap_err();
            assert!(e.message().contains("injected"), "{e}");
            // The stream goes on.
            let good = reads.array(&[2], Dtype::Uint8, ones).unwrap();
            assert_eq!(good.to_vec_exact::<u8>().unwrap(), [1; 2]);
            reads.check().unwrap();
        });
    }

    #[test]
    fn an_array_that_is_never_computed_lets_go_of_its_source() {
        on_device(|reads| {
            let source = Arc::new(());
            let own = source.clone();
            let array = reads.array(&[1 << 30], Dtype::Float32, move |_| {
                let _ = &own;
                Ok(())
            });
            let array = array.unwrap();
            assert_eq!(Arc::strong_count(&source), 2);
            drop(array);
            assert_eq!(Arc::strong_count(&source), 1);
        });
    }
}
