//! What grammars cost: `cargo bench --no-default-features --bench grammar`. With `QUIRE_TOKENIZER` naming a
//! `tokenizer.json` its vocabulary is used, else the small one of the tests.
//!
//! Before the benchmarks it prints percentiles of the time for one token: taking it and making the next mask.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use divan::Bencher;
use quire::grammar::{Grammar, GrammarKind, GrammarState, Grammars};
use quire::text::Tokenizer;
use serde_json::{Map, Value, json};

struct Setup {
    tokenizer: Tokenizer,
    grammars: Grammars,
    grammar: Grammar,
    /// An answer that the grammar accepts.
    answer: Vec<u32>,
}

impl Setup {
    fn new() -> Self {
        let small = || {
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/byte-level-bpe/tokenizer.json"))
        };
        let path = std::env::var_os("QUIRE_TOKENIZER").map_or_else(small, PathBuf::from);
        let tokenizer = Tokenizer::from_file(&path).expect("a tokenizer");
        let grammars =
            Grammars::new(&tokenizer, tokenizer.vocab_size(), tokenizer.eos_ids()).expect("a vocabulary");
        let (schema, answer) = fields(100);
        let answer = tokenizer.encode(&answer.to_string(), false).expect("tokens");
        let grammar = Grammar { kind: GrammarKind::JsonSchema, text: schema.to_string() };
        Setup { tokenizer, grammars, grammar, answer }
    }

    fn start(&self) -> GrammarState {
        self.grammars.start(&self.grammar).expect("a schema that compiles")
    }
}

/// A schema of `count` required fields of every sort, and an object that it validates.
fn fields(count: usize) -> (Value, Value) {
    let (mut properties, mut object) = (Map::new(), Map::new());
    for i in 0..count {
        let name = format!("field_{i}_of_the_record");
        let (schema, value) = match i % 7 {
            0 => (
                json!({ "type": "string" }),
                json!(format!("Some text, the {i}th, with \"quotes\" and ünïcödé.")),
            ),
            1 => (json!({ "type": "integer", "minimum": 0, "maximum": 100_000 }), json!(i * 977)),
            2 => (json!({ "type": "number" }), json!(i as f64 * 1.75)),
            3 => (json!({ "enum": ["active", "inactive", "suspended", "deleted"] }), json!("suspended")),
            4 => (
                json!({ "type": "array", "items": { "type": "string", "maxLength": 30 } }),
                json!(["a tag", "b"]),
            ),
            5 => (json!({ "type": ["boolean", "null"] }), json!(true)),
            _ => (json!({ "type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$" }), json!("AB-2031")),
        };
        properties.insert(name.clone(), schema);
        object.insert(name, value);
    }
    let required: Vec<&String> = properties.keys().collect();
    let schema = json!({ "type": "object", "required": required, "properties": properties,
                         "additionalProperties": false });
    (schema, object.into())
}

/// Feeds the answer, and takes the time of each token.
fn walk(setup: &Setup) -> Vec<Duration> {
    let mut state = setup.start();
    let mut times = Vec::with_capacity(setup.answer.len());
    for &token in &setup.answer {
        let start = Instant::now();
        let mask = state.mask(std::iter::empty()).expect("a mask");
        let allowed = mask[token as usize / 32] >> (token % 32) & 1 == 1;
        assert!(allowed, "token {token} of the answer is not allowed");
        state.accept(token).expect("an allowed token");
        times.push(start.elapsed());
    }
    assert!(state.may_end());
    times
}

fn print_percentiles() {
    let setup = Setup::new();
    let start = Instant::now();
    setup.start();
    let compiled = start.elapsed();
    let start = Instant::now();
    setup.start();
    let again = start.elapsed();
    let mut times: Vec<Duration> = (0..5).flat_map(|_| walk(&setup)).collect();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "a schema of 100 fields, {} tokens in the vocabulary, {} in the answer: compiled in {:.1} ms, from the cache in \
         {:.2} ms; a token takes p50 {:.0} us, p90 {:.0} us, p99 {:.0} us, at most {:.0} us",
        setup.tokenizer.vocab_size(),
        setup.answer.len(),
        compiled.as_secs_f64() * 1e3,
        again.as_secs_f64() * 1e3,
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
    );
}

/// All tokens of an answer to a schema of 100 fields.
#[divan::bench(sample_count = 20)]
fn answer_of_100_fields(bencher: Bencher) {
    let setup = Setup::new();
    bencher.counter(divan::counter::ItemsCount::new(setup.answer.len())).bench_local(|| walk(&setup));
}

/// Starting an answer with a schema that was compiled before.
#[divan::bench(sample_count = 20)]
fn start_from_the_cache(bencher: Bencher) {
    let setup = Setup::new();
    bencher.bench_local(|| setup.start());
}

fn main() {
    print_percentiles();
    divan::main();
}
