//! The grammars compiled last.

use std::sync::{Arc, Mutex, PoisonError};

use super::Grammar;

/// How many stay compiled. A large schema takes some megabytes.
const CAPACITY: usize = 32;

/// Compiled grammars, the least recently used dropped first. Safe from any thread; nothing is compiled under its
/// lock.
pub(super) struct Cache<T> {
    /// Least recently used first. So few that a search is quick.
    entries: Mutex<Vec<(Grammar, Arc<T>)>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Cache { entries: Mutex::new(Vec::new()) }
    }
}

impl<T> Cache<T> {
    pub fn get(&self, grammar: &Grammar) -> Option<Arc<T>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entries.iter().position(|(known, _)| known == grammar)?;
        let entry = entries.remove(at);
        let compiled = entry.1.clone();
        entries.push(entry);
        Some(compiled)
    }

    pub fn put(&self, grammar: Grammar, compiled: Arc<T>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // Two threads may have compiled the same one.
        entries.retain(|(known, _)| *known != grammar);
        if entries.len() == CAPACITY {
            entries.remove(0);
        }
        entries.push((grammar, compiled));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::GrammarKind;

    #[test]
    fn the_least_recently_used_goes_first() {
        let grammar = |i: usize| Grammar { kind: GrammarKind::Regex, text: i.to_string() };
        let cache = Cache::default();
        (0..CAPACITY).for_each(|i| cache.put(grammar(i), Arc::new(i)));
        assert_eq!(*cache.get(&grammar(0)).unwrap(), 0);
        cache.put(grammar(99), Arc::new(99));
        cache.put(grammar(99), Arc::new(100));
        assert!(cache.get(&grammar(1)).is_none());
        assert_eq!(*cache.get(&grammar(0)).unwrap(), 0);
        assert_eq!(*cache.get(&grammar(99)).unwrap(), 100);
        assert!(cache.get(&Grammar { kind: GrammarKind::Lark, text: "0".into() }).is_none());
    }
}
