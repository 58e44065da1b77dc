//! Runs steps on MLX.
//!
//! Promises: `launch` never waits for the tokens of the step it launches, and a step's sampled tokens go
//! into the next one without leaving the device; the page pool is never copied, since the next step's
//! writes are evaluated only after the last step's reads are done; nothing of a step that fails can
//! write outside the pool, because ids are checked before the graph is built.

use std::collections::VecDeque;

use mlx_rs::ops::{self, indexing};
use mlx_rs::transforms::async_eval;

use super::{MemoryUse, Runner, Sampled};
use crate::cache::pages::Pages;
use crate::cache::states::States;
use crate::cache::{BlockId, PageLayout, SnapshotId};
use crate::error::{Error, Result, Status};
use crate::mlx::{self, Array, Device, Dtype};
use crate::model::Model;
use crate::model::batch::Batch;
use crate::model::layers::Kernels;
use crate::sampling::{SamplingParams, device::sample};
use crate::scheduler::{Row, RowInput, SequenceId, Step};

/// A model, its pages, and the steps in flight. Lives on one thread.
pub struct MlxRunner {
    // Dropped before the device they live on.
    model: Box<dyn Model>,
    pages: Pages,
    /// The token each slot sampled last, `[max_sequences]`, unsigned 32-bit.
    last: Array,
    in_flight: VecDeque<InFlight>,
    shape: Shape,
    weight_bytes: u64,
    kernels: Kernels,
    device: Device,
}

/// Sizes that ids are checked against.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Slots for sequences.
    pub max_sequences: usize,
    /// Token ids are below this.
    pub vocab_size: usize,
    /// Layers that have pages.
    pub layers: usize,
    /// Layers that have recurrent states.
    pub recurrent_layers: usize,
    /// Snapshots of such states.
    pub snapshots: usize,
}

/// A launched step.
struct InFlight {
    /// The sequences that sample, in row order.
    ids: Vec<SequenceId>,
    /// Their tokens, or where none samples anything the step computes last.
    result: Array,
}

impl MlxRunner {
    /// Takes a loaded model and makes its page pool.
    ///
    /// Errors: `OutOfMemory`; `InvalidArgument` if the pool is larger than MLX can index.
    pub fn new(
        device: Device,
        model: Box<dyn Model>,
        kernels: Kernels,
        layout: PageLayout,
        shape: Shape,
        weight_bytes: u64,
    ) -> Result<MlxRunner> {
        let (pages, last) = device.run(|| -> Result<_> {
            let pages = make_pages(layout, shape, model.as_ref(), &kernels)?;
            Ok((pages, no_tokens(shape.max_sequences)?))
        })?;
        let in_flight = VecDeque::new();
        Ok(MlxRunner { model, pages, last, in_flight, shape, weight_bytes, kernels, device })
    }

    fn build(&mut self, step: &Step, params: &[Option<&SamplingParams>]) -> Result<InFlight> {
        let (batch, hidden) = self.forward(step, params)?;
        let model = self.model.as_ref();

        let sampling = || step.rows.iter().filter(|row| row.samples);
        let ids = sampling().map(|row| row.id).collect();
        let Some(outputs) = &batch.outputs else { return Ok(InFlight { ids, result: hidden }) };
        let logits = mlx::rows(&model.logits(&hidden, outputs)?, batch.wanted as i32)?;
        let how: Vec<(&SamplingParams, u32)> = step
            .rows
            .iter()
            .zip(params)
            .filter(|(row, _)| row.samples)
            .filter_map(|(row, params)| params.map(|params| (params, row.sampled_before)))
            .collect();
        let result = sample(&logits, &how)?;
        let slots: Vec<u32> = sampling().map(|row| row.slot).collect();
        let slots = Array::from_slice(&slots, &[slots.len() as i32]);
        let update = result.reshape(&[-1, 1])?;
        self.last = indexing::scatter_single(&self.last, slots, update, 0)?;
        Ok(InFlight { ids, result })
    }

