//! Many requests at once, on the mock model: whatever the batch, the pages and the arrivals do, every request
//! gets the tokens it would get alone, exactly one terminal event, and gives all its pages back.
#![cfg(not(feature = "mlx"))]

mod harness;

use std::time::Duration;

use harness::{Answer, Collector, End, TestModel, assert_all_pages_back, create, run, run_one, tokens};
use quire::engine::mock::{MockOptions, expected_tokens};
use quire::engine::{Engine, EngineOptions, FinishReason, RequestOptions};
use quire::error::Status;
use quire::sampling::SamplingParams;
use serde_json::json;

const BLOCK: usize = 16;

fn model() -> TestModel {
    TestModel::new(json!({}))
}

/// What the mock says to this request, computed without engine, scheduler or pages.
fn oracle(request: &RequestOptions) -> Vec<u32> {
    let options = MockOptions { vocab_size: 258, eos_token: 256, ..MockOptions::default() };
    let quire::engine::Prompt::Tokens(prompt) = &request.prompt else { panic!("a prompt of tokens") };
    expected_tokens(&options, prompt, &request.sampling, request.max_tokens as usize)
}

fn assert_as_alone(answers: &[Answer], requests: &[RequestOptions]) {
    for (answer, request) in answers.iter().zip(requests) {
        assert_eq!(answer.end, End::Finished(FinishReason::Length));
        assert_eq!(answer.tokens, oracle(request));
    }
}

/// A page of the mock model: a key and a value of four floats for each of its tokens.
const PAGE_BYTES: u64 = BLOCK as u64 * 2 * 4 * 4;

/// Options with a cache of this many pages, besides the one that the storage keeps for itself.
fn pages(options: &EngineOptions, count: u64) -> EngineOptions {
    EngineOptions { cache_bytes: Some((count + 1) * PAGE_BYTES), ..options.clone() }
}

fn with_pages(model: &TestModel, count: u64) -> Engine {
    let engine = create(pages(&model.options(), count));
    assert_eq!(u64::from(engine.model_info().num_blocks), count);
    engine
}

/// A small generator of numbers, the same on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn prompt(&mut self, len: u64) -> Vec<u32> {
        (0..len).map(|_| self.next(256) as u32).collect()
    }
}

#[test]
fn a_batch_of_mixed_requests_answers_as_each_would_alone() {
    let model = model();
    let mut numbers = Numbers(1);
    let requests: Vec<RequestOptions> = (0..40)
        .map(|i| {
            let (prompt, count) = (1 + numbers.next(300), 1 + numbers.next(60));
            let sampling =
                SamplingParams { temperature: (i % 3) as f32 * 0.5, seed: i, ..Default::default() };
            RequestOptions { sampling, ..tokens(&numbers.prompt(prompt), count as u32) }
        })
        .collect();
    let engine = model.engine();
    assert_as_alone(&run(&engine, requests.clone()), &requests);
    assert_all_pages_back(&engine);
    let one_at_a_time = model.engine();
    for request in &requests {
        assert_eq!(run_one(&one_at_a_time, request.clone()).tokens, oracle(request));
    }
}

#[test]
fn a_second_equal_prompt_reuses_the_first_ones_pages() {
    let model = model();
    let engine = model.engine();
    let request = tokens(&Numbers(2).prompt(100), 8);
    let cold = run_one(&engine, request.clone());
    let warm = run_one(&engine, request.clone());
    assert_eq!((cold.cached_tokens, &cold.tokens), (0, &oracle(&request)));
    assert_eq!(warm.tokens, cold.tokens);
    // All but the last token, which is computed again for its logits.
    assert_eq!(warm.cached_tokens, 99);
    assert_eq!(engine.statistics().prefix_hits, 1);
}

