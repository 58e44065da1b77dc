//! The mock answers as the oracle says, and refuses what a scheduler must not plan.

use std::sync::LazyLock;

use super::*;
use crate::cache::BlockCopy;
use crate::sampling::SamplingParams;

static GREEDY: LazyLock<SamplingParams> = LazyLock::new(SamplingParams::default);

fn runner(options: MockOptions) -> MockRunner {
    MockRunner::new(options, 8, 4, 2).unwrap()
}

fn row(id: SequenceId, slot: u32, start: u32, tokens: &[u32], blocks: &[BlockId]) -> Row {
    let input = RowInput::Tokens(tokens.to_vec());
    Row { id, slot, input, start, blocks: blocks.into(), samples: true, sampled_before: 0 }
}

fn launch(runner: &mut MockRunner, rows: Vec<Row>, copies: Vec<BlockCopy>) -> Result<()> {
    let params: Vec<_> = rows.iter().map(|r| r.samples.then(|| RowSampling::new(&GREEDY))).collect();
    runner.launch(&Step { rows: rows.clone(), copies, ..Default::default() }, &params)
}

#[test]
fn a_chunked_prompt_and_decode_steps_give_the_oracles_tokens() {
    let mut runner = runner(MockOptions::default());
    let expected = expected_tokens(runner.options(), &[5, 6, 7, 8, 9, 10], &GREEDY, 3);
    let first = Row { samples: false, ..row(1, 0, 0, &[5, 6, 7, 8, 9], &[3, 1]) };
    launch(&mut runner, vec![first], vec![]).unwrap();
    launch(&mut runner, vec![row(1, 0, 5, &[10], &[3, 1])], vec![]).unwrap();
    for n in 1..3 {
        let decode = Row { input: RowInput::Sampled, sampled_before: n, ..row(1, 0, 5 + n, &[], &[3, 1]) };
        launch(&mut runner, vec![decode], vec![]).unwrap();
    }
    let mut got = Vec::new();
    (0..4).for_each(|_| got.extend(runner.collect().unwrap().iter().map(|s| s.token)));
    assert_eq!(got, expected);
    assert_eq!(runner.collect().unwrap_err().status(), Status::Internal);
}

#[test]
fn broken_steps_are_refused() {
    let decode = |id, slot, start| Row { input: RowInput::Sampled, ..row(id, slot, start, &[], &[0]) };
    let cases: Vec<(&str, Vec<Row>, Vec<BlockCopy>)> = vec![
        ("not in the pages", vec![row(1, 0, 0, &[1; 5], &[0])], vec![]),
        ("not in the pages", vec![row(1, 0, 0, &[1], &[8])], vec![]),
        ("taken twice", vec![row(1, 0, 0, &[1], &[0]), row(2, 0, 0, &[1], &[1])], vec![]),
        ("taken twice", vec![row(1, 2, 0, &[1], &[0])], vec![]),
        ("never written", vec![row(1, 0, 1, &[1], &[0])], vec![]),
        ("another row", vec![row(1, 0, 0, &[1], &[0]), row(2, 1, 0, &[1], &[0])], vec![]),
        ("another row", vec![row(1, 0, 0, &[1], &[0]), row(2, 1, 1, &[1], &[0])], vec![]),
        ("not sampled", vec![decode(1, 0, 0)], vec![]),
        ("input is empty", vec![row(1, 0, 0, &[], &[0])], vec![]),
        ("vocabulary", vec![row(1, 0, 0, &[1000], &[0])], vec![]),
        ("never written", vec![], vec![BlockCopy { from: 0, to: 1, tokens: 2 }]),
        ("does not exist", vec![], vec![BlockCopy { from: 0, to: 8, tokens: 0 }]),
        ("clashes", vec![], vec![BlockCopy { from: 0, to: 0, tokens: 0 }]),
    ];
    for (message, rows, copies) in cases {
        let error = launch(&mut runner(MockOptions::default()), rows.clone(), copies).unwrap_err();
        assert_eq!(error.status(), Status::Internal);
        assert!(error.message().contains(message), "{error}, want {message}");
    }
    let unwanted = Row { samples: false, ..row(1, 0, 0, &[1], &[0]) };
    let step = Step { rows: vec![unwanted], ..Step::default() };
    assert!(runner(MockOptions::default()).launch(&step, &[Some(RowSampling::new(&GREEDY))]).is_err());
    assert!(runner(MockOptions::default()).launch(&step, &[]).is_err());
}

