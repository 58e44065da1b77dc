//! Numbers that launches want to know, in the device's memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mlx_rs::ops;

use crate::error::Result;
use crate::mlx::Array;

/// As many as are kept: a model's matrices, each with the row counts of decoding and of the latest prompts.
const MOST: usize = 1024;

/// Arrays of four numbers; one that was asked for before is not made again.
#[derive(Default)]
pub(super) struct Sizes {
    known: RefCell<BTreeMap<[u32; 4], Array>>,
}

impl Sizes {
    /// These, unsigned 32-bit, `[4]`.
    pub(super) fn array(&self, sizes: [i32; 4]) -> Result<Array> {
        let key = sizes.map(i32::cast_unsigned);
        let mut known = self.known.borrow_mut();
        if let Some(array) = known.get(&key) {
            return Ok(array.clone());
        }
        if known.len() >= MOST {
            known.clear();
        }
        // A copy that the device makes lies in its own memory.
        let array = ops::add(Array::from_slice(&key, &[4]), Array::from_slice(&[0u32], &[1]))?;
        known.insert(key, array.clone());
        Ok(array)
    }
}
