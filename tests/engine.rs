//! The engine on the mock model: life cycle, events, cancel, failure. `tests/batching.rs` has the rest.
#![cfg(not(feature = "mlx"))]

mod harness;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use harness::{Answer, Collector, End, TestModel, assert_all_pages_back, create, run, run_one, tokens};
use quire::engine::{
    Engine, EngineOptions, Event, EventHandler, EventKind, FinishReason, Prompt, RequestOptions, Shutdown,
};
use quire::error::Status;
use quire::sampling::SamplingParams;
use serde_json::json;

fn model() -> TestModel {
    TestModel::new(json!({}))
}

/// A model whose steps take long enough to catch a request in the middle.
fn slow_model() -> TestModel {
    TestModel::new(json!({ "step_micros": 2000 }))
}

fn status<T: std::fmt::Debug>(result: quire::error::Result<T>) -> Status {
    result.unwrap_err().status()
}

#[test]
fn an_answer_comes_as_tokens_with_their_text() {
    let model = model();
    let engine = model.engine();
    let answer = run_one(&engine, tokens(&[1, 2, 3], 20));
    assert_eq!(answer.end, End::Finished(FinishReason::Length));
    assert_eq!(answer.tokens.len(), 20);
    assert_eq!(answer.text, engine.tokenizer().unwrap().decode(&answer.tokens, false));
    assert_all_pages_back(&engine);
}

#[test]
fn text_and_its_tokens_are_the_same_prompt() {
    let model = model();
    let engine = model.engine();
    let text = "Grüße, 世界";
    let ids = engine.tokenizer().unwrap().encode(text, true).unwrap();
    let from_text = RequestOptions { prompt: Prompt::Text(text.into()), ..tokens(&[], 10) };
    assert_eq!(run_one(&engine, from_text).tokens, run_one(&engine, tokens(&ids, 10)).tokens);
}

#[test]
fn stop_tokens_and_end_of_sequence_end_an_answer_and_stay_out_of_it() {
    let model = TestModel::new(json!({ "eos_every": 10 }));
    let engine = model.engine();
    let free = run_one(&engine, tokens(&[5, 6], 200));
    let at = free.tokens.iter().position(|t| *t == 256).expect("an end-of-sequence token in 200");
    let ended = run_one(&engine, RequestOptions { ignore_eos: false, ..tokens(&[5, 6], 200) });
    assert_eq!(ended.end, End::Finished(FinishReason::EndOfSequence(256)));
    assert_eq!(ended.tokens, free.tokens[..at]);

    let stop = free.tokens[2];
    let first = free.tokens.iter().position(|t| *t == stop).unwrap();
    let stopped = run_one(&engine, RequestOptions { stop_tokens: vec![stop], ..tokens(&[5, 6], 200) });
    assert_eq!(stopped.end, End::Finished(FinishReason::StopToken(stop)));
    assert_eq!(stopped.tokens, free.tokens[..first]);
}

#[test]
fn bad_requests_are_refused_at_submit_and_the_engine_goes_on() {
    let model = model();
    let options = EngineOptions { max_context: Some(64), ..model.options() };
    let engine = create(options);
    let ok = tokens(&[1], 4);
    let bad = [
        (RequestOptions { max_tokens: 0, ..ok.clone() }, Status::InvalidArgument, "max_tokens"),
        (RequestOptions { prompt: Prompt::Tokens(vec![]), ..ok.clone() }, Status::InvalidArgument, "prompt"),
        (
            RequestOptions { prompt: Prompt::Tokens(vec![1, 258]), ..ok.clone() },
            Status::InvalidArgument,
            "prompt_tokens[1]",
        ),
        (RequestOptions { stop_tokens: vec![9999], ..ok.clone() }, Status::InvalidArgument, "stop_tokens[0]"),
        (tokens(&[1; 64], 1), Status::PromptTooLong, "64 tokens"),
        (tokens(&[1; 60], 5), Status::PromptTooLong, "max_tokens is 5"),
        (
            RequestOptions { sampling: SamplingParams { top_p: 2.0, ..Default::default() }, ..ok.clone() },
            Status::InvalidArgument,
            "top_p",
        ),
    ];
    for (request, status, names) in bad {
        let error = engine.submit(request).unwrap_err();
        assert_eq!(error.status(), status);
        assert!(error.message().contains(names), "{error} should name {names}");
    }
    assert_eq!(run_one(&engine, tokens(&[1; 60], 4)).tokens.len(), 4);
}

