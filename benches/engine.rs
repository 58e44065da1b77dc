//! What the engine itself costs, on the mock model: `cargo bench --no-default-features --bench engine`.

use std::time::Duration;

use quire::engine::{Engine, EngineOptions, EventKind, Prompt, RequestOptions};

/// The mock model of the tests, in which a step takes no time.
fn engine() -> Engine {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mock-model").to_owned();
    let options =
        EngineOptions { model, max_sequences: 64, prefix_sharing: false, ..EngineOptions::default() };
    Engine::create(options, None, &mut |_, _| true).expect("the mock model loads")
}

fn request(first: u32, max_tokens: u32) -> RequestOptions {
    let prompt = Prompt::Tokens((0..100).map(|i| (first + i) % 250).collect());
    RequestOptions { max_tokens, ignore_eos: true, ..RequestOptions::new(prompt) }
}

/// Takes events until `count` requests have ended.
fn drain(engine: &Engine, mut count: usize) {
    while count > 0 {
        let event = engine.wait(Some(Duration::from_secs(60))).expect("an event");
        count -= usize::from(event.kind.is_terminal());
    }
}

/// Steps of 64 streams each, with detokenizing, events, and a reader that takes them.
#[divan::bench(args = [64])]
fn decode_steps(bencher: divan::Bencher, rows: usize) {
    const STEPS: u32 = 500;
    let engine = engine();
    bencher.counter(divan::counter::ItemsCount::new(STEPS)).bench_local(|| {
        for row in 0..rows {
            engine.submit(request(row as u32, STEPS)).expect("a place");
        }
        drain(&engine, rows);
    });
}

/// From submit on a parked engine to the first event, on another thread.
#[divan::bench]
fn first_event_of_a_parked_engine(bencher: divan::Bencher) {
    let engine = engine();
    bencher
        .with_inputs(|| {
            // Long enough for every thread to have gone to sleep.
            std::thread::sleep(Duration::from_millis(2));
            request(1, 1)
        })
        .bench_local_values(|request| {
            engine.submit(request).expect("a place");
            let event = engine.wait(Some(Duration::from_secs(60))).expect("an event");
            assert!(matches!(event.kind, EventKind::Delta(_)));
            drain(&engine, 1);
        });
}

fn main() {
    divan::main();
}
