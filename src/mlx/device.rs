//! Where a model runs: a stream on the GPU if MLX has one, else on the CPU.

use std::ffi::CStr;

use mlx_rs::{Stream, with_stream};

use crate::error::{Error, Result, Status};

/// The kinds of GPU that MLX runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gpu {
    /// Apple silicon.
    Metal,
    /// NVIDIA.
    Cuda,
}

/// A stream on the best device there is. It belongs to the thread that made it.
pub struct Device {
    stream: Stream,
    gpu: Option<Gpu>,
    name: String,
}

impl Device {
    /// The GPU (Metal or CUDA) if this build of MLX reaches one, else the CPU. The process's default
    /// device is left alone: the host may use MLX too.
    pub fn best() -> Result<Device> {
        super::init()?;
        let gpu = || if is_cuda() { Gpu::Cuda } else { Gpu::Metal };
        Self::of(is_available(mlx_sys::mlx_device_type__MLX_GPU).then(gpu))
    }

    /// The CPU, whatever else there is.
    pub fn cpu() -> Result<Device> {
        super::init()?;
        Self::of(None)
    }

    fn of(gpu: Option<Gpu>) -> Result<Device> {
        let kind = if gpu.is_some() { mlx_rs::Device::gpu() } else { mlx_rs::Device::cpu() };
        let stream = Stream::try_default_on_device(&kind)?;
        Ok(Device { stream, gpu, name: name(gpu.is_some()) })
    }

    /// Runs `f` with this stream as the calling thread's default.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> T {
        with_stream(&self.stream, f)
    }

    /// A handle to its stream.
    pub fn stream(&self) -> Stream {
        self.stream.clone()
    }

    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Which kind of GPU it is.
    pub fn gpu(&self) -> Option<Gpu> {
        self.gpu
    }

    /// Waits until everything launched so far is done and has let go of its arrays. (Waiting for a result is not
    /// enough: a GPU's inputs are released by another thread, some time after.)
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the stream's handle is live as long as the stream is.
        let status = unsafe { mlx_sys::mlx_synchronize(self.stream.as_ptr()) };
        match status {
            0 => Ok(()),
            _ => Err(Error::new(Status::DeviceError, "the device did not finish its work")),
        }
    }

    /// What people call it, as in `Apple M3 Max` or `CPU`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of memory not yet in use on the device: for a GPU of its own memory, else of the host's.
    pub fn available_memory(&self) -> Result<u64> {
        let in_use = mlx_rs::memory::active_memory()? as u64;
        let own = self.gpu.map(|_| {
            info_size(c"free_memory").or_else(|| {
                let limit = info_size(c"max_recommended_working_set_size")
                    .or_else(|| info_size(c"total_memory"))
                    .or_else(|| info_size(c"memory_size"))?;
                Some(limit.saturating_sub(in_use))
            })
        });
        own.flatten().or_else(super::available_host_memory).ok_or_else(|| {
            Error::new(Status::Internal, "the amount of free memory is not known; give the cache a size")
        })
    }
}

/// Whether this build of MLX is one for CUDA.
pub(super) fn is_cuda() -> bool {
    let mut available = false;
    // SAFETY: the result is written on success only.
    unsafe { mlx_sys::mlx_cuda_is_available(&mut available) == 0 && available }
}

/// Whether MLX reaches a device of this type.
fn is_available(kind: mlx_sys::mlx_device_type) -> bool {
    let mut available = false;
    // SAFETY: the handle lives until it is freed below, and the result is written on success only.
    let ok = unsafe {
        let device = mlx_sys::mlx_device_new_type(kind, 0);
        let ok = mlx_sys::mlx_device_is_available(&mut available, device) == 0;
        mlx_sys::mlx_device_free(device);
        ok
    };
    ok && available
}

/// Asks for a property of the GPU.
fn with_info<T>(key: &CStr, read: impl FnOnce(mlx_sys::mlx_device_info) -> Option<T>) -> Option<T> {
    // SAFETY: both handles live until they are freed; the key is a C string; `read` runs in between.
    unsafe {
        let device = mlx_sys::mlx_device_new_type(mlx_sys::mlx_device_type__MLX_GPU, 0);
        let mut info = mlx_sys::mlx_device_info_new();
        let mut exists = false;
        let found = mlx_sys::mlx_device_info_get(&mut info, device) == 0
            && mlx_sys::mlx_device_info_has_key(&mut exists, info, key.as_ptr()) == 0
            && exists;
        let value = if found { read(info) } else { None };
        mlx_sys::mlx_device_info_free(info);
        mlx_sys::mlx_device_free(device);
        value
    }
}

fn info_size(key: &CStr) -> Option<u64> {
    with_info(key, |info| {
        let mut size = 0usize;
        // SAFETY: `info` is live, and the result is written on success only.
        let ok = unsafe { mlx_sys::mlx_device_info_get_size(&mut size, info, key.as_ptr()) == 0 };
        ok.then_some(size as u64)
    })
}

fn name(gpu: bool) -> String {
    if !gpu {
        return "CPU".into();
    }
    let key = c"device_name";
    with_info(key, |info| {
        let mut text = std::ptr::null();
        // SAFETY: `info` is live and owns the text, which is copied before it goes.
        unsafe {
            let ok =
                mlx_sys::mlx_device_info_get_string(&mut text, info, key.as_ptr()) == 0 && !text.is_null();
            ok.then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    })
    .unwrap_or_else(|| "GPU".into())
}
