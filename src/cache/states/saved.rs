//! States as bytes: how much memory they take, to save and to load.

use std::rc::Rc;

use super::{Group, Place, SnapshotId, States};
use crate::error::{Error, Result};
use crate::mlx::{self, Array, Dtype};

impl States {
    /// Bytes of a snapshot, as [`States::read_snapshot`] gives them.
    pub fn snapshot_bytes(&self) -> usize {
        let layer: usize = self.shape.iter().flatten().map(part_bytes).sum();
        if self.are_kept() { size_of::<u32>() + self.layers * layer } else { 0 }
    }

    /// Bytes of all states there are, those of a step being computed left out.
    pub fn bytes(&self) -> u64 {
        let there = self.slots.iter().chain(&self.snapshots).flatten().count();
        (there * self.snapshot_bytes()) as u64
    }

    /// A snapshot as bytes: how many tokens it has seen, then layer by layer. No step is running.
    pub fn read_snapshot(&self, snapshot: SnapshotId) -> Result<Vec<u8>> {
        let kept = self.snapshots.get(snapshot as usize).and_then(Option::as_ref);
        let kept =
            kept.ok_or_else(|| Error::internal(format!("there is no snapshot {snapshot}")))?.alone()?;
        let mut bytes = kept.tokens.to_le_bytes().to_vec();
        for part in kept.group.layers.iter().flatten() {
            bytes.extend(mlx::to_bytes(part)?);
        }
        Ok(bytes)
    }

    /// Fills a snapshot with what [`States::read_snapshot`] gave.
    pub fn write_snapshot(&mut self, snapshot: SnapshotId, bytes: &[u8]) -> Result<()> {
        let want = self.snapshot_bytes();
        let (Some(shape), Some((tokens, mut rest)), true) =
            (&self.shape, bytes.split_first_chunk(), bytes.len() == want)
        else {
            return Err(Error::internal(format!("{} bytes for a state of {want}", bytes.len())));
        };
        let mut layers = Vec::with_capacity(self.layers);
        for _ in 0..self.layers {
            let mut next = |part: &(Vec<i32>, Dtype)| -> Result<Array> {
                let (own, after) = rest.split_at(part_bytes(part));
                rest = after;
                // An array's bytes have to be aligned, and these need not be.
                let aligned = Array::from_slice(own, &[own.len() as i32]);
                Ok(aligned.view_dtype(part.1)?.reshape(&part.0)?)
            };
            layers.push([next(&shape[0])?, next(&shape[1])?]);
        }
        let group = Rc::new(Group { layers, sequences: 1 });
        let place = Place { group, row: 0, tokens: u32::from_le_bytes(*tokens) };
        match self.snapshots.get_mut(snapshot as usize) {
            Some(kept) => *kept = Some(place),
            None => return Err(Error::internal(format!("snapshot {snapshot} of {}", self.snapshots.len()))),
        }
        Ok(())
    }
}

fn part_bytes((shape, dtype): &(Vec<i32>, Dtype)) -> usize {
    shape.iter().product::<i32>() as usize * if *dtype == Dtype::Float32 { 4 } else { 2 }
}
