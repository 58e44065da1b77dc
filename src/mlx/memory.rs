//! Memory of the host, and returning what is only zeros to it.

use super::Array;

/// Bytes of physical memory the host has, if it says so.
pub fn host_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return meminfo("MemTotal:");
    #[cfg(not(target_os = "linux"))]
    {
        // SAFETY: sysconf reads no memory of ours.
        let (pages, size) =
            unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
        Some(u64::try_from(pages).ok()? * u64::try_from(size).ok()?)
    }
}

/// Bytes of memory programs can still get without swapping; where the system does not say, half of all.
pub fn available_host_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return meminfo("MemAvailable:").or_else(host_memory);
    #[cfg(not(target_os = "linux"))]
    return host_memory().map(|all| all / 2);
}

#[cfg(target_os = "linux")]
fn meminfo(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Gives the memory of an evaluated array of zeros back to the system, which brings zeros again where
/// the array is touched: a page pool takes memory as it fills. Does nothing where the system has no
/// such promise (only Linux has), or for an array on a GPU.
pub fn return_zero_pages(array: &Array, on_gpu: bool) {
    if on_gpu || !cfg!(target_os = "linux") {
        return;
    }
    #[cfg(target_os = "linux")]
    // SAFETY: the range lies inside the array's own buffer, which is private anonymous memory (MLX's CPU
    // allocator is malloc) and holds zeros; MADV_DONTNEED makes such pages read as zeros.
    unsafe {
        let start = mlx_sys::mlx_array_data_uint8(array.as_ptr()) as usize;
        let Ok(page) = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)) else { return };
        let (first, end) = (start.next_multiple_of(page), (start + array.nbytes()) / page * page);
        if start != 0 && end > first {
            libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_DONTNEED);
        }
    }
}

/// Has the C library give free memory back to the system, where it keeps some (glibc).
pub fn trim_host_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the allocator is thread safe, and only memory that is free goes.
    unsafe {
        libc::malloc_trim(0);
    }
}
