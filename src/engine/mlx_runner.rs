//! Runs steps on MLX.
//!
//! Promises: `launch` never waits for the tokens of the step it launches, and a step's sampled tokens go
//! into the next one without leaving the device; the page pool is never copied, since the next step's
//! writes are evaluated only after the last step's reads are done; nothing of a step that fails can
//! write outside the pool, because ids are checked before the graph is built.

mod in_flight;

use std::collections::VecDeque;

use in_flight::{InFlight, Part, Scored, Waiting};
use mlx_rs::ops::{self, indexing};
use mlx_rs::transforms::async_eval;

use super::{Constrained, MemoryUse, Runner, Sampled};
use crate::cache::pages::Pages;
use crate::cache::states::States;
use crate::cache::{BlockId, PageLayout, SnapshotId};
use crate::error::{Error, Result, Status};
use crate::kernels::gpu::GpuKernels;
use crate::mlx::{self, Array, Device, Dtype, Gpu};
use crate::model::Model;
use crate::model::batch::{Batch, Outputs};
use crate::model::layers::Kernels;
use crate::sampling::device::{Choice, pick};
use crate::sampling::{PromptLogprobs, RowSampling};
use crate::scheduler::{Row, RowInput, SequenceId, Step};

/// On CUDA the launches for a prompt's part cost more than its tokens up to about so many (inferred from what prompts of
/// 64 and of 512 tokens take).
const CUDA_PROMPT_TOKENS: usize = 64;