    /// A step's graph up to the last layer.
    fn forward(&mut self, step: &Step, params: &[Option<&SamplingParams>]) -> Result<(Batch, Array)> {
        check(step, params, self.pages.layout(), self.shape)?;
        self.pages.copy_blocks(&step.copies)?;
        self.pages.states_mut().restore(&step.restores)?;
        let model = self.model.as_ref();
        let batch = Batch::new(&step.rows, &step.copies, &self.pages, model, &self.kernels)?;
        let batch = batch.keeping(&step.rows, &step.saves, &self.pages)?;
        let tokens = self.tokens(&step.rows, batch.rows)?;
        self.pages.states_mut().begin(&batch.states);
        let hidden = model.forward(&tokens, &batch, &mut self.pages)?;
        self.pages.states_mut().commit(&batch.states)?;
        Ok((batch, hidden))
    }

    /// A step's input tokens, `[rows]`: from the host, or what a slot sampled last.
    fn tokens(&self, rows: &[Row], filled_up: usize) -> Result<Array> {
        let mut host: Vec<u32> = Vec::with_capacity(filled_up);
        let mut from_last = Vec::new();
        for row in rows {
            match &row.input {
                RowInput::Tokens(tokens) => host.extend(tokens),
                RowInput::Sampled => {
                    from_last.push((host.len(), row.slot));
                    host.push(0);
                }
            }
        }
        host.resize(filled_up, 0);
        let host_tokens = Array::from_slice(&host, &[filled_up as i32]);
        if from_last.is_empty() {
            return Ok(host_tokens);
        }
        let slots = self.shape.max_sequences as u32;
        let mut pick: Vec<u32> = (slots..slots + filled_up as u32).collect();
        from_last.iter().for_each(|&(at, slot)| pick[at] = slot);
        let pick = Array::from_slice(&pick, &[filled_up as i32]);
        Ok(ops::concatenate(&[&self.last, &host_tokens], 0)?.take_axis(pick, 0)?)
    }
}

impl Runner for MlxRunner {
    fn launch(&mut self, step: &Step, params: &[Option<&SamplingParams>]) -> Result<()> {
        let stream = self.device.stream();
        mlx_rs::with_stream(&stream, || {
            let launched = self.build(step, params)?;
            // The last step's reads hold the pool; were this one's writes evaluated now, MLX would copy it.
            // (Pages in plain memory have no such array.)
            if let Some(last) = self.in_flight.back().filter(|_| !self.pages.arrays().is_empty()) {
                match self.device.is_gpu() {
                    true => self.device.synchronize()?,
                    false => last.result.eval()?,
                }
            }
            let changed = [&launched.result, &self.last];
            let states = self.pages.states().arrays();
            async_eval(changed.into_iter().chain(self.pages.arrays()).chain(states))?;
            self.in_flight.push_back(launched);
            Ok(())
        })
    }

    fn collect(&mut self) -> Result<Vec<Sampled>> {
        let Some(step) = self.in_flight.pop_front() else {
            return Err(Error::internal("no step is in flight"));
        };
        self.device.run(|| {
            step.result.eval()?;
            self.kernels.check()?;
            if step.ids.is_empty() {
                return Ok(Vec::new());
            }
            let tokens = step.result.to_vec_exact::<u32>();
            let tokens = tokens.map_err(|e| Error::internal(format!("reading sampled tokens: {e}")))?;
            Ok(step.ids.iter().zip(tokens).map(|(&id, token)| Sampled { id, token }).collect())
        })
    }

    fn logits(&mut self, step: &Step) -> Result<Vec<f32>> {
        if !self.in_flight.is_empty() {
            return Err(Error::new(Status::InvalidState, "a step is in flight"));
        }
        let stream = self.device.stream();
        mlx_rs::with_stream(&stream, || {
            let (_, hidden) = self.forward(step, &vec![None; step.rows.len()])?;
            let tokens: u32 = step.rows.iter().map(|row| row.input_len() as u32).sum();
            let rows: Vec<u32> = (0..tokens).collect();
            let logits = self.model.logits(&hidden, &Array::from_slice(&rows, &[tokens as i32]))?;
            let logits = logits.as_dtype(Dtype::Float32)?;
            mlx_rs::transforms::eval(std::iter::once(&logits).chain(self.pages.arrays()))?;
            self.kernels.check()?;
            logits.to_vec_exact().map_err(|e| Error::internal(format!("reading logits: {e}")))
        })
    }

