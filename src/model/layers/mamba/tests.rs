//! The chunked scan is the step-by-step recurrence, wherever it is cut and whatever runs beside it.

use super::*;
use crate::cache::PageLayout;
use crate::cache::states::{StateRow, StateRows};
use crate::cache::{StateCopy, StateSave};
use crate::mlx::Device;
use crate::model::batch::{Outputs, Plan};
use crate::model::layers::{Angles, Kernels, Matrix};

const HIDDEN: i32 = 12;

fn config() -> MambaConfig {
    MambaConfig {
        heads: 4,
        head_dim: 8,
        groups: 2,
        state_size: 6,
        conv_kernel: 4,
        time_step_limit: (0.0, f32::INFINITY),
        proj_bias: false,
        conv_bias: true,
    }
}

/// Numbers between -1 and 1, the same on every run.
fn numbers(seed: u32, shape: &[i32]) -> Array {
    let count: i32 = shape.iter().product();
    let number = |i: i32| {
        let mixed = (i as u32 ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
        ((mixed ^ (mixed >> 16)) >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    Array::from_slice(&(0..count).map(number).collect::<Vec<_>>(), shape)
}

fn mixer(piece: i32) -> Mamba {
    let config = config();
    let (inner, channels) = (config.inner() as i32, config.channels() as i32);
    let linear = |seed, rows, columns| {
        let matrix = Matrix::dense(numbers(seed, &[rows, columns])).unwrap();
        Linear::new(vec![matrix], None, &Kernels::Elementary).unwrap()
    };
    let projections = (linear(1, config.projection() as i32, HIDDEN), linear(2, HIDDEN, inner));
    let weights = MambaWeights {
        taps: numbers(3, &[4, channels]),
        bias: Some(numbers(4, &[channels])),
        dt_bias: numbers(5, &[4]),
        a_log: numbers(6, &[4]),
        d: numbers(7, &[4]),
        norm: numbers(8, &[inner]),
    };
    let mut mixer = Mamba::new(&config, 0, projections, weights, (1e-5, Dtype::Float32, false)).unwrap();
    mixer.future = mixer.future.try_index((..piece, ..piece)).unwrap();
    mixer
}

fn pages() -> Pages {
    let layout = PageLayout { kv_heads: 1, num_blocks: 1, block_size: 1, head_dim: 2 };
    let shape = mixer(1).state_shape();
    Pages::new(layout, 0, Dtype::Float32, false).unwrap().with_states(States::new(1, shape, 8, 4))
}

/// Runs a step of these rows of the sequences' inputs; gives the outputs of each row.
fn run(
    mixer: &Mamba,
    pages: &mut Pages,
    inputs: &[Array],
    rows: &[StateRow],
    saves: &[StateSave],
) -> Vec<Array> {
    try_run(mixer, pages, inputs, rows, saves).unwrap()
}

fn try_run(
    mixer: &Mamba,
    pages: &mut Pages,
    inputs: &[Array],
    rows: &[StateRow],
    saves: &[StateSave],
) -> Result<Vec<Array>> {
    let part = |row: &StateRow| {
        let (start, end) = (row.start as i32, (row.start + row.tokens) as i32);
        inputs[row.slot as usize].try_index(start..end).unwrap()
    };
    let parts: Vec<Array> = rows.iter().map(part).collect();
    // Three rows more, that only fill up.
    let x = ops::concatenate(&[&parts[..], &[numbers(99, &[3, HIDDEN])]].concat(), 0)?;
    let states: StateRows = pages.states().rows(rows, saves)?;
    let plan = Plan::Arrays { angles: Angles::Absent, slots: Array::from_f32(0.0), groups: vec![] };
    let batch = Batch { rows: x.dim(0) as usize, plan, outputs: Outputs::Nothing, wanted: 0, states };
    pages.states_mut().begin(&batch.states);
    let y = mixer.forward_onto(&x, &ops::zeros_dtype(&[x.dim(0), HIDDEN], Dtype::Float32)?, &batch, pages)?;
    pages.states_mut().commit(&batch.states)?;
    let mut at = 0;
    let mut outputs = Vec::new();
    for row in rows {
        outputs.push(y.try_index(at..at + row.tokens as i32)?);
        at += row.tokens as i32;
    }
    Ok(outputs)
}

fn row(slot: u32, start: u32, tokens: u32) -> StateRow {
    StateRow { slot, start, tokens }
}

/// One token after the other.
fn step_by_step(mixer: &Mamba, input: &Array) -> Array {
    let mut pages = pages();
    let inputs = [input.clone()];
    let outputs: Vec<Array> = (0..input.dim(0) as u32)
        .map(|at| run(mixer, &mut pages, &inputs, &[row(0, at, 1)], &[]).remove(0))
        .collect();
    ops::concatenate(&outputs, 0).unwrap()
}

fn assert_close(a: &Array, b: &Array, what: &str) {
    assert_eq!(a.shape(), b.shape(), "{what}");
    let largest = |x: &Array| x.abs().unwrap().max(None).unwrap().item_exact::<f32>();
    let (off, scale) = (largest(&ops::subtract(a, b).unwrap()), largest(b));
    assert!(off <= 2e-5 * scale, "{what}: off by {off}, the largest is {scale}");
}

fn on_cpu(test: impl FnOnce()) {
    Device::cpu().unwrap().run(test);
}

#[test]
fn a_scan_is_the_recurrence_in_pieces_and_chunks_of_any_length() {
    on_cpu(|| {
        let input = numbers(20, &[50, HIDDEN]);
        let want = step_by_step(&mixer(64), &input);
        for piece in [64, 16, 7, 1] {
            for chunk in [50, 13, 2] {
                let (mixer, mut pages) = (mixer(piece), pages());
                let inputs = [input.clone()];
                let outputs: Vec<Array> = (0..50)
                    .step_by(chunk)
                    .map(|at| {
                        let tokens = chunk.min(50 - at) as u32;
                        run(&mixer, &mut pages, &inputs, &[row(0, at as u32, tokens)], &[]).remove(0)
                    })
                    .collect();
                let whole = ops::concatenate(&outputs, 0).unwrap();
                assert_close(&whole, &want, &format!("pieces of {piece}, chunks of {chunk}"));
            }
        }
    });
}

#[test]
fn neighbours_change_nothing_whoever_joins_and_leaves() {
    on_cpu(|| {
        let mixer = mixer(64);
        let inputs: Vec<Array> = (0..4).map(|i| numbers(30 + i, &[12, HIDDEN])).collect();
        let want: Vec<Array> = inputs.iter().map(|input| step_by_step(&mixer, input)).collect();
        let mut pages = pages();
        let mut got: Vec<Vec<Array>> = vec![Vec::new(); 4];
        let mut at = [0; 4];
        // Slots and tokens of each step: chunks, joined and parted singles, in changing order; slot 3 rests.
        let steps: &[&[(u32, u32)]] = &[
            &[(0, 5)],
            &[(0, 1), (1, 3), (3, 2)],
            &[(1, 1), (0, 1), (3, 1), (2, 4)],
            &[(0, 1), (1, 1), (2, 1)],
            &[(2, 1), (0, 1), (1, 1)],
            &[(1, 1)],
            &[(3, 1), (1, 1), (0, 1), (2, 1)],
            &[(0, 1), (2, 1)],
        ];
        for step in steps {
            let rows: Vec<StateRow> =
                step.iter().map(|&(slot, tokens)| row(slot, at[slot as usize], tokens)).collect();
            for (row, y) in rows.iter().zip(run(&mixer, &mut pages, &inputs, &rows, &[])) {
                got[row.slot as usize].push(y);
                at[row.slot as usize] += row.tokens;
            }
        }
        for (slot, got) in got.into_iter().enumerate() {
            let got = ops::concatenate(&got, 0).unwrap();
            let want = want[slot].try_index(..at[slot] as i32).unwrap();
            assert_close(&got, &want, &format!("slot {slot}"));
        }
    });
}

#[test]
fn a_kept_state_goes_on_in_another_slot_and_a_slot_begins_afresh() {
    on_cpu(|| {
        let mixer = mixer(16);
        let input = numbers(40, &[30, HIDDEN]);
        let want = step_by_step(&mixer, &input);
        let inputs = vec![input; 4];
        let mut pages = pages();
        let save = |slot, tokens, snapshot| StateSave { slot, tokens, snapshot };
        // Inside a chunk, at its end, and behind one token beside others.
        let saves = [save(1, 7, 0), save(1, 20, 1)];
        run(&mixer, &mut pages, &inputs, &[row(1, 0, 20)], &saves);
        run(&mixer, &mut pages, &inputs, &[row(2, 0, 9)], &[]);
        run(&mixer, &mut pages, &inputs, &[row(1, 20, 1), row(2, 9, 1)], &[save(1, 1, 2)]);
        run(&mixer, &mut pages, &inputs, &[row(1, 0, 4), row(2, 10, 3)], &[]);
        for (snapshot, start) in [(0, 7), (1, 20), (2, 21), (0, 7)] {
            pages.states_mut().restore(&[StateCopy { snapshot, slot: 3 }]).unwrap();
            let y = run(&mixer, &mut pages, &inputs, &[row(3, start, 30 - start)], &[]).remove(0);
            assert_close(&y, &want.try_index(start as i32..).unwrap(), &format!("from {start}"));
        }
        let y = run(&mixer, &mut pages, &inputs, &[row(3, 0, 30)], &[]).remove(0);
        assert_close(&y, &want, "a slot used before");
    });
}

#[test]
fn a_row_that_does_not_go_on_where_its_state_is_is_refused() {
    on_cpu(|| {
        let (mixer, mut pages) = (mixer(16), pages());
        let inputs = vec![numbers(50, &[30, HIDDEN]); 2];
        let mut fails = |rows: &[StateRow], saves: &[StateSave], words: &str| {
            let e = try_run(&mixer, &mut pages, &inputs, rows, saves).unwrap_err();
            assert!(e.message().contains(words), "{e}");
        };
        fails(&[row(0, 5, 3)], &[], "slot 0 has no state");
        fails(&[row(0, 0, 3)], &[StateSave { slot: 0, tokens: 1, snapshot: 4 }], "snapshot 4 of 4");
        fails(&[row(0, 0, 3)], &[StateSave { slot: 0, tokens: 4, snapshot: 0 }], "states wanted at");
        run(&mixer, &mut pages, &inputs, &[row(0, 0, 5)], &[]);
        let e = try_run(&mixer, &mut pages, &inputs, &[row(0, 6, 1)], &[]).unwrap_err();
        assert!(e.message().contains("after 5 tokens, but its row starts at 6"), "{e}");
        assert!(pages.states_mut().restore(&[StateCopy { snapshot: 0, slot: 0 }]).is_err());
    });
}
