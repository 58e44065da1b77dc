//! Recurrent states: what a layer like Mamba-2 carries from token to token, for each running sequence, and
//! snapshots of them.
//!
//! Promises:
//! - A slot's state is the one the last launched step left there, and its position is checked: a row that
//!   begins elsewhere is an error, a row that begins at 0 never sees what the slot held before.
//! - MLX's arrays never change, so states are passed on by reference: a batch that stays the same from step
//!   to step is not gathered, and a snapshot of a prompt's state costs no copy.
//! - Memory holds one state for each slot and each snapshot at most, and those of the step being computed: a
//!   sequence that leaves a batch takes only its own part along.

mod saved;

use std::ops::Range;
use std::rc::Rc;

use mlx_rs::ops;

use super::snapshots::{SnapshotId, StateCopy, StateSave};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype};

/// One layer's state of some sequences: the inputs that its convolution still sees, and the state proper;
/// `[sequences, ...]` each.
pub type LayerState = [Array; 2];

/// Shape and element type of each part of one sequence's state in a layer, `[1, ...]`.
pub type StateShape = [(Vec<i32>, Dtype); 2];

/// States of sequences that ran together.
struct Group {
    layers: Vec<LayerState>,
    sequences: usize,
}

/// Where a sequence's state is.
#[derive(Clone)]
struct Place {
    group: Rc<Group>,
    row: usize,
    /// How many tokens it has seen.
    tokens: u32,
}

impl Place {
    /// The same state without its neighbours.
    fn alone(&self) -> Result<Place> {
        if self.group.sequences == 1 {
            return Ok(self.clone());
        }
        let row = Array::from_slice(&[self.row as u32], &[1]);
        let take = |[a, b]: &LayerState| -> Result<LayerState> {
            Ok([a.take_axis(&row, 0)?, b.take_axis(&row, 0)?])
        };
        let layers = self.group.layers.iter().map(take).collect::<Result<_>>()?;
        Ok(Place { group: Rc::new(Group { layers, sequences: 1 }), row: 0, tokens: self.tokens })
    }
}

/// A step's row, as far as states go.
#[derive(Debug, Clone, Copy)]
pub struct StateRow {
    /// Its sequence's slot.
    pub slot: u32,
    /// Position of its first token.
    pub start: u32,
    /// How many tokens it has.
    pub tokens: u32,
}

/// States of running sequences, by slot, and of snapshots. Empty for a model without recurrent layers.
#[derive(Default)]
pub struct States {
    layers: usize,
    shape: Option<StateShape>,
    slots: Vec<Option<Place>>,
    snapshots: Vec<Option<Place>>,
    /// What the step being built leaves: for each of its outputs, each layer's state.
    written: Vec<Vec<LayerState>>,
    /// Groups made by the last step.
    made: Vec<Rc<Group>>,
}

/// A step's rows, grouped by how a recurrent layer computes them.
#[derive(Default)]
pub struct StateRows {
    /// Sequences of one token each: the step's first rows.
    pub singles: Option<Singles>,
    /// Sequences of several tokens, in the order of their rows.
    pub chunks: Vec<Chunk>,
    outputs: usize,
}

/// One token each of several sequences. They write output 0.
pub struct Singles {
    /// How many.
    pub sequences: i32,
    rows: Vec<StateRow>,
    sources: Vec<Source>,
    /// Which row's state becomes which snapshot.
    saves: Vec<(usize, SnapshotId)>,
}

/// Several tokens of one sequence.
pub struct Chunk {
    /// Which of the step's rows.
    pub rows: Range<i32>,
    /// Where states are wanted, in tokens from the chunk's first, ascending; the last is the chunk's end.
    /// The state at `ends[i]` is output `output + i`.
    pub ends: Vec<i32>,
    /// The first output.
    pub output: usize,
    row: StateRow,
    source: Option<Place>,
    /// Which snapshot each end becomes.
    saves: Vec<Option<SnapshotId>>,
}

/// States in a row, of sequences in a row.
enum Source {
    Zeros(i32),
    All(Rc<Group>),
    Some(Rc<Group>, Array),
}

impl Singles {
    /// A layer's states, `[sequences, ...]` each; `zeros` is a state `[1, ...]` before the first token.
    pub fn read(&self, layer: usize, zeros: &LayerState) -> Result<LayerState> {
        let mut parts: [Vec<Array>; 2] = [Vec::new(), Vec::new()];
        for source in &self.sources {
            for (which, part) in parts.iter_mut().enumerate() {
                part.push(match source {
                    Source::Zeros(n) => {
                        let mut shape = zeros[which].shape().to_vec();
                        shape[0] = *n;
                        ops::broadcast_to(&zeros[which], &shape)?
                    }
                    Source::All(group) => layer_of(group, layer)?[which].clone(),
                    Source::Some(group, rows) => layer_of(group, layer)?[which].take_axis(rows, 0)?,
                });
            }
        }
        let [a, b] = parts;
        Ok([joined(a)?, joined(b)?])
    }
}