    fn reset(&mut self) -> Result<()> {
        self.in_flight.clear();
        let layout = *self.pages.layout();
        let (shape, model, kernels) = (self.shape, self.model.as_ref(), &self.kernels);
        (self.pages, self.last) = self.device.run(|| -> Result<_> {
            let pages = make_pages(layout, shape, model, kernels)?;
            Ok((pages, no_tokens(shape.max_sequences)?))
        })?;
        Ok(())
    }

    fn page_format(&self) -> String {
        self.pages.format()
    }

    fn block_bytes(&self) -> usize {
        self.pages.block_bytes()
    }

    fn read_block(&mut self, block: BlockId) -> Result<Vec<u8>> {
        self.device.run(|| {
            self.in_flight.iter().try_for_each(|step| step.result.eval())?;
            self.pages.read_block(block)
        })
    }

    fn write_block(&mut self, block: BlockId, pages: &[u8]) -> Result<()> {
        if !self.in_flight.is_empty() {
            return Err(Error::internal("pages are written between steps only"));
        }
        self.device.run(|| self.pages.write_block(block, pages))
    }

    fn state_bytes(&self) -> usize {
        self.pages.states().snapshot_bytes()
    }

    fn read_state(&mut self, snapshot: SnapshotId) -> Result<Vec<u8>> {
        self.device.run(|| self.pages.states().read_snapshot(snapshot))
    }

    fn write_state(&mut self, snapshot: SnapshotId, state: &[u8]) -> Result<()> {
        self.device.run(|| self.pages.states_mut().write_snapshot(snapshot, state))
    }

    fn memory(&self) -> MemoryUse {
        let peak = mlx_rs::memory::peak_memory().unwrap_or(0) as u64;
        let pages = self.pages.bytes() + self.pages.states().bytes();
        MemoryUse { weights: self.weight_bytes, pages, peak }
    }
}

fn make_pages(layout: PageLayout, shape: Shape, model: &dyn Model, kernels: &Kernels) -> Result<Pages> {
    let pages = match kernels {
        #[cfg(quire_host_op)]
        Kernels::Host(_) => Pages::on_host(layout, shape.layers)?,
        _ => Pages::new(layout, shape.layers, model.dtype(), kernels.on_gpu())?,
    };
    Ok(match model.state_shape() {
        Some(state) => {
            let layers = shape.recurrent_layers;
            pages.with_states(States::new(layers, state, shape.max_sequences, shape.snapshots))
        }
        None => pages,
    })
}

fn no_tokens(slots: usize) -> Result<Array> {
    let last = ops::zeros_dtype(&[slots as i32], Dtype::Uint32)?;
    last.eval()?;
    Ok(last)
}

/// Refuses ids that would read or write outside of what they index: MLX does not check.
fn check(step: &Step, params: &[Option<&SamplingParams>], layout: &PageLayout, shape: Shape) -> Result<()> {
    let fail = |row: &Row, what: String| Err(Error::internal(format!("sequence {}: {what}", row.id)));
    if step.rows.is_empty() || step.rows.len() != params.len() {
        return Err(Error::internal(format!(
            "a step of {} rows with parameters for {}",
            step.rows.len(),
            params.len()
        )));
    }
    for (row, params) in step.rows.iter().zip(params) {
        if row.slot as usize >= shape.max_sequences {
            return fail(row, format!("slot {} of {}", row.slot, shape.max_sequences));
        }
        if row.input_len() == 0 {
            return fail(row, "no input".into());
        }
        if row.samples != params.is_some() {
            return fail(row, "parameters and 'samples' disagree".into());
        }
        if let RowInput::Tokens(tokens) = &row.input
            && let Some(token) = tokens.iter().find(|&&token| token as usize >= shape.vocab_size)
        {
            return fail(row, format!("token {token} of {}", shape.vocab_size));
        }
        if let Some(block) = row.blocks.iter().find(|&&block| block as usize >= layout.num_blocks) {
            return fail(row, format!("block {block} of {}", layout.num_blocks));
        }
        let covered = row.blocks.len() * layout.block_size;
        if row.start as usize + row.input_len() > covered {
            return fail(
                row,
                format!("{} blocks for {} tokens", row.blocks.len(), row.start as usize + row.input_len()),
            );
        }
    }
    Ok(())
}
