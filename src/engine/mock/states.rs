//! The mock's recurrent layer: a state for each slot, which is the hash of all tokens it has seen.

use super::{ContextHash, MockRunner, broken};
use crate::cache::SnapshotId;
use crate::error::{Error, Result};
use crate::scheduler::{Row, StateSave, Step};

/// What the recurrent layer carries from token to token.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    seen: ContextHash,
    tokens: usize,
}

impl MockRunner {
    /// Brings states back; of two into one slot, one would be lost.
    pub(super) fn restore_states(&mut self, step: &Step) -> Result<()> {
        for (i, copy) in step.restores.iter().enumerate() {
            let kept = self.snapshots.get(copy.snapshot as usize).copied().flatten();
            let twice = step.restores[..i].iter().any(|other| other.slot == copy.slot);
            match (kept, self.states.get_mut(copy.slot as usize)) {
                (Some(state), Some(slot)) if !twice => *slot = Some(state),
                _ => return Err(Error::internal(format!("mock: {copy:?} cannot be made"))),
            }
        }
        Ok(())
    }

    /// Feeds the row's input to its recurrent state, and keeps what is to be kept on the way.
    pub(super) fn advance(&mut self, row: &Row, saves: &[StateSave]) -> Result<ContextHash> {
        let mut buffer = [0];
        let input = self.input(row, &mut buffer)?.to_vec();
        let slot = row.slot as usize;
        let mut state = match (row.start, self.states[slot]) {
            (0, _) => State { seen: ContextHash::new(), tokens: 0 },
            (start, Some(state)) if state.tokens == start as usize => state,
            (_, other) => return Err(broken(row, format_args!("its recurrent state is {other:?}"))),
        };
        let mut saves = saves.iter().filter(|save| save.slot == row.slot).peekable();
        for (i, token) in input.into_iter().enumerate() {
            state.seen.feed(token);
            state.tokens += 1;
            if let Some(save) = saves.next_if(|save| save.tokens as usize == i + 1) {
                match self.snapshots.get_mut(save.snapshot as usize) {
                    Some(kept) => *kept = Some(state),
                    None => return Err(broken(row, format_args!("{save:?} names no snapshot"))),
                }
            }
        }
        if let Some(save) = saves.next() {
            return Err(broken(row, format_args!("{save:?} is not on its way")));
        }
        self.states[slot] = Some(state);
        Ok(state.seen)
    }

    /// A snapshot, to be saved.
    pub(super) fn state_to_bytes(&self, snapshot: SnapshotId) -> Result<Vec<u8>> {
        match self.snapshots.get(snapshot as usize) {
            Some(Some(state)) => {
                Ok([state.seen.0.to_le_bytes(), (state.tokens as u64).to_le_bytes()].concat())
            }
            _ => Err(Error::internal(format!("mock: there is no snapshot {snapshot}"))),
        }
    }

    /// Fills a snapshot with what [`Self::state_to_bytes`] gave.
    pub(super) fn state_from_bytes(&mut self, snapshot: SnapshotId, state: &[u8]) -> Result<()> {
        match (self.snapshots.get_mut(snapshot as usize), state.as_chunks()) {
            (Some(kept), ([seen, tokens], [])) => {
                let seen = ContextHash(u64::from_le_bytes(*seen));
                *kept = Some(State { seen, tokens: u64::from_le_bytes(*tokens) as usize });
                Ok(())
            }
            _ => Err(Error::internal(format!("mock: {} bytes for snapshot {snapshot}", state.len()))),
        }
    }
}
