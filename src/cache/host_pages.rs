//! Page storage for CPU kernels: a layer's keys and values in plain memory, in half precision.
//!
//! Promises: zeros until written, and memory is taken as pages fill; running out of memory is an error.

use super::{BlockCopy, PageLayout};
use crate::error::{Error, Result, Status};

/// One layer's pool: blocks one after the other, keys apart from values. What a block looks like inside is
/// the kernels' business.
pub struct HostPool {
    keys: Zeroed,
    values: Zeroed,
    /// Numbers a block takes, of keys or of values.
    span: usize,
}

impl HostPool {
    /// Bytes a number takes.
    pub const ELEMENT_BYTES: usize = size_of::<u16>();

    /// A pool of zeros.
    ///
    /// Errors: `OutOfMemory`.
    pub fn new(layout: &PageLayout) -> Result<HostPool> {
        let span = layout.kv_heads * layout.head_dim * layout.block_size;
        let len = span * layout.total_blocks();
        Ok(HostPool { keys: Zeroed::new(len)?, values: Zeroed::new(len)?, span })
    }

    /// Bytes it takes when full.
    pub fn bytes(&self) -> u64 {
        2 * (self.keys.len * Self::ELEMENT_BYTES) as u64
    }

    /// Keys and values, to read and write: bits of IEEE 754's half precision.
    ///
    /// # Safety
    /// No other use of them lives: operations of one CPU stream follow each other.
    #[expect(clippy::mut_from_ref, reason = "exclusiveness is the caller's promise")]
    pub unsafe fn parts(&self) -> (&mut [u16], &mut [u16]) {
        // SAFETY: by the caller.
        unsafe { (self.keys.slice(), self.values.slice()) }
    }

    /// Appends a block's keys, then its values, to `bytes`.
    ///
    /// # Safety
    /// As [`HostPool::parts`].
    pub unsafe fn read(&self, block: usize, bytes: &mut Vec<u8>) {
        // SAFETY: by the caller.
        let (keys, values) = unsafe { self.parts() };
        for pool in [keys, values] {
            bytes.extend(pool[block * self.span..][..self.span].iter().flat_map(|x| x.to_ne_bytes()));
        }
    }

    /// Fills a block with what [`HostPool::read`] appended.
    ///
    /// # Safety
    /// As [`HostPool::parts`].
    pub unsafe fn write(&self, block: usize, bytes: &[u8]) {
        // SAFETY: by the caller.
        let (keys, values) = unsafe { self.parts() };
        let (from_keys, from_values) = bytes.split_at(bytes.len() / 2);
        for (pool, bytes) in [(keys, from_keys), (values, from_values)] {
            for (x, bytes) in pool[block * self.span..][..self.span].iter_mut().zip(bytes.as_chunks().0) {
                *x = u16::from_ne_bytes(*bytes);
            }
        }
    }

    /// Copies whole blocks.
    ///
    /// # Safety
    /// As [`HostPool::parts`].
    pub unsafe fn copy_blocks(&self, copies: &[BlockCopy]) {
        // SAFETY: by the caller.
        let (keys, values) = unsafe { self.parts() };
        for copy in copies {
            let from = copy.from as usize * self.span;
            for pool in [&mut *keys, &mut *values] {
                pool.copy_within(from..from + self.span, copy.to as usize * self.span);
            }
        }
    }
}

/// Numbers that were zeros when allocated.
struct Zeroed {
    pointer: *mut u16,
    len: usize,
    bytes: usize,
}

// SAFETY: it owns its memory; who reads and writes it is the business of `slice`'s callers.
unsafe impl Send for Zeroed {}
// SAFETY: as above.
unsafe impl Sync for Zeroed {}

impl Zeroed {
    fn new(len: usize) -> Result<Zeroed> {
        let refused =
            || Error::new(Status::OutOfMemory, format!("no memory for {len} numbers of a page pool"));
        let bytes = len.checked_mul(HostPool::ELEMENT_BYTES).filter(|bytes| isize::try_from(*bytes).is_ok());
        let bytes = bytes.ok_or_else(refused)?.max(1);
        // Not calloc: what that takes from its heap it fills with zeros at once, and a pool is mostly empty.
        // SAFETY: a new mapping of this process's own, backed by nothing.
        let pointer = unsafe {
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
            libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0)
        };
        if pointer == libc::MAP_FAILED {
            Err(refused())
        } else {
            Ok(Zeroed { pointer: pointer.cast(), len, bytes })
        }
    }

    /// # Safety
    /// No other slice of it lives.
    #[expect(clippy::mut_from_ref, reason = "exclusiveness is the caller's promise")]
    unsafe fn slice(&self) -> &mut [u16] {
        // SAFETY: the memory has `len` numbers; by the caller nobody else uses them.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.len) }
    }
}

impl Drop for Zeroed {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; nobody uses it any more. It cannot fail for a mapping that
        // is there, and if it did, there would be nothing to be done.
        unsafe { libc::munmap(self.pointer.cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_copied_and_the_impossible_is_refused() {
        let layout = PageLayout { kv_heads: 1, num_blocks: 2, block_size: 2, head_dim: 2 };
        let pool = HostPool::new(&layout).unwrap();
        assert_eq!(pool.bytes(), 2 * 3 * 4 * 2);
        // SAFETY: one thread, one slice at a time.
        unsafe {
            pool.parts().0[..4].fill(1);
            pool.parts().1[3] = 2;
            pool.copy_blocks(&[BlockCopy { from: 0, to: 2, tokens: 1 }]);
            assert_eq!(pool.parts().0, [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]);
            assert_eq!(pool.parts().1[8..], [0, 0, 0, 2]);
        }
        let huge = PageLayout { num_blocks: 1 << 50, ..layout };
        assert_eq!(HostPool::new(&huge).err().map(|e| e.status()), Some(Status::OutOfMemory));
    }
}
