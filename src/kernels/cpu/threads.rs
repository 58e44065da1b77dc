//! A few threads that run the parts of one kernel side by side.
//!
//! Kernels last tens to hundreds of microseconds and follow each other closely, so idle threads spin for a
//! moment before they sleep. Waking one takes as long as a kernel: a run waits only for those that joined it
//! before its last part was taken. The threads end when the pool is dropped.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::error::Error;

/// How often an idle thread looks for work before it sleeps: some 200 microseconds.
const SPINS: u32 = 20_000;
/// How often the caller looks whether a run's last parts are done before it offers its core to others.
const SPINS_AT_THE_END: u32 = 2000;

/// [`Shared::gate`] of a run that may be joined.
const OPEN: u64 = 1 << 63;
/// The part of [`Shared::gate`] that counts workers.
const JOINED: u64 = 0xffff;
/// One run, in [`Shared::gate`].
const ONE_RUN: u64 = JOINED + 1;

/// A pool of threads. The calling thread does its share too.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a run: one at a time.
    running: Mutex<()>,
}

struct Shared {
    /// [`OPEN`] while workers may join the current run, how many runs there were, how many workers joined.
    gate: AtomicU64,
    job: UnsafeCell<Job>,
    next_part: AtomicUsize,
    /// Workers that joined the current run and are done with it.
    done: AtomicU64,
    /// The first panic of the current run.
    failed: Mutex<Option<Error>>,
    closing: AtomicBool,
}

#[derive(Clone, Copy)]
struct Job {
    parts: usize,
    work: *const (dyn Fn(usize) + Sync),
}

// SAFETY: `job` is written only between runs, when the gate is closed and every worker that joined is done;
// opening the gate (release) publishes it to the workers that join (acquire).
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is used only during the run that set it, which its referent outlives.
unsafe impl Send for Shared {}

impl Shared {
    fn work_off(&self, job: Job) {
        // SAFETY: the caller of `Threads::run` keeps the closure alive until every worker is done.
        let work = unsafe { &*job.work };
        loop {
            let part = self.next_part.fetch_add(1, Ordering::Relaxed);
            if part >= job.parts {
                return;
            }
            let done = crate::panic::catch(|| {
                work(part);
                Ok(())
            });
            if let Err(error) = done {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    }

    fn serve(&self) {
        let mut seen = 0;
        let mut spins = 0;
        while !self.closing.load(Ordering::Relaxed) {
            if let Some(run) = self.join(seen) {
                seen = run;
                spins = 0;
                // SAFETY: this thread has joined, so nobody writes the job until it is done.
                self.work_off(unsafe { *self.job.get() });
                self.done.fetch_add(1, Ordering::Release);
            } else if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                // A wake-up since the last look is not lost: parking then returns at once.
                std::thread::park();
                spins = 0;
            }
        }
    }

    /// Joins the current run if it is another than the last one `seen` and still open; returns which it is.
    fn join(&self, seen: u64) -> Option<u64> {
        let gate = self.gate.load(Ordering::Relaxed);
        let run = gate & !OPEN & !JOINED;
        if gate & OPEN == 0 || run == seen {
            return None;
        }
        self.gate.compare_exchange(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed).ok().map(|_| run)
    }
}

impl Threads {
    /// A pool of `count` threads, the caller of [`Threads::run`] included. Fewer if the system refuses.
    pub fn new(count: usize) -> Self {
        let nothing: &'static (dyn Fn(usize) + Sync) = &|_| ();
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            job: UnsafeCell::new(Job { parts: 0, work: nothing }),
            next_part: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            failed: Mutex::new(None),
            closing: AtomicBool::new(false),
        });
        let workers = (1..count)
            .map_while(|i| {
                let shared = shared.clone();
                let builder = std::thread::Builder::new().name(format!("quire-cpu-{i}"));
                builder.spawn(move || shared.serve()).ok()
            })
            .collect();
        Threads { shared, workers, running: Mutex::new(()) }
    }

    /// One thread a core that this process may use.
    pub fn per_core() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// How many threads work.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with each of `0..parts`, side by side, and returns when all are done.
    ///
    /// # Panics
    /// If a part panicked, after all are done.
    pub fn run(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        if parts <= 1 || self.workers.is_empty() {
            (0..parts).for_each(work);
            return;
        }
        let guard = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only the lifetime changes: this function returns after the last use.
        let work: *const (dyn Fn(usize) + Sync) =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work) };
        let job = Job { parts, work };
        // SAFETY: no run is on (`running` is held, and the last one waited for all who joined).
        unsafe { *self.shared.job.get() = job };
        self.shared.next_part.store(0, Ordering::Relaxed);
        self.shared.done.store(0, Ordering::Relaxed);
        let last = self.shared.gate.load(Ordering::Relaxed) & !JOINED;
        self.shared.gate.store((last + ONE_RUN) | OPEN, Ordering::Release);
        self.workers.iter().for_each(|worker| worker.thread().unpark());
        self.shared.work_off(job);
        let joined = self.shared.gate.fetch_and(!OPEN, Ordering::Relaxed) & JOINED;
        let mut spins = 0;
        while self.shared.done.load(Ordering::Acquire) < joined {
            spins += 1;
            // The other threads may have to wait for a core; then this one should not keep one.
            if spins < SPINS_AT_THE_END { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(guard);
        if let Some(error) = failed {
            panic!("{}", error.message());
        }
    }

    /// Splits `0..items` into about four ranges a thread, none shorter than `least`, and runs `work` on each.
    pub fn ranges(&self, items: usize, least: usize, work: impl Fn(std::ops::Range<usize>) + Sync) {
        let parts = (items / least.max(1)).clamp(1, self.count() * 4);
        self.run(parts, &|part| work(items * part / parts..items * (part + 1) / parts));
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches its panics; it cannot fail.
            let _ = worker.join();
        }
    }
}

