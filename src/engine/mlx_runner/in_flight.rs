//! A launched step: tokens on their way from the device, and rows whose tokens are still to be chosen.

use crate::engine::{Constrained, Sampled};
use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::model::Model;
use crate::sampling::device::logprobs::DeviceLogprobs;
use crate::sampling::device::{Choice, sample};
use crate::sampling::{PromptLogprobs, RowSampling, SamplingParams};
use crate::scheduler::{Row, SequenceId, Step};

/// A launched step.
pub(super) struct InFlight {
    /// The sequences that sample, in row order.
    pub ids: Vec<SequenceId>,
    /// What it computes before it samples.
    pub computed: Array,
    /// Their tokens; together they cover `ids` once nothing waits.
    pub parts: Vec<Part>,
    /// Rows that wait for their grammars.
    pub waiting: Option<Waiting>,
    /// Log-probabilities of prompt tokens.
    pub scored: Vec<Scored>,
}

impl InFlight {
    /// Everything it computes.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        let waiting = self.waiting.iter().filter_map(|waiting| waiting.logits.as_ref());
        // Tokens need what comes before them; without any, that alone is the step.
        let computed = (self.parts.is_empty() && self.waiting.is_none()).then_some(&self.computed);
        let scored = self.scored.iter().flat_map(|scored| scored.values.arrays());
        self.parts.iter().flat_map(Part::arrays).chain(waiting).chain(computed).chain(scored)
    }

    /// Its tokens, in row order. It has been evaluated.
    pub fn read(&self) -> Result<Vec<Sampled>> {
        let mut sampled: Vec<Option<Sampled>> = vec![None; self.ids.len()];
        for part in &self.parts {
            part.read(&self.ids, &mut sampled)?;
        }
        let all: Option<Vec<Sampled>> = sampled.into_iter().collect();
        all.ok_or_else(|| Error::internal("a step was collected before every token was chosen"))
    }
}

/// Rows of a step that were sampled together.
pub(super) struct Part {
    /// Their places among the step's sampling rows.
    rows: Vec<usize>,
    /// `[rows]`, unsigned 32-bit.
    pub tokens: Array,
    logprobs: Option<Logprobs>,
}

struct Logprobs {
    /// Which of the part's rows want some, and how many alternatives.
    wanted: Vec<(usize, u32)>,
    values: DeviceLogprobs,
}

impl Part {
    /// Samples from `logits` `[rows, vocab]`.
    pub fn sample(logits: &Array, rows: Vec<usize>, choices: &[Choice<'_>], last: &Array) -> Result<Part> {
        let tokens = sample(logits, choices, last)?;
        let asked = choices.iter().map(|choice| choice.how.logprobs).enumerate();
        let wanted: Vec<(usize, u32)> = asked.filter(|(_, l)| l.chosen).map(|(i, l)| (i, l.top)).collect();
        let logprobs = if wanted.is_empty() {
            None
        } else {
            let places: Vec<usize> = wanted.iter().map(|(i, _)| *i).collect();
            let top = wanted.iter().any(|(_, top)| *top > 0);
            let values = DeviceLogprobs::of_rows(logits, &tokens, &places, top)?;
            Some(Logprobs { wanted, values })
        };
        Ok(Part { rows, tokens, logprobs })
    }

    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        std::iter::once(&self.tokens).chain(self.logprobs.iter().flat_map(|l| l.values.arrays()))
    }

    fn read(&self, ids: &[SequenceId], sampled: &mut [Option<Sampled>]) -> Result<()> {
        let tokens = self.tokens.to_vec_exact::<u32>();
        let tokens = tokens.map_err(|e| Error::internal(format!("reading sampled tokens: {e}")))?;
        for (&row, token) in self.rows.iter().zip(tokens) {
            sampled[row] = Some(Sampled::new(ids[row], token));
        }
        let Some(logprobs) = &self.logprobs else { return Ok(()) };
        let values = logprobs.values.read(logprobs.wanted.iter().map(|(_, top)| *top))?;
        for (&(i, _), value) in logprobs.wanted.iter().zip(values) {
            if let Some(sampled) = &mut sampled[self.rows[i]] {
                sampled.logprobs = Some(Box::new(value));
            }
        }
        Ok(())
    }
}

/// Rows of a step whose tokens are chosen once the tokens before them have been read.
#[derive(Default)]
pub(super) struct Waiting {
    /// Their places among the step's sampling rows.
    pub rows: Vec<usize>,
    pub slots: Vec<u32>,
    sampled_before: Vec<u32>,
    /// `[rows, vocab]`.
    pub logits: Option<Array>,
}

/// For rows whose sequence has ended.
static ANY: std::sync::LazyLock<SamplingParams> = std::sync::LazyLock::new(SamplingParams::default);

impl Waiting {
    pub fn push(&mut self, place: usize, row: &Row) {
        self.rows.push(place);
        self.slots.push(row.slot);
        self.sampled_before.push(row.sampled_before);
    }

    /// Its logits, and how to choose from each row of them.
    pub fn choices<'a>(&self, rows: &'a [Constrained<'a>]) -> Result<(&Array, Vec<Choice<'a>>)> {
        let logits = self.logits.as_ref().filter(|_| rows.len() == self.rows.len());
        let logits = logits.ok_or_else(|| {
            Error::internal(format!("{} grammars for {} rows", rows.len(), self.rows.len()))
        })?;
        let choice = |(row, &sampled_before): (&Constrained<'a>, &u32)| match row.how {
            Some(how) => Choice { allowed: Some(row.allowed), ..Choice::new(how, sampled_before) },
            None => Choice::new(RowSampling::new(&ANY), sampled_before),
        };
        Ok((logits, rows.iter().zip(&self.sampled_before).map(choice).collect()))
    }
}

/// Prompt tokens whose logits are computed at a time: their memory is this many rows of the vocabulary.
const SCORED_AT_ONCE: usize = 64;

/// Log-probabilities of some consecutive prompt tokens of one row.
pub(super) struct Scored {
    id: SequenceId,
    start: usize,
    count: usize,
    top: u32,
    values: DeviceLogprobs,
}

impl Scored {
    /// Those that a step's rows ask for; `computed` is the residual stream behind the last layer.
    pub fn all(
        step: &Step,
        how: &[Option<RowSampling<'_>>],
        computed: &Array,
        model: &dyn Model,
    ) -> Result<Vec<Scored>> {
        let mut all = Vec::new();
        let mut first = 0;
        for (row, how) in step.rows.iter().zip(how) {
            let tokens = how.map_or(&[][..], |how| how.scored);
            for (i, piece) in tokens.chunks(SCORED_AT_ONCE).enumerate() {
                let at = i * SCORED_AT_ONCE;
                let count = piece.len();
                let places: Vec<u32> = (first + at..first + at + count).map(|place| place as u32).collect();
                let logits =
                    model.ends().logits(computed, Some(&Array::from_slice(&places, &[count as i32])))?;
                let top = how.map_or(0, |how| how.logprobs.top);
                let values =
                    DeviceLogprobs::new(&logits, &Array::from_slice(piece, &[count as i32]), top > 0)?;
                all.push(Scored { id: row.id, start: row.start as usize + at + 1, count, top, values });
            }
            first += row.input_len();
        }
        Ok(all)
    }

    /// It has been evaluated.
    pub fn read(&self) -> Result<(SequenceId, PromptLogprobs)> {
        let tokens = self.values.read(std::iter::repeat_n(self.top, self.count))?;
        Ok((self.id, PromptLogprobs { start: self.start, tokens }))
    }
}