#[test]
fn a_hit_of_whole_blocks_still_computes_the_last_token_once() {
    let model = model();
    for len in [BLOCK, 2 * BLOCK, 2 * BLOCK - 1, 2 * BLOCK + 1, 1] {
        let engine = model.engine();
        let request = tokens(&Numbers(3).prompt(len as u64), 2 * BLOCK as u32);
        for _ in 0..3 {
            assert_eq!(run_one(&engine, request.clone()).tokens, oracle(&request), "{len}");
        }
    }
}

#[test]
fn equal_prompts_running_at_the_same_time_compute_their_prefix_once() {
    let model = model();
    let engine = model.engine();
    let shared = Numbers(4).prompt(288);
    let requests: Vec<RequestOptions> =
        (0..20).map(|i| tokens(&[shared.clone(), vec![i, i + 1, i + 2]].concat(), 20)).collect();
    assert_as_alone(&run(&engine, requests.clone()), &requests);
    let s = engine.statistics();
    assert_eq!(s.prefix_hits, 19, "{s:?}");
    assert!(s.cached_tokens >= 19 * 288, "{s:?}");
    assert_all_pages_back(&engine);
}

#[test]
fn prompts_that_wait_for_their_turn_still_share() {
    let model = model();
    // Fifty prompts in three groups, far more than one step takes: each group computes its prefix once.
    let engine = model.engine();
    let mut numbers = Numbers(41);
    let groups: Vec<Vec<u32>> = (0..3).map(|_| numbers.prompt(128)).collect();
    let requests: Vec<RequestOptions> = [20, 15, 15]
        .iter()
        .zip(&groups)
        .flat_map(|(count, shared)| std::iter::repeat_n(shared, *count))
        .map(|shared| tokens(&[shared.clone(), numbers.prompt(128)].concat(), 2))
        .collect();
    assert_as_alone(&run(&engine, requests.clone()), &requests);
    assert_eq!(engine.statistics().cached_tokens, 47 * 128);
}

#[test]
fn different_salts_share_nothing_and_no_sharing_shares_nothing() {
    let model = model();
    let engine = model.engine();
    let salted = |salt: &str| RequestOptions { cache_salt: salt.into(), ..tokens(&Numbers(5).prompt(64), 4) };
    for salt in ["", "a", "b"] {
        assert_eq!(run_one(&engine, salted(salt)).cached_tokens, 0, "{salt}");
    }
    assert_eq!(run_one(&engine, salted("a")).cached_tokens, 63);
    let unshared = create(EngineOptions { prefix_sharing: false, ..model.options() });
    for _ in 0..2 {
        assert_eq!(run_one(&unshared, salted("")).cached_tokens, 0);
    }
}

#[test]
fn equal_blocks_after_different_prefixes_are_different() {
    let model = model();
    let engine = model.engine();
    let block = Numbers(6).prompt(BLOCK as u64);
    let requests = [
        tokens(&[vec![1; BLOCK], block.clone()].concat(), 4),
        tokens(&[vec![2; BLOCK], block.clone()].concat(), 4),
        tokens(&block, 4),
    ];
    for request in &requests {
        let answer = run_one(&engine, request.clone());
        assert_eq!((answer.cached_tokens, answer.tokens), (0, oracle(request)));
    }
}

#[test]
fn requests_that_outgrow_the_pages_are_put_aside_and_answer_the_same() {
    let model = model();
    // Twelve requests grow to 10 blocks each; 40 blocks hold four of them.
    let engine = with_pages(&model, 40);
    let mut numbers = Numbers(7);
    let requests: Vec<RequestOptions> = (0..12)
        .map(|i| {
            let sampling = SamplingParams { temperature: 0.7, seed: i, ..Default::default() };
            RequestOptions { sampling, ..tokens(&numbers.prompt(20), 140) }
        })
        .collect();
    assert_as_alone(&run(&engine, requests.clone()), &requests);
    assert!(engine.statistics().preemptions > 0);
    assert_all_pages_back(&engine);
}

