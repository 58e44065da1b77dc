//! The pool of blocks: who holds each, and which goes next.
//!
//! Promises:
//! - Allocating, sharing and releasing a block take constant time and never allocate memory.
//! - Every block is in exactly one state: *in use* (referenced), *cached* (unreferenced, its content
//!   still indexed) or *free*. `free + cached + in_use == total`, always.
//! - Free blocks are handed out before cached ones; cached ones go least recently released first.
//! - A misuse (double release, sharing a free block) is an error in every build and changes nothing.
//!
//! Unreferenced blocks form one doubly linked list threaded through the entries: free blocks at its
//! head, then cached blocks in the order of their release.

use super::BlockId;
use crate::error::{Error, Result};

/// The end of the list, and the links of a block that is not on it.
const NIL: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    refs: u32,
    prev: u32,
    next: u32,
    indexed: bool,
}

/// Blocks by state. See the module's page.
#[derive(Debug, Clone)]
pub struct BlockPool {
    entries: Vec<Entry>,
    head: u32,
    tail: u32,
    /// Blocks on the list: free and cached.
    available: u32,
    cached: u32,
}

/// A block fresh from [`BlockPool::allocate`], referenced once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocated {
    /// The block.
    pub block: BlockId,
    /// It was cached: the caller must take it out of the index, whose content it no longer has.
    pub evicted: bool,
}

impl BlockPool {
    /// A pool of `total` free blocks, numbered from zero.
    pub fn new(total: u32) -> Result<Self> {
        if total == 0 || total == NIL {
            return Err(Error::argument(format!("num_blocks is {total}, want 1 to {}", NIL - 1)));
        }
        let mut pool = BlockPool { entries: Vec::new(), head: NIL, tail: NIL, available: 0, cached: 0 };
        pool.refill(total);
        Ok(pool)
    }

    /// Makes every block free, whatever held it.
    pub fn reset(&mut self) {
        self.refill(self.total());
    }

    fn refill(&mut self, total: u32) {
        self.entries.clear();
        self.entries.extend((0..total).map(|i| Entry {
            refs: 0,
            prev: i.checked_sub(1).unwrap_or(NIL),
            next: if i + 1 < total { i + 1 } else { NIL },
            indexed: false,
        }));
        self.head = 0;
        self.tail = total - 1;
        self.available = total;
        self.cached = 0;
    }

