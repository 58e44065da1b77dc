//! Changes to inputs, the same ones in every run.

/// Bytes that mean something in most languages.
const MARKS: &[u8] = b"{}[]()<>\"'\\|*+?,:%9a \n";

/// Makes inputs from others.
pub struct Mutator<'a> {
    words: &'a [&'a str],
    random: u64,
}

impl<'a> Mutator<'a> {
    /// `words` are put in here and there.
    pub fn new(words: &'a [&'a str], seed: u64) -> Self {
        Mutator { words, random: seed }
    }

    /// One of the seeds with one to four changes.
    pub fn from(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input, seeds);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = at + self.below(input.len() - at + 1).min(32);
        match self.below(7) {
            0 => drop(input.drain(at..end)),
            1 => {
                let word = self.words[self.below(self.words.len())];
                drop(input.splice(at..at, word.bytes()));
            }
            2 => {
                let again = input[at..end].repeat(1 + self.below(8));
                drop(input.splice(at..at, again));
            }
            // The rest of another.
            3 => {
                let other = &seeds[self.below(seeds.len())];
                input.truncate(at);
                input.extend_from_slice(&other[self.below(other.len() + 1)..]);
            }
            4 => {
                let byte = self.below(256) as u8;
                input.insert(at, byte);
            }
            5 if at < input.len() => input[at] ^= 1 << self.below(8),
            _ if at < input.len() => input[at] = MARKS[self.below(MARKS.len())],
            _ => {}
        }
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % limit
    }
}