#[test]
fn cancel_ends_a_request_in_every_state() {
    let model = slow_model();
    let engine = create(EngineOptions { max_sequences: 1, max_step_tokens: 16, ..model.options() });
    let decoding = engine.submit(tokens(&[1], 4000)).unwrap();
    let first = engine.wait(None).unwrap();
    assert!(matches!(first.kind, EventKind::Delta(_)) && first.request == decoding);
    let waiting = engine.submit(tokens(&[2], 4000)).unwrap();
    engine.cancel(waiting).unwrap();
    engine.cancel(decoding).unwrap();
    assert_eq!(status(engine.cancel(decoding)), Status::NotFound);
    let prefilling = engine.submit(tokens(&[3; 4000], 4000)).unwrap();
    std::thread::sleep(Duration::from_millis(10));
    engine.cancel(prefilling).unwrap();
    let mut collector = Collector::default();
    collector.wait_for(&engine, 3);
    for id in [decoding, waiting, prefilling] {
        assert_eq!(collector.answers[&id].end, End::Cancelled);
        assert_eq!(status(engine.cancel(id)), Status::NotFound);
    }
    assert!(collector.answers[&waiting].tokens.is_empty());
    assert!(collector.answers[&prefilling].tokens.is_empty());
    assert_all_pages_back(&engine);
    assert_eq!(run_one(&engine, tokens(&[4], 3)).tokens.len(), 3);
}

#[test]
fn cancel_all_ends_everything() {
    let model = slow_model();
    let engine = model.engine();
    for i in 0..20 {
        engine.submit(tokens(&[i], 4000)).unwrap();
    }
    engine.cancel_all();
    let mut collector = Collector::default();
    collector.wait_for(&engine, 20);
    assert!(collector.answers.values().all(|a| a.end == End::Cancelled));
    assert_all_pages_back(&engine);
}

#[test]
fn a_deadline_fails_a_request_with_its_own_status() {
    let model = slow_model();
    let engine = model.engine();
    let late = RequestOptions { timeout: Some(Duration::from_millis(20)), ..tokens(&[1], 8000) };
    let answers = run(&engine, vec![late, tokens(&[2], 5)]);
    assert_eq!(answers[0].status(), Some(Status::DeadlineExceeded));
    assert_eq!(answers[1].end, End::Finished(FinishReason::Length));
    assert_all_pages_back(&engine);
}

#[test]
fn a_full_queue_refuses_until_a_terminal_event_is_taken() {
    let model = model();
    let engine = create(EngineOptions { max_sequences: 1, max_waiting: 1, ..model.options() });
    engine.submit(tokens(&[1], 2)).unwrap();
    engine.submit(tokens(&[2], 2)).unwrap();
    assert_eq!(status(engine.submit(tokens(&[3], 2))), Status::QueueFull);
    Collector::default().wait_for(&engine, 1);
    engine.submit(tokens(&[3], 2)).unwrap();
}

#[test]
fn draining_finishes_what_runs_and_refuses_what_comes() {
    let model = slow_model();
    let engine = model.engine();
    let ids: Vec<_> = (0..4).map(|i| engine.submit(tokens(&[i], 30)).unwrap()).collect();
    engine.shutdown(Shutdown::Drain(None)).unwrap();
    assert_eq!(status(engine.submit(tokens(&[1], 1))), Status::ShutDown);
    let mut collector = Collector::default();
    collector.wait_for(&engine, ids.len());
    assert!(collector.answers.values().all(|a| a.tokens.len() == 30));
    assert_eq!(status(engine.wait(None)), Status::ShutDown);
    assert_eq!(status(engine.poll()), Status::ShutDown);
    engine.shutdown(Shutdown::Cancel).unwrap();
}

#[test]
fn a_drain_that_takes_too_long_is_cut_short() {
    let model = slow_model();
    let engine = model.engine();
    let id = engine.submit(tokens(&[1], 8000)).unwrap();
    engine.shutdown(Shutdown::Drain(Some(Duration::from_millis(20)))).unwrap();
    let mut collector = Collector::default();
    collector.wait_for(&engine, 1);
    assert_eq!(collector.answers[&id].end, End::Cancelled);
}