#[test]
fn a_copied_block_carries_its_first_tokens_only() {
    let mut runner = runner(MockOptions::default());
    launch(&mut runner, vec![row(1, 0, 0, &[1, 2, 3, 4], &[0])], vec![]).unwrap();
    let copy = BlockCopy { from: 0, to: 5, tokens: 2 };
    launch(&mut runner, vec![row(2, 1, 2, &[9], &[5])], vec![copy]).unwrap();
    runner.collect().unwrap();
    let expected = expected_tokens(runner.options(), &[1, 2, 9], &GREEDY, 1);
    assert_eq!(runner.collect().unwrap()[0].token, expected[0]);
    assert!(
        launch(&mut runner, vec![row(3, 1, 3, &[9], &[0]), row(2, 0, 4, &[9], &[5, 6])], vec![]).is_err()
    );
}

#[test]
fn seeds_and_draw_numbers_matter_only_with_a_temperature() {
    let options = MockOptions::default();
    let tokens = |temperature, seed| {
        let params = SamplingParams { temperature, seed, ..SamplingParams::default() };
        expected_tokens(&options, &[1, 2, 3], &params, 20)
    };
    assert_eq!(tokens(0.0, 1), tokens(0.0, 2));
    assert_eq!(tokens(0.7, 1), tokens(0.7, 1));
    assert_ne!(tokens(0.7, 1), tokens(0.7, 2));
    assert_ne!(tokens(0.7, 1), tokens(0.0, 1));
}

#[test]
fn the_end_token_comes_as_often_as_told() {
    let count = |eos_every| {
        let options = MockOptions { eos_every, vocab_size: 10, ..MockOptions::default() };
        let tokens = expected_tokens(&options, &[1], &GREEDY, 20_000);
        assert!(tokens.iter().all(|&t| t < 10));
        tokens.iter().filter(|&&t| t == options.eos_token).count()
    };
    assert_eq!(count(0), 0);
    assert!((1600..2400).contains(&count(10)), "{}", count(10));
}

#[test]
fn faults_happen_at_their_step_and_a_reset_clears_them_up() {
    let one = |n| vec![row(n, 0, 0, &[1], &[0])];
    let mut failing = runner(MockOptions { fail_at_step: 2, fail_collect_at_step: 3, ..Default::default() });
    launch(&mut failing, one(1), vec![]).unwrap();
    let error = launch(&mut failing, one(2), vec![]).unwrap_err();
    assert_eq!(error.status(), Status::DeviceError);
    failing.reset().unwrap();
    // Pages and slots are forgotten.
    assert!(launch(&mut failing, vec![row(3, 0, 1, &[1], &[0])], vec![]).is_err());
    failing.reset().unwrap();
    launch(&mut failing, one(4), vec![]).unwrap();
    failing.collect().unwrap();

    let mut failing = runner(MockOptions { fail_collect_at_step: 1, ..Default::default() });
    launch(&mut failing, one(1), vec![]).unwrap();
    assert_eq!(failing.collect().unwrap_err().status(), Status::DeviceError);

    let mut panicking = runner(MockOptions { panic_at_step: 1, ..Default::default() });
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        launch(&mut panicking, vec![row(1, 0, 0, &[1], &[0])], vec![])
    }));
    assert!(panicked.is_err());
}

#[test]
fn options_are_read_strictly() {
    let options: MockOptions = serde_json::from_str(r#"{"vocab_size": 50, "eos_every": 9}"#).unwrap();
    assert_eq!(options, MockOptions { vocab_size: 50, eos_every: 9, ..MockOptions::default() });
    assert!(serde_json::from_str::<MockOptions>(r#"{"vocabulary": 50}"#).is_err());
    for (bad, field) in [
        (MockOptions { vocab_size: 1, ..MockOptions::default() }, "mock.vocab_size"),
        (MockOptions { eos_token: 1000, ..MockOptions::default() }, "mock.eos_token"),
    ] {
        assert!(MockRunner::new(bad, 8, 4, 2).unwrap_err().message().starts_with(field));
    }
}
