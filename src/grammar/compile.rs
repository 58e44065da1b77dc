//! Grammars to parsers, within limits, on the caller's thread (and one more, for its stack).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use super::cache::Cache;
use super::check::{check_patterns, check_text, choices, invalid, json};
use super::state::{Compiled, GrammarState};
use super::vocabulary::Vocabulary;
use super::{Grammar, GrammarKind};
use crate::error::{Error, Result, Status};
use crate::text::Tokenizer;

/// Stack of a thread that compiles: the library recurses over what it reads.
const STACK_BYTES: usize = 64 << 20;

/// How long a grammar may take to compile.
const COMPILE_TIME: Duration = Duration::from_secs(10);

/// Grammars that compile at the same time. One that ran out of time still counts until its thread has ended.
const MAX_COMPILING: usize = 8;

/// How many parts of a schema are compiled alone to find the one that is wrong.
const MAX_PROBES: usize = 500;

/// Compiles grammars over one model's vocabulary. Safe from any thread.
pub struct Grammars {
    shared: Arc<Shared>,
    cache: Cache<Compiled>,
}

struct Shared {
    factory: ParserFactory,
    vocabulary: Vocabulary,
    compiling: AtomicUsize,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// Over the vocabulary of a model with `size` logits whose `eos` tokens end a text. Takes time linear in the
    /// vocabulary: some tens of milliseconds for 150,000 tokens.
    pub fn new(tokenizer: &Tokenizer, size: usize, eos: &[u32]) -> Result<Self> {
        let vocabulary = Vocabulary::new(tokenizer, size, eos)?;
        let factory = crate::panic::catch(|| {
            let slices = SlicedBiasComputer::general_slices();
            let mut factory = ParserFactory::new(&vocabulary.env, Default::default(), &slices)
                .map_err(|e| Error::internal(format!("preparing the vocabulary for grammars: {e}")))?;
            factory.quiet();
            let limits = factory.limits_mut();
            limits.max_lexer_states = 50_000;
            limits.verbose_errors = false;
            Ok(factory)
        })?;
        let shared = Shared { factory, vocabulary, compiling: AtomicUsize::new(0) };
        Ok(Grammars { shared: Arc::new(shared), cache: Cache::default() })
    }

    /// A request's state at the beginning of its answer.
    ///
    /// # Errors
    /// [`Status::GrammarInvalid`], saying what is wrong and where; [`Status::QueueFull`] if too many others
    /// are being compiled.
    pub fn start(&self, grammar: &Grammar) -> Result<GrammarState> {
        let compiled = match self.cache.get(grammar) {
            Some(compiled) => compiled,
            None => {
                check_text(grammar)?;
                let compiled = Arc::new(compile_apart(&self.shared, grammar.clone())?);
                self.cache.put(grammar.clone(), compiled.clone());
                compiled
            }
        };
        Ok(GrammarState::new(&compiled, &self.shared.vocabulary))
    }
}

/// Compiles on a thread with a large stack, and gives up after a while.
fn compile_apart(shared: &Arc<Shared>, grammar: Grammar) -> Result<Compiled> {
    if shared.compiling.fetch_add(1, Ordering::Relaxed) >= MAX_COMPILING {
        shared.compiling.fetch_sub(1, Ordering::Relaxed);
        let message = format!("{MAX_COMPILING} grammars are being compiled; try again later");
        return Err(Error::new(Status::QueueFull, message));
    }
    let (sender, receiver) = bounded(1);
    let own = shared.clone();
    let thread = std::thread::Builder::new().name("quire-grammar".into()).stack_size(STACK_BYTES);
    let spawned = thread.spawn(move || {
        let result = crate::panic::catch(|| own.compile(&grammar));
        own.compiling.fetch_sub(1, Ordering::Relaxed);
        // Who asked may have given up.
        let _ = sender.send(result);
    });
    let thread = spawned.map_err(|error| {
        shared.compiling.fetch_sub(1, Ordering::Relaxed);
        Error::internal(format!("cannot start a thread to compile a grammar: {error}"))
    })?;
    let Ok(compiled) = receiver.recv_timeout(COMPILE_TIME) else {
        let seconds = COMPILE_TIME.as_secs();
        return Err(invalid(format!("the grammar takes more than {seconds} seconds to compile")));
    };
    // It has nothing left to do, and catches panics.
    let _ = thread.join();
    compiled
}