/// A slice that several threads write, each its own elements.
pub(super) struct Scattered<'a, T> {
    pointer: *mut T,
    len: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: handed out in disjoint pieces only, by the contract of `range`.
unsafe impl<T: Send> Sync for Scattered<'_, T> {}

impl<'a, T: Copy> Scattered<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Scattered { pointer: slice.as_mut_ptr(), len: slice.len(), slice: std::marker::PhantomData }
    }

    /// Writes one element.
    ///
    /// # Safety
    /// It is in no live range, and no other thread writes it.
    pub unsafe fn set(&self, at: usize, value: T) {
        assert!(at < self.len);
        // SAFETY: in bounds, and nobody else's by contract.
        unsafe { self.pointer.add(at).write(value) }
    }

    /// The elements of a range, to write.
    ///
    /// # Safety
    /// No two live ranges overlap.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub unsafe fn range(&self, range: std::ops::Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds, and disjoint from other live ranges by contract.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_a_run() {
        let threads = Threads::new(3);
        for parts in [0, 1, 2, 7, 100] {
            for _ in 0..200 {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                threads.run(parts, &|part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn ranges_cover_everything_once() {
        let threads = Threads::new(2);
        for items in [0, 1, 5, 64, 1000] {
            let mut seen = vec![0u8; items];
            let scattered = Scattered::new(&mut seen);
            threads.ranges(items, 8, |range| {
                // SAFETY: `ranges` hands out disjoint ranges.
                unsafe { scattered.range(range) }.iter_mut().for_each(|s| *s += 1);
            });
            assert!(seen.iter().all(|s| *s == 1), "{items}");
        }
    }

    #[test]
    fn a_panic_arrives_and_the_pool_goes_on() {
        let threads = Threads::new(2);
        let caught = crate::panic::catch(|| {
            threads.run(8, &|part| assert_ne!(part, 3, "the third"));
            Ok(())
        });
        assert!(caught.unwrap_err().message().contains("the third"));
        let count = AtomicUsize::new(0);
        threads.run(8, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 8);
    }
}