#[test]
fn a_stricter_shutdown_overtakes_a_patient_one() {
    let model = slow_model();
    let engine = model.engine();
    engine.submit(tokens(&[1], 8000)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| engine.shutdown(Shutdown::Drain(None)).unwrap());
        std::thread::sleep(Duration::from_millis(5));
        engine.shutdown(Shutdown::Cancel).unwrap();
    });
    let mut collector = Collector::default();
    collector.wait_for(&engine, 1);
}

#[test]
fn waiting_times_out() {
    let model = model();
    let engine = model.engine();
    assert_eq!(status(engine.wait(Some(Duration::from_millis(1)))), Status::Timeout);
    assert!(engine.poll().unwrap().is_none());
}

#[test]
fn a_panic_on_the_engine_thread_fails_what_is_in_flight_and_nothing_else() {
    for (fault, expected) in [("panic_at_step", Status::Internal), ("fail_at_step", Status::DeviceError)] {
        let model = TestModel::new(json!({ fault: 5 }));
        let engine = model.engine();
        let answers = run(&engine, vec![tokens(&[1], 100), tokens(&[2], 100)]);
        assert!(answers.iter().all(|a| a.status() == Some(expected)), "{answers:?}");
        assert_all_pages_back(&engine);
        let after = run_one(&engine, tokens(&[1], 100));
        assert_eq!(after.tokens.len(), 100);
        assert_eq!(engine.statistics().failed, 2);
    }
}

/// Sends events on, and says when it is dropped.
struct Handler {
    events: mpsc::Sender<Event>,
    dropped: Arc<AtomicUsize>,
}

