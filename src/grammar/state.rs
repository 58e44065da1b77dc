//! Where one answer stands in its grammar.

use std::sync::Arc;

use llguidance::Matcher;
use toktrie::SimpleVob;

use super::check::invalid;
use super::compile::words;
use super::vocabulary::Vocabulary;
use crate::error::Result;

/// A compiled grammar at its beginning.
pub(super) struct Compiled {
    pub matcher: Matcher,
    /// What may come first.
    pub first: Arc<[u32]>,
}

/// One request's place in its grammar. Moves between threads, and is used by one at a time.
pub struct GrammarState {
    matcher: Matcher,
    vocabulary: Vocabulary,
    /// Tokens of the answer so far.
    tokens: usize,
    first: Arc<[u32]>,
    /// What comes now is no text of the grammar yet.
    waiting: bool,
    /// The last mask given.
    mask: Vec<u32>,
}

impl std::fmt::Debug for GrammarState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarState").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// The library's mask, cut to the model's tokens.
    pub fn mask(&self, mask: &SimpleVob) -> Arc<[u32]> {
        let mut words = vec![0; self.words()];
        self.copy_mask(mask, &mut words);
        words.into()
    }

    fn copy_mask(&self, mask: &SimpleVob, words: &mut [u32]) {
        let own = mask.as_slice();
        let shared = own.len().min(words.len());
        words[..shared].copy_from_slice(&own[..shared]);
        self.cut(words);
    }

    fn mask_of_all(&self, words: &mut [u32]) {
        words.fill(u32::MAX);
        self.cut(words);
    }

    /// Clears the bits behind the last token.
    fn cut(&self, words: &mut [u32]) {
        if let Some(last) = words.last_mut().filter(|_| !self.size.is_multiple_of(32)) {
            *last &= (1 << (self.size % 32)) - 1;
        }
    }
}

impl GrammarState {
    pub(super) fn new(compiled: &Compiled, vocabulary: &Vocabulary) -> Self {
        GrammarState {
            matcher: compiled.matcher.deep_clone(),
            vocabulary: vocabulary.clone(),
            tokens: 0,
            first: compiled.first.clone(),
            waiting: false,
            mask: vec![0; vocabulary.words()],
        }
    }

    /// Lets the grammar begin later, where [`GrammarState::begin`] is called: until then every token may come.
    pub fn wait(&mut self) {
        self.waiting = true;
    }

    /// Lets the grammar begin with the next token.
    pub fn begin(&mut self) {
        self.waiting = false;
    }

    /// Whether the grammar has not begun.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The tokens that may come next: token `t` is bit `t % 32` of word `t / 32`. Those of `unwanted` are left out,
    /// unless nothing else is left.
    ///
    /// # Errors
    /// [`Status::GrammarInvalid`](crate::error::Status::GrammarInvalid) if the grammar turns out too complex
    /// here.
    pub fn mask(&mut self, unwanted: impl Iterator<Item = u32>) -> Result<&[u32]> {
        if self.waiting {
            self.vocabulary.mask_of_all(&mut self.mask);
        } else if self.tokens == 0 {
            self.mask.copy_from_slice(&self.first);
        } else {
            let mask = crate::panic::catch(|| self.matcher.compute_mask().map_err(|e| self.too_complex(&e)))?;
            self.mask.fill(0);
            self.vocabulary.copy_mask(&mask, &mut self.mask);
        }
        let mut taken = Vec::new();
        for token in unwanted {
            let (word, bit) = (token as usize / 32, 1 << (token % 32));
            if let Some(word) = self.mask.get_mut(word).filter(|word| **word & bit != 0) {
                *word &= !bit;
                taken.push(token);
            }
        }
        if self.mask.iter().all(|word| *word == 0) {
            taken.iter().for_each(|&token| self.mask[token as usize / 32] |= 1 << (token % 32));
        }
        Ok(&self.mask)
    }

    /// The mask that [`GrammarState::mask`] gave last.
    pub fn last_mask(&self) -> &[u32] {
        &self.mask
    }

    /// Goes on by a token that the last mask allowed, and that does not end the text. `true` if the text is
    /// complete and nothing can follow. Not while the grammar waits.
    ///
    /// # Errors
    /// As [`GrammarState::mask`].
    pub fn accept(&mut self, token: u32) -> Result<bool> {
        crate::panic::catch(|| {
            self.matcher.consume_token(token).map_err(|e| self.too_complex(&e))?;
            self.tokens += 1;
            Ok(self.matcher.is_stopped())
        })
    }

    /// Whether a text may end here.
    pub fn may_end(&mut self) -> bool {
        self.matcher.is_accepting().unwrap_or(false)
    }

    fn too_complex(&self, error: &anyhow::Error) -> crate::error::Error {
        invalid(format!("the grammar cannot go on after {} tokens: {}", self.tokens, words(error)))
    }
}