    /// All blocks.
    pub fn total(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Blocks without content.
    pub fn free(&self) -> u32 {
        self.available - self.cached
    }

    /// Unreferenced blocks whose content is indexed: reusable as a prefix until they are evicted.
    pub fn cached(&self) -> u32 {
        self.cached
    }

    /// Referenced blocks.
    pub fn in_use(&self) -> u32 {
        self.total() - self.available
    }

    /// Blocks that [`Self::allocate`] can still hand out: free and cached.
    pub fn available(&self) -> u32 {
        self.available
    }

    /// How many hold this block; zero for a block that does not exist.
    pub fn refs(&self, block: BlockId) -> u32 {
        self.entries.get(block as usize).map_or(0, |e| e.refs)
    }

    /// Whether the block's content is in the prefix index.
    pub fn is_indexed(&self, block: BlockId) -> bool {
        self.entries.get(block as usize).is_some_and(|e| e.indexed)
    }

    /// Takes a block, referenced once: a free one if there is one, else the least recently released
    /// cached one. `None` when every block is in use.
    pub fn allocate(&mut self) -> Option<Allocated> {
        let block = self.head;
        if block == NIL {
            return None;
        }
        self.unlink(block);
        let entry = &mut self.entries[block as usize];
        entry.refs = 1;
        let evicted = std::mem::take(&mut entry.indexed);
        self.cached -= u32::from(evicted);
        Some(Allocated { block, evicted })
    }

    /// Adds a reference to a block that is in use or cached.
    pub fn acquire(&mut self, block: BlockId) -> Result<()> {
        let entry = *self.entry(block)?;
        if entry.refs == 0 {
            if !entry.indexed {
                return Err(Error::internal(format!("block {block} is free and cannot be shared")));
            }
            self.unlink(block);
            self.cached -= 1;
        }
        self.entries[block as usize].refs = entry
            .refs
            .checked_add(1)
            .ok_or_else(|| Error::internal(format!("block {block} has too many references")))?;
        Ok(())
    }

    /// Drops a reference. With the last one the block becomes cached (most recently used) if it is
    /// indexed, else free.
    pub fn release(&mut self, block: BlockId) -> Result<()> {
        let entry = *self.entry(block)?;
        if entry.refs == 0 {
            return Err(Error::internal(format!("block {block} is released twice")));
        }
        self.entries[block as usize].refs = entry.refs - 1;
        if entry.refs == 1 {
            if entry.indexed {
                self.cached += 1;
                self.push_back(block);
            } else {
                self.push_front(block);
            }
        }
        Ok(())
    }

    /// Notes that the index now knows the block's content. Only a block in use can enter the index.
    pub fn mark_indexed(&mut self, block: BlockId) -> Result<()> {
        let entry = *self.entry(block)?;
        if entry.refs == 0 || entry.indexed {
            return Err(Error::internal(format!(
                "block {block} cannot enter the index (references: {}, indexed: {})",
                entry.refs, entry.indexed
            )));
        }
        self.entries[block as usize].indexed = true;
        Ok(())
    }

    /// Notes that the index has dropped the block: a cached one becomes free.
    pub fn clear_indexed(&mut self, block: BlockId) -> Result<()> {
        let entry = *self.entry(block)?;
        if !entry.indexed {
            return Err(Error::internal(format!("block {block} is not indexed")));
        }
        self.entries[block as usize].indexed = false;
        if entry.refs == 0 {
            self.cached -= 1;
            self.unlink(block);
            self.push_front(block);
        }
        Ok(())
    }

    fn entry(&self, block: BlockId) -> Result<&Entry> {
        self.entries.get(block as usize).ok_or_else(|| {
            Error::internal(format!("block {block} does not exist (there are {})", self.entries.len()))
        })
    }

    fn unlink(&mut self, block: BlockId) {
        let Entry { prev, next, .. } = self.entries[block as usize];
        match prev {
            NIL => self.head = next,
            p => self.entries[p as usize].next = next,
        }
        match next {
            NIL => self.tail = prev,
            n => self.entries[n as usize].prev = prev,
        }
        let entry = &mut self.entries[block as usize];
        (entry.prev, entry.next) = (NIL, NIL);
        self.available -= 1;
    }

    fn push_front(&mut self, block: BlockId) {
        let old = std::mem::replace(&mut self.head, block);
        self.entries[block as usize].next = old;
        match old {
            NIL => self.tail = block,
            o => self.entries[o as usize].prev = block,
        }
        self.available += 1;
    }

    fn push_back(&mut self, block: BlockId) {
        let old = std::mem::replace(&mut self.tail, block);
        self.entries[block as usize].prev = old;
        match old {
            NIL => self.head = block,
            o => self.entries[o as usize].next = block,
        }
        self.available += 1;
    }

    /// Verifies the list (links, order, membership) and the counts, in time linear in the pool.
    pub fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::internal(format!("block pool: {what}")));
        let (mut at, mut prev, mut seen, mut cached) = (self.head, NIL, 0u32, 0u32);
        while at != NIL {
            let Some(entry) = self.entries.get(at as usize) else {
                return fail(format!("the list links to block {at}, which does not exist"));
            };
            seen += 1;
            if seen > self.total() {
                return fail("the list is a cycle".into());
            }
            if entry.prev != prev || entry.refs != 0 {
                return fail(format!("block {at} on the list is {entry:?}, after {prev}"));
            }
            if cached > 0 && !entry.indexed {
                return fail(format!("free block {at} is behind a cached one"));
            }
            cached += u32::from(entry.indexed);
            (prev, at) = (at, entry.next);
        }
        let unreferenced = self.entries.iter().filter(|e| e.refs == 0).count() as u32;
        if self.tail != prev || seen != self.available || seen != unreferenced || cached != self.cached {
            return fail(format!(
                "the list has {seen} blocks ({cached} cached) and ends at {prev}; recorded are {} \
                 ({} cached), end {}, and {unreferenced} are unreferenced",
                self.available, self.cached, self.tail
            ));
        }
        if self.free() + self.cached() + self.in_use() != self.total() {
            return fail("free + cached + in use is not the total".into());
        }
        Ok(())
    }
}