impl Chunk {
    /// A layer's state before the chunk, `[1, ...]` each; `None` if it is the sequence's beginning.
    pub fn read(&self, layer: usize) -> Result<Option<LayerState>> {
        let Some(place) = &self.source else { return Ok(None) };
        Ok(Some(layer_of(&place.group, layer)?.clone()))
    }
}

fn layer_of(group: &Group, layer: usize) -> Result<&LayerState> {
    group.layers.get(layer).ok_or_else(|| Error::internal(format!("recurrent layer {layer} has no state")))
}

fn joined(mut parts: Vec<Array>) -> Result<Array> {
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => Ok(ops::concatenate(&parts, 0)?),
    }
}

impl States {
    /// No states yet, of `layers` recurrent layers with such states, for so many slots and snapshots.
    pub fn new(layers: usize, shape: StateShape, slots: usize, snapshots: usize) -> States {
        let (slots, snapshots) = (vec![None; slots], vec![None; snapshots]);
        States { layers, shape: Some(shape), slots, snapshots, ..States::default() }
    }

    /// Whether the model has recurrent layers.
    pub fn are_kept(&self) -> bool {
        self.layers > 0
    }

    /// Brings snapshots back into slots.
    pub fn restore(&mut self, copies: &[StateCopy]) -> Result<()> {
        for copy in copies {
            let kept = self.snapshots.get(copy.snapshot as usize).cloned().flatten();
            let kept =
                kept.ok_or_else(|| Error::internal(format!("there is no snapshot {}", copy.snapshot)))?;
            *self.slot_mut(copy.slot)? = Some(kept);
        }
        Ok(())
    }

    /// Lays out a step's rows. Those of one token that come first are computed together; the others one
    /// sequence at a time, cut where their states are to be kept.
    pub fn rows(&self, rows: &[StateRow], saves: &[StateSave]) -> Result<StateRows> {
        if !self.are_kept() {
            return Ok(StateRows::default());
        }
        if let Some(save) = saves.iter().find(|save| save.snapshot as usize >= self.snapshots.len()) {
            return Err(Error::internal(format!("snapshot {} of {}", save.snapshot, self.snapshots.len())));
        }
        let singles = rows.iter().take_while(|row| row.tokens == 1).count();
        let (first, rest) = rows.split_at(singles);
        let mut laid = StateRows::default();
        if singles > 0 {
            let sources = first.iter().map(|row| self.source(row)).collect::<Result<Vec<_>>>()?;
            let snapshot = |(i, row): (usize, &StateRow)| {
                let save = saves.iter().find(|save| save.slot == row.slot && save.tokens == 1)?;
                Some((i, save.snapshot))
            };
            laid.singles = Some(Singles {
                sequences: singles as i32,
                rows: first.to_vec(),
                sources: runs(&sources),
                saves: first.iter().enumerate().filter_map(snapshot).collect(),
            });
            laid.outputs = 1;
        }
        let mut at = singles as i32;
        for row in rest {
            let chunk = self.chunk(row, saves, at, laid.outputs)?;
            at = chunk.rows.end;
            laid.outputs += chunk.ends.len();
            laid.chunks.push(chunk);
        }
        Ok(laid)
    }

    fn chunk(&self, row: &StateRow, saves: &[StateSave], first: i32, output: usize) -> Result<Chunk> {
        let own = saves.iter().filter(|save| save.slot == row.slot);
        let mut cuts: Vec<(i32, Option<SnapshotId>)> =
            own.map(|save| (save.tokens as i32, Some(save.snapshot))).collect();
        if cuts.last().is_none_or(|(end, _)| *end != row.tokens as i32) {
            cuts.push((row.tokens as i32, None));
        }
        let ascending = cuts.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ascending || cuts[0].0 < 1 {
            return Err(Error::internal(format!("slot {}: states wanted at {cuts:?}", row.slot)));
        }
        let (ends, saves) = cuts.into_iter().unzip();
        let rows = first..first + row.tokens as i32;
        let source = self.source(row)?.map(|place| place.alone()).transpose()?;
        Ok(Chunk { rows, ends, output, row: *row, source, saves })
    }

