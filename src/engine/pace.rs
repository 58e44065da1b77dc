//! How much of a prompt may ride along with streams that are decoding: as much as keeps a step under twice
//! what it takes without.
//!
//! Measured as the engine runs, for what a prompt token costs beside a batch of decoding rows differs by
//! orders of magnitude between devices and models. But never fewer tokens than the runner says are worth a step.
//!
//! The measure is what a step took when that many rows decoded and nothing else was done: what the streams are
//! used to, not what decoding takes by now. While a prompt is long in coming the streams' own contexts grow; a
//! prompt whose share grew with them would slow the streams further, and take longer still.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::scheduler::{RowInput, Step};

/// Prompt tokens a step takes beside decoding rows before anything was measured, if the least are not more.
const FIRST_GUESS: usize = 4;
/// The part of a decoding step's time that prompt tokens may take on top of it; less than 1, for times vary.
const SHARE: f64 = 0.8;
/// How much a new measurement counts against those before it.
const WEIGHT: f64 = 0.125;

/// A running mean that forgets.
#[derive(Debug, Clone, Copy, Default)]
struct Mean(Option<f64>);

impl Mean {
    fn add(&mut self, value: f64) {
        self.0 = Some(self.0.map_or(value, |mean| mean + WEIGHT * (value - mean)));
    }
}

/// What a step is made of, as far as its time goes.
#[derive(Debug, Clone, Copy)]
struct Load {
    launched: Instant,
    decode_rows: usize,
    prompt_tokens: usize,
}

/// Times of steps, and what follows from them.
#[derive(Debug)]
pub(super) struct Pace {
    /// Never fewer prompt tokens than this: prompts must move on, and while they do, the streams' own contexts grow.
    least: usize,
    /// Launched steps that were not collected.
    in_flight: VecDeque<Load>,
    last_collected: Option<Instant>,
    /// Seconds of a step of decoding rows only, by how many they are.
    decode_step: BTreeMap<usize, Mean>,
    /// Decoding rows of the step launched last.
    decode_rows: usize,
    /// Seconds that a prompt token adds to a step.
    prompt_token: Mean,
}

impl Pace {
    /// Nothing measured yet.
    pub fn new(least: usize) -> Pace {
        Pace {
            least,
            in_flight: VecDeque::new(),
            last_collected: None,
            decode_step: BTreeMap::new(),
            decode_rows: 0,
            prompt_token: Mean::default(),
        }
    }

    /// A step has been launched.
    pub fn launched(&mut self, step: &Step, now: Instant) {
        let is_decode = |input: &RowInput| match input {
            RowInput::Sampled => true,
            RowInput::Tokens(tokens) => tokens.len() == 1,
        };
        let decode_rows = step.rows.iter().filter(|row| is_decode(&row.input)).count();
        let tokens: usize = step.rows.iter().map(crate::scheduler::Row::input_len).sum();
        self.decode_rows = decode_rows;
        self.in_flight.push_back(Load { launched: now, decode_rows, prompt_tokens: tokens - decode_rows });
    }

    /// The oldest launched step has been collected.
    pub fn collected(&mut self, now: Instant) {
        let Some(load) = self.in_flight.pop_front() else { return };
        // Steps run one after another: this one began when it was launched or when the one before ended.
        let began = self.last_collected.map_or(load.launched, |last| last.max(load.launched));
        self.last_collected = Some(now);
        // MLX may hold up the launch of the next step until much of it has run; where that step is of another
        // kind, this one's time is not its own.
        let other_kind = |next: &Load| (next.prompt_tokens == 0) != (load.prompt_tokens == 0);
        if !self.in_flight.front().is_some_and(other_kind) {
            self.observe(load, now.saturating_duration_since(began));
        }
    }

    fn observe(&mut self, load: Load, took: Duration) {
        let took = took.as_secs_f64();
        if load.prompt_tokens == 0 {
            self.decode_step.entry(load.decode_rows).or_default().add(took);
            return;
        }
        let decoding = self.decoding(load.decode_rows).unwrap_or(0.0);
        self.prompt_token.add((took - decoding).max(0.0) / load.prompt_tokens as f64);
    }

    /// Seconds of a step of so many decoding rows only, as far as known: else those of the next fewer, or of the
    /// fewest there were.
    fn decoding(&self, rows: usize) -> Option<f64> {
        if rows == 0 {
            return Some(0.0);
        }
        let nearest =
            self.decode_step.range(..=rows).next_back().or_else(|| self.decode_step.first_key_value());
        nearest.and_then(|(_, mean)| mean.0)
    }