#[test]
fn what_can_never_fit_is_refused_at_submit_and_what_just_fits_runs() {
    let model = model();
    let engine = with_pages(&model, 4);
    let error = engine.submit(tokens(&[1; 60], 5)).unwrap_err();
    assert_eq!(error.status(), Status::PromptTooLong);
    let request = tokens(&[1; 60], 4);
    assert_as_alone(&run(&engine, vec![request.clone(); 3]), &vec![request; 3]);
}

#[test]
fn a_saved_cache_warms_an_engine_of_the_same_model_and_no_other() {
    let model = model();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prefixes");
    let request = tokens(&Numbers(42).prompt(100), 8);
    let salted = RequestOptions { cache_salt: b"tenant".to_vec(), ..request.clone() };

    let first = model.engine();
    run_one(&first, request.clone());
    let running = first.submit(tokens(&[7; 40], 3000)).unwrap();
    // Six full blocks of the prompt; the other request may have filled some of its own.
    assert!(first.save_cache(&path).unwrap() >= 6);
    first.cancel(running).unwrap();

    let second = model.engine();
    assert!(second.load_cache(&path).unwrap() >= 6);
    assert_eq!(second.load_cache(&path).unwrap(), 0, "all of it is there already");
    assert_eq!(run_one(&second, salted).cached_tokens, 0);
    let warm = run_one(&second, request.clone());
    assert_eq!((warm.cached_tokens, warm.tokens), (96, oracle(&request)));
    assert_all_pages_back(&second);

    // Only as much comes as there is room for.
    let small = with_pages(&model, 3);
    assert_eq!(small.load_cache(&path).unwrap(), 3);
    // Another model: one weight differs.
    let other = TestModel::new(json!({}));
    let weights = other.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let error = other.engine().load_cache(&path).unwrap_err();
    assert_eq!(error.status(), Status::CacheInvalid);
    assert!(error.message().contains("another model"), "{error}");
    assert_eq!(second.load_cache(&dir.path().join("none")).unwrap_err().status(), Status::Io);
}

#[test]
fn a_saved_cache_of_a_recurrent_model_has_its_states() {
    let model = TestModel::new(json!({ "snapshots": 8 }));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prefixes");
    let request = tokens(&Numbers(43).prompt(100), 8);
    let first = model.engine();
    assert_eq!(run_one(&first, request.clone()).tokens, oracle(&request));
    first.save_cache(&path).unwrap();

    let second = model.engine();
    assert!(second.load_cache(&path).unwrap() >= 6);
    let warm = run_one(&second, request.clone());
    assert_eq!((warm.cached_tokens, warm.tokens), (96, oracle(&request)));
    // A model without states has another kind of cache; one with fewer snapshots takes what fits.
    let error = self::model().engine().load_cache(&path).unwrap_err();
    assert_eq!(error.status(), Status::CacheInvalid);
}

#[test]
fn a_higher_priority_starts_first() {
    let model = TestModel::new(json!({ "step_micros": 1000 }));
    let engine = create(EngineOptions { max_sequences: 1, ..model.options() });
    let blocker = engine.submit(tokens(&[9], 30)).unwrap();
    // It runs when its first token is there; the others then wait for its place.
    assert_eq!(engine.wait(Some(Duration::from_secs(60))).unwrap().request, blocker);
    let low = engine.submit(RequestOptions { priority: -1, ..tokens(&[1], 2) }).unwrap();
    let high = engine.submit(RequestOptions { priority: 5, ..tokens(&[2], 2) }).unwrap();
    let mut order = Vec::new();
    while order.len() < 3 {
        let event = engine.wait(Some(Duration::from_secs(60))).unwrap();
        if event.kind.is_terminal() {
            order.push(event.request);
        }
    }
    assert_eq!(order, [blocker, high, low]);
}