    /// Where the row's state is; `None` if it begins a sequence.
    fn source(&self, row: &StateRow) -> Result<Option<Place>> {
        if row.start == 0 {
            return Ok(None);
        }
        match self.slots.get(row.slot as usize) {
            Some(Some(place)) if place.tokens == row.start => Ok(Some(place.clone())),
            Some(Some(place)) => Err(Error::internal(format!(
                "slot {} has the state after {} tokens, but its row starts at {}",
                row.slot, place.tokens, row.start
            ))),
            _ => Err(Error::internal(format!("slot {} has no state", row.slot))),
        }
    }

    /// Begins to take a step's states.
    pub fn begin(&mut self, rows: &StateRows) {
        self.made.clear();
        self.written = (0..rows.outputs).map(|_| Vec::with_capacity(self.layers)).collect();
    }

    /// Takes the next layer's state of one of the step's outputs.
    pub fn write(&mut self, output: usize, state: LayerState) -> Result<()> {
        let written = self.written.get_mut(output);
        written.ok_or_else(|| Error::internal(format!("the step has no state output {output}")))?.push(state);
        Ok(())
    }

    /// Puts what the step wrote where it belongs.
    pub fn commit(&mut self, rows: &StateRows) -> Result<()> {
        self.made.clear();
        let mut outputs = std::mem::take(&mut self.written)
            .into_iter()
            .map(|layers| Rc::new(Group { layers, sequences: 1 }));
        let mut stays = vec![false; self.slots.len()];
        let missing = || Error::internal("a step left fewer states than it has rows");
        if let Some(singles) = &rows.singles {
            let layers = outputs.next().and_then(Rc::into_inner).ok_or_else(missing)?.layers;
            let group = self.keep(Group { layers, sequences: singles.rows.len() })?;
            for (row, at) in singles.rows.iter().enumerate() {
                let place = Place { group: group.clone(), row, tokens: at.start + 1 };
                *self.slot_mut(at.slot)? = Some(place);
                stays[at.slot as usize] = true;
            }
            for &(row, snapshot) in &singles.saves {
                let place =
                    Place { group: group.clone(), row, tokens: singles.rows[row].start + 1 }.alone()?;
                self.made.push(place.group.clone());
                self.snapshots[snapshot as usize] = Some(place);
            }
        }
        for chunk in &rows.chunks {
            for (&end, &snapshot) in chunk.ends.iter().zip(&chunk.saves) {
                let layers = outputs.next().and_then(Rc::into_inner).ok_or_else(missing)?.layers;
                let group = self.keep(Group { layers, sequences: 1 })?;
                let place = Place { group, row: 0, tokens: chunk.row.start + end as u32 };
                if let Some(snapshot) = snapshot {
                    self.snapshots[snapshot as usize] = Some(place.clone());
                }
                *self.slot_mut(chunk.row.slot)? = Some(place);
            }
            stays[chunk.row.slot as usize] = true;
        }
        self.part_from_neighbours(&stays)
    }

    fn keep(&mut self, group: Group) -> Result<Rc<Group>> {
        if group.layers.len() != self.layers {
            let (have, want) = (group.layers.len(), self.layers);
            return Err(Error::internal(format!("{have} of {want} recurrent layers left a state")));
        }
        let group = Rc::new(group);
        self.made.push(group.clone());
        Ok(group)
    }

    /// Sequences that did not take part keep their own state only, not those they last ran with.
    fn part_from_neighbours(&mut self, stays: &[bool]) -> Result<()> {
        for (slot, _) in self.slots.iter_mut().zip(stays).filter(|(_, stays)| !**stays) {
            if let Some(place) = slot.as_ref().filter(|place| place.group.sequences > 1) {
                let alone = place.alone()?;
                self.made.push(alone.group.clone());
                *slot = Some(alone);
            }
        }
        Ok(())
    }

    fn slot_mut(&mut self, slot: u32) -> Result<&mut Option<Place>> {
        let slots = self.slots.len();
        self.slots.get_mut(slot as usize).ok_or_else(|| Error::internal(format!("slot {slot} of {slots}")))
    }

    /// The arrays that the last step made, to evaluate with its result.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.made.iter().flat_map(|group| &group.layers).flatten()
    }
}

/// States in a row that lie in a row are read at once.
fn runs(places: &[Option<Place>]) -> Vec<Source> {
    let same = |a: &Option<Place>, b: &Option<Place>| match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Rc::ptr_eq(&a.group, &b.group),
        _ => false,
    };
    let source = |run: &[Option<Place>]| {
        let rows: Vec<u32> = run.iter().flatten().map(|place| place.row as u32).collect();
        match &run[0] {
            None => Source::Zeros(run.len() as i32),
            Some(place) if rows.iter().copied().eq(0..place.group.sequences as u32) => {
                Source::All(place.group.clone())
            }
            Some(place) => Source::Some(place.group.clone(), Array::from_slice(&rows, &[rows.len() as i32])),
        }
    };
    places.chunk_by(same).map(source).collect()
}
