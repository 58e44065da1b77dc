//! What the engine tests share: a mock model on disk, and ways to drain an engine.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quire::engine::{
    Engine, EngineOptions, Event, EventKind, FinishReason, Prompt, RequestId, RequestOptions,
};
use quire::error::{Error, Status};

/// A model directory in a temporary folder, gone when dropped.
pub struct TestModel(tempfile::TempDir);

impl TestModel {
    /// A copy of `tests/data/mock-model` whose config.json has this "mock" object.
    pub fn new(mock: serde_json::Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mock-model");
        for entry in std::fs::read_dir(source).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        let config = dir.path().join("config.json");
        let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        value["mock"] = mock;
        std::fs::write(&config, value.to_string()).unwrap();
        TestModel(dir)
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    pub fn options(&self) -> EngineOptions {
        EngineOptions { model: self.0.path().to_str().unwrap().to_owned(), ..EngineOptions::default() }
    }

    pub fn engine(&self) -> Engine {
        create(self.options())
    }
}

pub fn create(options: EngineOptions) -> Engine {
    Engine::create(options, None, &mut |_, _| true).unwrap()
}

pub fn tokens(prompt: &[u32], max_tokens: u32) -> RequestOptions {
    RequestOptions { max_tokens, ignore_eos: true, ..RequestOptions::new(Prompt::Tokens(prompt.to_vec())) }
}

/// How a request ended, and all it said before.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub text: String,
    pub tokens: Vec<u32>,
    pub end: End,
    pub cached_tokens: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum End {
    Finished(FinishReason),
    Cancelled,
    Failed(Error),
}

impl Answer {
    pub fn status(&self) -> Option<Status> {
        match &self.end {
            End::Failed(error) => Some(error.status()),
            _ => None,
        }
    }
}

/// Collects events by request, and insists that nothing follows a terminal one.
#[derive(Default)]
pub struct Collector {
    open: HashMap<RequestId, (String, Vec<u32>)>,
    pub answers: HashMap<RequestId, Answer>,
}

impl Collector {
    pub fn add(&mut self, event: Event) {
        let id = event.request;
        assert!(!self.answers.contains_key(&id), "an event after the terminal one of request {id}");
        let said = self.open.entry(id).or_default();
        let (end, usage) = match event.kind {
            EventKind::Delta(delta) => {
                said.0.push_str(&delta.text);
                said.1.extend(delta.tokens);
                return;
            }
            EventKind::Finished(reason, usage) => (End::Finished(reason), usage),
            EventKind::Cancelled(usage) => (End::Cancelled, usage),
            EventKind::Failed(error, usage) => (End::Failed(error), usage),
        };
        let (text, tokens) = self.open.remove(&id).unwrap();
        self.answers.insert(id, Answer { text, tokens, end, cached_tokens: usage.cached_tokens });
    }

    /// Takes events until `count` requests have ended.
    pub fn wait_for(&mut self, engine: &Engine, count: usize) {
        while self.answers.len() < count {
            // Generous: it only bounds how long a broken engine holds up the tests.
            self.add(engine.wait(Some(Duration::from_secs(120))).unwrap());
        }
    }
}

/// Runs these requests together and returns their answers in order.
pub fn run(engine: &Engine, requests: Vec<RequestOptions>) -> Vec<Answer> {
    let ids: Vec<RequestId> = requests.into_iter().map(|r| engine.submit(r).unwrap()).collect();
    let mut collector = Collector::default();
    collector.wait_for(engine, ids.len());
    ids.iter().map(|id| collector.answers[id].clone()).collect()
}

/// Runs one request.
pub fn run_one(engine: &Engine, request: RequestOptions) -> Answer {
    run(engine, vec![request]).remove(0)
}

/// Asserts that no request holds a page.
pub fn assert_all_pages_back(engine: &Engine) {
    let s = engine.statistics();
    assert_eq!(s.blocks_in_use, 0, "{s:?}");
    assert_eq!(s.blocks_free + s.blocks_cached, s.blocks_total, "{s:?}");
}