impl EventHandler for Handler {
    fn handle(&mut self, event: Event) {
        self.events.send(event).unwrap();
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn engine_with_handler(model: &TestModel) -> (Engine, mpsc::Receiver<Event>, Arc<AtomicUsize>) {
    let (events, inbox) = mpsc::channel();
    let dropped = Arc::new(AtomicUsize::new(0));
    let handler = Handler { events, dropped: dropped.clone() };
    let engine = Engine::create(model.options(), Some(Box::new(handler)), &mut |_, _| true).unwrap();
    (engine, inbox, dropped)
}

#[test]
fn a_handler_gets_what_poll_would_and_is_dropped_last() {
    let model = model();
    let expected = run_one(&model.engine(), tokens(&[1, 2], 50));
    let (engine, inbox, dropped) = engine_with_handler(&model);
    let id = engine.submit(tokens(&[1, 2], 50)).unwrap();
    let mut collector = Collector::default();
    while collector.answers.is_empty() {
        collector.add(inbox.recv().unwrap());
    }
    assert_eq!(collector.answers[&id], Answer { cached_tokens: 0, ..expected });
    assert_eq!(status(engine.poll()), Status::InvalidState);
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    drop(engine);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[test]
fn releasing_with_requests_in_flight_cancels_them_first() {
    let model = slow_model();
    let (engine, inbox, dropped) = engine_with_handler(&model);
    let ids: Vec<_> = (0..8).map(|i| engine.submit(tokens(&[i], 8000)).unwrap()).collect();
    engine.release();
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    let mut collector = Collector::default();
    inbox.iter().for_each(|event| collector.add(event));
    assert_eq!(collector.answers.len(), ids.len());
    assert!(collector.answers.values().all(|a| a.end == End::Cancelled));
}

/// A handler that lets go of its own engine at the first event.
struct Releaser {
    engine: Arc<Mutex<Option<Engine>>>,
    done: mpsc::Sender<Option<Status>>,
}

impl EventHandler for Releaser {
    fn handle(&mut self, event: Event) {
        let Some(engine) = self.engine.lock().unwrap().take() else { return };
        let refused = engine.shutdown(Shutdown::Cancel).err().map(|e| e.status());
        engine.cancel(event.request).unwrap();
        engine.release();
        self.done.send(refused).unwrap();
    }
}

#[test]
fn an_engine_can_be_released_from_its_own_callback() {
    let model = slow_model();
    let slot = Arc::new(Mutex::new(None));
    let (done, ended) = mpsc::channel();
    let handler = Releaser { engine: slot.clone(), done };
    let engine = Engine::create(model.options(), Some(Box::new(handler)), &mut |_, _| true).unwrap();
    let mut slot_guard = slot.lock().unwrap();
    engine.submit(tokens(&[1], 8000)).unwrap();
    *slot_guard = Some(engine);
    drop(slot_guard);
    assert_eq!(ended.recv().unwrap(), Some(Status::InvalidState));
    // The sender goes with the handler: the dispatcher has ended.
    assert!(ended.recv().is_err());
}

#[test]
fn a_failed_creation_drops_the_handler_and_says_why() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let handler = || -> Option<Box<dyn EventHandler>> {
        Some(Box::new(Handler { events: mpsc::channel().0, dropped: dropped.clone() }))
    };
    let options = EngineOptions { model: "/nonexistent/model".into(), ..EngineOptions::default() };
    let error = Engine::create(options, handler(), &mut |_, _| true).err().unwrap();
    assert_eq!(error.status(), Status::ModelNotFound);
    assert!(error.message().contains("/nonexistent/model"));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);

    let model = model();
    let aborted = Engine::create(model.options(), handler(), &mut |_, _| false).err().unwrap();
    assert_eq!(aborted.status(), Status::Aborted);
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
}

#[test]
fn progress_rises_to_one_on_the_calling_thread() {
    let model = model();
    let caller = std::thread::current().id();
    let mut seen = Vec::new();
    Engine::create(model.options(), None, &mut |fraction, stage| {
        assert_eq!(std::thread::current().id(), caller);
        assert!(!stage.is_empty());
        seen.push(fraction);
        true
    })
    .unwrap();
    assert!(seen.is_sorted() && seen[0] >= 0.0, "{seen:?}");
    assert_eq!(seen.last(), Some(&1.0));
}

#[test]
fn a_model_without_a_tokenizer_serves_token_ids() {
    let model = model();
    let expected = run_one(&model.engine(), tokens(&[1], 5)).tokens;
    std::fs::remove_file(model.path().join("tokenizer.json")).unwrap();
    let engine = model.engine();
    let text = RequestOptions::new(Prompt::Text("hello".into()));
    assert_eq!(status(engine.submit(text)), Status::TokenizerMissing);
    let answer = run_one(&engine, tokens(&[1], 5));
    assert_eq!((answer.tokens, answer.text.as_str()), (expected, ""));
}

#[test]
fn a_long_prompt_is_encoded_while_others_stream() {
    use std::sync::atomic::AtomicBool;

    // 100,000 tokens fit.
    let model = TestModel::new(json!({ "step_micros": 200 }));
    let config = model.path().join("config.json");
    let mut fields: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    fields["max_position_embeddings"] = json!(200_000);
    std::fs::write(&config, fields.to_string()).unwrap();
    let engine = model.engine();

    let stream = engine.submit(tokens(&[1, 2, 3], 100_000)).unwrap();
    let text = "keep the light, ".repeat(6_250);
    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let submit = scope.spawn(|| {
            begun.store(true, Ordering::SeqCst);
            let long =
                engine.submit(RequestOptions { max_tokens: 1, ..RequestOptions::new(Prompt::Text(text)) });
            over.store(true, Ordering::SeqCst);
            long.unwrap()
        });
        let mut meanwhile = 0;
        while !over.load(Ordering::SeqCst) {
            let event = engine.wait(Some(Duration::from_secs(120))).unwrap();
            let is_delta = event.request == stream && matches!(event.kind, EventKind::Delta(_));
            meanwhile += usize::from(is_delta && begun.load(Ordering::SeqCst));
        }
        assert!(meanwhile > 3, "{meanwhile} events came while a long prompt was submitted");
        engine.cancel(stream).unwrap();
        let long = submit.join().unwrap();
        let mut ends = Collector::default();
        ends.wait_for(&engine, 2);
        assert_eq!(ends.answers[&stream].end, End::Cancelled);
        assert_eq!(ends.answers[&long].tokens.len(), 1);
    });
    assert_all_pages_back(&engine);
}