#[test]
fn neighbours_with_other_settings_change_nothing() {
    let model = model();
    let engine = model.engine();
    let plain = tokens(&[1, 2, 3], 50);
    let hot = |seed| RequestOptions {
        sampling: SamplingParams {
            temperature: 2.0,
            top_k: 5,
            top_p: 0.5,
            min_p: 0.1,
            seed,
            ..Default::default()
        },
        ..tokens(&[1, 2, 3], 50)
    };
    let requests = vec![hot(1), plain.clone(), hot(2), hot(1)];
    let answers = run(&engine, requests.clone());
    assert_as_alone(&answers, &requests);
    assert_eq!(answers[0].tokens, answers[3].tokens);
    assert_ne!(answers[0].tokens, answers[2].tokens);
}

/// Random arrivals, lengths, cancels and deadlines under pressure for pages.
fn random_traffic(engine: &Engine, count: usize, seed: u64) {
    let mut numbers = Numbers(seed);
    let mut collector = Collector::default();
    let mut sent = Vec::new();
    let prefixes: Vec<Vec<u32>> = (0..4).map(|i| numbers.prompt(20 * i)).collect();
    while sent.len() < count {
        let prefix = &prefixes[numbers.next(4) as usize];
        let own = 1 + numbers.next(60);
        let request = RequestOptions {
            timeout: (numbers.next(10) == 0).then(|| Duration::from_micros(numbers.next(5000))),
            priority: numbers.next(3) as i32,
            ..tokens(&[prefix.clone(), numbers.prompt(own)].concat(), 1 + numbers.next(40) as u32)
        };
        match engine.submit(request.clone()) {
            Ok(id) => sent.push((id, request)),
            Err(e) => {
                assert_eq!(e.status(), Status::QueueFull);
                collector.add(engine.wait(Some(Duration::from_secs(60))).unwrap());
            }
        }
        if numbers.next(4) == 0 {
            let (id, _) = &sent[numbers.next(sent.len() as u64) as usize];
            // It may have ended, or been cancelled before.
            if let Err(e) = engine.cancel(*id) {
                assert_eq!(e.status(), Status::NotFound);
            }
        }
        while let Some(event) = engine.poll().unwrap() {
            collector.add(event);
        }
    }
    collector.wait_for(engine, count);
    let mut finished = 0;
    for (id, request) in &sent {
        let answer = &collector.answers[id];
        let expected = oracle(request);
        assert!(expected.starts_with(&answer.tokens), "a wrong token");
        match &answer.end {
            End::Finished(reason) => {
                finished += 1;
                assert_eq!((reason, answer.tokens.len()), (&FinishReason::Length, expected.len()));
            }
            End::Cancelled => {}
            End::Failed(e) => assert_eq!(e.status(), Status::DeadlineExceeded),
        }
    }
    assert!(finished > count / 2, "only {finished} of {count} finished");
    assert_all_pages_back(engine);
    let s = engine.statistics();
    assert_eq!(s.accepted, s.finished + s.cancelled + s.failed);
}

#[test]
fn a_thousand_random_requests_each_end_once_and_right() {
    let model = model();
    let options =
        EngineOptions { max_sequences: 16, max_waiting: 64, max_step_tokens: 64, ..model.options() };
    random_traffic(&create(pages(&options, 60)), 1000, 8);
}

/// This process's resident memory in bytes.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[cfg(target_os = "linux")]
#[test]
fn twenty_thousand_requests_leave_memory_flat() {
    let model = model();
    let options = EngineOptions { max_sequences: 32, max_waiting: 64, ..model.options() };
    let engine = create(pages(&options, 200));
    random_traffic(&engine, 2000, 9);
    let before = resident();
    for seed in 10..19 {
        random_traffic(&engine, 2000, seed);
    }
    let grown = resident().saturating_sub(before);
    // The test itself keeps the answers of 2,000 requests; a leak of 1 KiB a request would be 18 MiB.
    assert!(grown < 8 << 20, "{grown} bytes more after 18,000 requests");
}