    /// Launched steps will not be collected.
    pub fn forget_in_flight(&mut self) {
        self.in_flight.clear();
    }

    /// Most prompt tokens for the next step, if it has decoding rows.
    pub fn prompt_tokens(&self) -> usize {
        let (Some(step), Some(token)) = (self.decoding(self.decode_rows.max(1)), self.prompt_token.0) else {
            return FIRST_GUESS.max(self.least);
        };
        let tokens = SHARE * step / token.max(1e-9);
        (tokens as usize).max(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Row;
    use std::sync::Arc;

    const LEAST: usize = 2;

    fn step(decode: usize, prompt: usize) -> Step {
        let row = |input| Row {
            id: 1,
            slot: 0,
            input,
            start: 0,
            blocks: Arc::from([]),
            samples: true,
            sampled_before: 0,
        };
        let mut rows = vec![row(RowInput::Sampled); decode];
        if prompt > 0 {
            rows.push(row(RowInput::Tokens(vec![0; prompt])));
        }
        Step { rows, ..Step::default() }
    }

    /// Runs steps back to back, each launched before the one before is collected.
    fn run(pace: &mut Pace, mut now: Instant, steps: &[(usize, usize, u64)]) -> Instant {
        for (decode, prompt, millis) in steps {
            pace.launched(&step(*decode, *prompt), now);
            now += Duration::from_millis(*millis);
            pace.collected(now);
        }
        now
    }

    #[test]
    fn prompts_get_their_share_of_a_decoding_step_on_top_of_it() {
        let mut pace = Pace::new(LEAST);
        assert_eq!(pace.prompt_tokens(), FIRST_GUESS);
        // A step of 20 ms, 0.1 ms a prompt token.
        let now = run(&mut pace, Instant::now(), &[(8, 0, 20); 20]);
        run(&mut pace, now, &[(8, 100, 30); 40]);
        assert!((155..=165).contains(&pace.prompt_tokens()), "{}", pace.prompt_tokens());
    }

    #[test]
    fn slow_prompts_still_move_on_and_fast_ones_are_not_held_back() {
        let mut pace = Pace::new(LEAST);
        let now = run(&mut pace, Instant::now(), &[(1, 0, 10), (1, 10, 1000)]);
        assert_eq!(pace.prompt_tokens(), LEAST);
        run(&mut pace, now, &[(1, 1000, 10); 160]);
        assert!(pace.prompt_tokens() > 100_000);
    }

    #[test]
    fn what_is_worth_a_step_is_never_cut() {
        let mut pace = Pace::new(64);
        assert_eq!(pace.prompt_tokens(), 64);
        let now = run(&mut pace, Instant::now(), &[(1, 0, 10); 20]);
        run(&mut pace, now, &[(1, 10, 1000)]);
        assert_eq!(pace.prompt_tokens(), 64);
    }

    #[test]
    fn each_number_of_streams_is_measured_by_itself() {
        let mut pace = Pace::new(LEAST);
        let now = run(&mut pace, Instant::now(), &[(1, 0, 10); 20]);
        let now = run(&mut pace, now, &[(8, 0, 30); 20]);
        let now = run(&mut pace, now, &[(1, 10, 20); 40]);
        assert_eq!(pace.prompt_tokens(), 8);
        // Streams were added that the prompt is not to blame for.
        run(&mut pace, now, &[(8, 10, 40); 40]);
        assert!((23..=24).contains(&pace.prompt_tokens()), "{}", pace.prompt_tokens());
        // Of nine, eight are known.
        assert_eq!(pace.decoding(9), pace.decoding(8));
    }

    #[test]
    fn a_step_before_one_of_another_kind_is_not_believed() {
        let mut pace = Pace::new(LEAST);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        pace.launched(&step(8, 0), at(0));
        pace.launched(&step(8, 0), at(1));
        pace.collected(at(20));
        pace.launched(&step(8, 100), at(120));
        pace.collected(at(120));
        assert!((pace.decoding(8).unwrap() - 0.020).abs() < 1e-6);
    }

    #[test]
    fn a_look_ahead_step_counts_from_the_end_of_the_one_before() {
        let mut pace = Pace::new(LEAST);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        pace.launched(&step(1, 0), at(0));
        pace.launched(&step(1, 0), at(1));
        pace.collected(at(10));
        pace.collected(at(20));
        assert!((pace.decoding(1).unwrap() - 0.010).abs() < 1e-6);
    }
}