impl Shared {
    fn compile(&self, grammar: &Grammar) -> Result<Compiled> {
        let text = &grammar.text;
        let (grammar, what) = match grammar.kind {
            GrammarKind::JsonSchema => {
                let schema = json(text, "the JSON schema")?;
                check_patterns(&schema)?;
                let compiled = self.parser(TopLevelGrammar::from_json_schema(schema.clone()));
                return compiled.map_err(|message| self.locate(&schema, &message));
            }
            GrammarKind::JsonObject => {
                (TopLevelGrammar::from_json_schema(serde_json::json!({ "type": "object" })), "the grammar")
            }
            GrammarKind::Regex => (TopLevelGrammar::from_regex(text), "the regular expression"),
            GrammarKind::Lark => (TopLevelGrammar::from_lark(text.clone()), "the grammar"),
            GrammarKind::Choice => (TopLevelGrammar::from_lark(alternatives(&choices(text)?)), "the choice"),
        };
        self.parser(grammar).map_err(|message| invalid(format!("{what} cannot be used: {message}")))
    }

    /// A parser and its first mask, or what is wrong in words.
    fn parser(&self, grammar: TopLevelGrammar) -> std::result::Result<Compiled, String> {
        let parser = self.factory.create_parser(grammar).map_err(|e| words(&e))?;
        let mut matcher = Matcher::new(Ok(parser));
        let mask = matcher.compute_mask().map_err(|e| format!("no text matches it ({})", words(&e)))?;
        Ok(Compiled { matcher, first: self.vocabulary.mask(&mask) })
    }

    /// An error with the place in a schema that causes it: the deepest part that fails alone, in the same way.
    fn locate(&self, schema: &Value, message: &str) -> Error {
        let definitions: Vec<(&str, &Value)> =
            ["$defs", "definitions"].into_iter().filter_map(|key| Some((key, schema.get(key)?))).collect();
        let mut probes = MAX_PROBES;
        let mut place = (String::new(), schema);
        'deeper: loop {
            for (step, part) in parts(place.1) {
                let (Some(left), Value::Object(fields)) = (probes.checked_sub(1), part) else { continue };
                probes = left;
                let mut alone = fields.clone();
                definitions.iter().for_each(|(key, value)| {
                    alone.entry(*key).or_insert_with(|| (*value).clone());
                });
                let result = self.parser(TopLevelGrammar::from_json_schema(Value::Object(alone)));
                if result.is_err_and(|own| is_same(message, &own)) {
                    place = (place.0 + &step, part);
                    continue 'deeper;
                }
            }
            break;
        }
        let at = if place.0.is_empty() { "its root" } else { &place.0 };
        invalid(format!("the JSON schema cannot be used, at {at}: {message}"))
    }
}

/// Whether the error of a part is the one of the whole. What cannot be satisfied is explained differently at
/// each level.
fn is_same(whole: &str, part: &str) -> bool {
    let unsatisfiable = |message: &str| message.starts_with("Unsatisfiable");
    whole.contains(part) || part.contains(whole) || unsatisfiable(whole) && unsatisfiable(part)
}

/// The schemas within a schema, with their JSON pointers.
fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let Value::Object(fields) = schema else { return Vec::new() };
    let mut parts = Vec::new();
    // Definitions first: whoever refers to a wrong one fails like it.
    let (definitions, others): (Vec<_>, Vec<_>) =
        fields.iter().partition(|(key, _)| matches!(key.as_str(), "$defs" | "definitions"));
    for (key, value) in definitions.into_iter().chain(others) {
        match (key.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(schemas)) => {
                let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
                parts.extend(schemas.iter().map(|(name, s)| (format!("/{key}/{}", escaped(name)), s)));
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(schemas)) => {
                parts.extend(schemas.iter().enumerate().map(|(i, s)| (format!("/{key}/{i}"), s)));
            }
            ("items" | "additionalProperties", part) => parts.push((format!("/{key}"), part)),
            _ => {}
        }
    }
    parts
}

/// A Lark grammar of these strings. A Lark string is written as in JSON.
fn alternatives(choices: &[String]) -> String {
    let quoted: Vec<String> = choices.iter().map(|choice| Value::from(choice.as_str()).to_string()).collect();
    format!("start: {}", quoted.join("\n    | "))
}

/// An error of the library without the traces it adds for its own authors.
pub(super) fn words(error: &anyhow::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n<backtrace>").next().unwrap_or_default();
    // Long inputs are quoted whole.
    let mut cut = text.len().min(2000);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    text[..cut].trim().to_owned()
}