/// A model, its pages, and the steps in flight. Lives on one thread.
pub struct MlxRunner {
    // Dropped before the device they live on.
    model: Box<dyn Model>,
    pages: Pages,
    /// The token each slot sampled last, `[max_sequences]`, unsigned 32-bit.
    last: Array,
    in_flight: VecDeque<InFlight>,
    /// Of the step collected last.
    scored: Vec<(SequenceId, PromptLogprobs)>,
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
        let (in_flight, scored) = (VecDeque::new(), Vec::new());
        Ok(MlxRunner { model, pages, last, in_flight, scored, shape, weight_bytes, kernels, device })
    }

    /// Builds a part of a graph, the host's small arrays in one where that is faster.
    fn together<R>(&mut self, build: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        match self.kernels.gpu().map(GpuKernels::gpu) {
            Some(Gpu::Cuda) => mlx::together(|| build(self)),
            _ => build(self),
        }
    }

    fn build(&mut self, step: &Step, how: &[Option<RowSampling<'_>>]) -> Result<InFlight> {
        let (batch, computed) = self.forward(step, how)?;
        let model = self.model.as_ref();
        let ids = step.rows.iter().filter(|row| row.samples).map(|row| row.id).collect();
        let scored = Scored::all(step, how, &computed, model)?;
        let mut launched = InFlight { ids, computed, parts: Vec::new(), waiting: None, scored };
        let rows = match &batch.outputs {
            Outputs::Nothing => return Ok(launched),
            Outputs::All => None,
            Outputs::Rows(rows) => Some(rows),
        };
        let logits = mlx::rows(&model.ends().logits(&launched.computed, rows)?, batch.wanted as i32)?;

        let (mut free, mut waiting) = (Vec::new(), Waiting::default());
        let (mut choices, mut slots) = (Vec::new(), Vec::new());
        let sampling = step.rows.iter().zip(how).filter(|(row, _)| row.samples);
        for (i, (row, how)) in sampling.enumerate() {
            let Some(how) = how.filter(|how| !how.constrained) else {
                waiting.push(i, row);
                continue;
            };
            let on_device = (row.input == RowInput::Sampled).then_some(row.slot);
            choices.push(Choice { on_device, ..Choice::new(how, row.sampled_before) });
            free.push(i);
            slots.push(row.slot);
        }
        if !free.is_empty() {
            let own = pick(&logits, &free)?;
            launched.parts.push(self.choose(&own, free, &choices, &slots)?);
        }
        if !waiting.rows.is_empty() {
            waiting.logits = Some(pick(&logits, &waiting.rows)?);
            launched.waiting = Some(waiting);
        }
        Ok(launched)
    }

    /// The arrays beside its results that a step changes by MLX's operations: none where kernels of ours write pages
    /// (in plain memory, or in place on a GPU), except to copy blocks.
    fn changed_by_mlx(&self, step: &Step) -> Vec<&Array> {
        let pages = match self.kernels.pages().is_none() || !step.copies.is_empty() {
            true => self.pages.arrays(),
            false => &[],
        };
        pages.iter().chain(self.pages.states().arrays()).collect()
    }

    /// Samples these of a step's rows and notes their tokens in their slots.
    fn choose(
        &mut self,
        logits: &Array,
        rows: Vec<usize>,
        choices: &[Choice<'_>],
        slots: &[u32],
    ) -> Result<Part> {
        let part = Part::sample(logits, rows, choices, &self.last)?;
        let slots = mlx::upload(slots, &[slots.len() as i32])?;
        self.last = indexing::scatter_single(&self.last, slots, part.tokens.reshape(&[-1, 1])?, 0)?;
        Ok(part)
    }

    /// A step's graph up to the last layer.
    fn forward(&mut self, step: &Step, how: &[Option<RowSampling<'_>>]) -> Result<(Batch, Array)> {
        check(step, how, self.pages.layout(), self.shape)?;
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
        let host_tokens = mlx::upload(&host, &[filled_up as i32])?;
        if from_last.is_empty() {
            return Ok(host_tokens);
        }
        let slots = self.shape.max_sequences as u32;
        let mut pick: Vec<u32> = (slots..slots + filled_up as u32).collect();
        from_last.iter().for_each(|&(at, slot)| pick[at] = slot);
        let pick = mlx::upload(&pick, &[filled_up as i32])?;
        Ok(ops::concatenate(&[&self.last, &host_tokens], 0)?.take_axis(pick, 0)?)
    }
}

impl Runner for MlxRunner {
    fn launch(&mut self, step: &Step, how: &[Option<RowSampling<'_>>]) -> Result<()> {
        let stream = self.device.stream();
        mlx_rs::with_stream(&stream, || {
            let launched = self.together(|own| own.build(step, how))?;
            let changed = self.changed_by_mlx(step);
            // The last step's reads hold the pool; were this one's writes evaluated now, MLX would copy it. (Pages in
            // plain memory have no such array.) And Metal may run a step's last reads beside the writes of the step
            // after next, which nothing else holds apart.
            let copies = !changed.is_empty() && !self.pages.arrays().is_empty();
            let waits = copies || self.device.gpu() == Some(Gpu::Metal);
            if let Some(last) = self.in_flight.back().filter(|_| waits) {
                match self.device.is_gpu() {
                    true => self.device.synchronize()?,
                    false => last.arrays().try_for_each(Array::eval)?,
                }
            }
            let rest = [&self.last, self.pages.after()];
            async_eval(launched.arrays().chain(rest).chain(changed.iter().copied()))?;
            drop(changed);
            self.in_flight.push_back(launched);
            Ok(())
        })
    }

    fn constrain(&mut self, rows: &[Constrained<'_>]) -> Result<()> {
        let waiting = self.in_flight.back_mut().and_then(|step| step.waiting.take());
        let waiting = waiting.ok_or_else(|| Error::internal("no row waits for a grammar"))?;
        let stream = self.device.stream();
        mlx_rs::with_stream(&stream, || {
            let (logits, choices) = waiting.choices(rows)?;
            let part =
                self.together(|own| own.choose(logits, waiting.rows.clone(), &choices, &waiting.slots))?;
            async_eval(part.arrays().chain([&self.last]))?;
            if let Some(step) = self.in_flight.back_mut() {
                step.parts.push(part);
            }
            Ok(())
        })
    }

    fn collect(&mut self) -> Result<Vec<Sampled>> {
        let Some(step) = self.in_flight.pop_front() else {
            return Err(Error::internal("no step is in flight"));
        };
        self.device.run(|| {
            step.arrays().try_for_each(Array::eval)?;
            self.kernels.check()?;
            self.scored = step.scored.iter().map(Scored::read).collect::<Result<_>>()?;
            step.read()
        })
    }

    fn take_prompt_logprobs(&mut self) -> Vec<(SequenceId, PromptLogprobs)> {
        std::mem::take(&mut self.scored)
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
            let logits =
                self.model.ends().logits(&hidden, Some(&Array::from_slice(&rows, &[tokens as i32])))?;
            let logits = logits.as_dtype(Dtype::Float32)?;
            mlx_rs::transforms::eval(std::iter::once(&logits).chain(self.pages.arrays()))?;
            self.kernels.check()?;
            logits.to_vec_exact().map_err(|e| Error::internal(format!("reading logits: {e}")))
        })
    }

    fn least_prompt_tokens(&self) -> usize {
        match self.device.gpu() {
            Some(Gpu::Cuda) => CUDA_PROMPT_TOKENS,
            _ => super::runner::LEAST_PROMPT_TOKENS,
        }
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
            self.in_flight.iter().flat_map(InFlight::arrays).try_for_each(Array::eval)?;
            self.pages.read_block(block)
        })
    }

    fn write_block(&mut self, block: BlockId, pages: &[u8]) -> Result<()> {
        if !self.in_flight.is_empty() {
            return Err(Error::internal("pages are written between steps only"));
        }
        self.device.run(|| {
            // Until the last step has let go of the pool, a write would copy it.
            self.device.synchronize()?;
            self.pages.write_block(block, pages)
        })
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
        _ => Pages::new(layout, shape.layers, model.ends().dtype, kernels.on_gpu())?,
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
fn check(step: &Step, how: &[Option<RowSampling<'_>>], layout: &PageLayout, shape: Shape) -> Result<()> {
    let fail = |row: &Row, what: String| Err(Error::internal(format!("sequence {}: {what}", row.id)));
    if step.rows.is_empty() || step.rows.len() != how.len() {
        let (rows, given) = (step.rows.len(), how.len());
        return Err(Error::internal(format!("a step of {rows} rows with parameters for {given}")));
    }
    for (row, how) in step.rows.iter().zip(how) {
        if row.slot as usize >= shape.max_sequences {
            return fail(row, format!("slot {} of {}", row.slot, shape.max_sequences));
        }
        if row.input_len() == 0 {
            return fail(row, "no input".into());
        }
        let wanted = how.is_some_and(|how| row.samples || !how.scored.is_empty());
        if wanted != how.is_some() || row.samples && !wanted {
            return fail(row, "parameters and 'samples' disagree".into());
        }
        let outside =
            |tokens: &[u32]| tokens.iter().copied().find(|&token| token as usize >= shape.vocab_size);
        let input = match &row.input {
            RowInput::Tokens(tokens) => outside(tokens),
            RowInput::Sampled => None,
        };
        // What penalties, bias and bans name is scattered into the logits.
        let named = how.and_then(|how| {
            let biased = how.params.logit_bias.iter().map(|(token, _)| *token);
            let counted = if how.params.penalties.any() { how.window(0).0 } else { &[] };
            let named = [counted, how.banned, how.scored].into_iter().find_map(outside);
            named.or_else(|| biased.into_iter().find(|&token| token as usize >= shape.vocab_size))
        });
        if how.is_some_and(|how| how.scored.len() > row.input_len()) {
            return fail(row, "more tokens are scored than go in".into());
        }
        if let Some(token) = input.or(named) {
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
