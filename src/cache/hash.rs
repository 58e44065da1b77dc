//! Chain hashes: a block's name in the prefix index covers its tokens and everything before them.
//!
//! `hash(block) = blake3(hash(parent block), tokens)`; the first block's parent is a root that covers
//! the cache salt. A hash only *finds* a candidate: the index compares tokens and parents before use.

use std::hash::{Hash, Hasher};

/// The hash of a block and of all blocks before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHash([u8; 32]);

/// Up to this many tokens are hashed from the stack.
const SMALL_BLOCK: usize = 64;

impl ChainHash {
    /// The parent of every first block under these keys (cache salt, adapter). Each key is hashed with
    /// its length, so that no two lists of keys run together.
    pub fn root(keys: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"quire prefix root 1");
        for key in keys {
            hasher.update(&(key.len() as u64).to_le_bytes());
            hasher.update(key);
        }
        ChainHash(*hasher.finalize().as_bytes())
    }

    /// The hash of the block that holds `tokens` after the block of this hash.
    pub fn child(&self, tokens: &[u32]) -> Self {
        if tokens.len() <= SMALL_BLOCK {
            let mut bytes = [0u8; 32 + 4 * SMALL_BLOCK];
            bytes[..32].copy_from_slice(&self.0);
            for (to, token) in bytes[32..].chunks_exact_mut(4).zip(tokens) {
                to.copy_from_slice(&token.to_le_bytes());
            }
            return ChainHash(*blake3::hash(&bytes[..32 + 4 * tokens.len()]).as_bytes());
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        for token in tokens {
            hasher.update(&token.to_le_bytes());
        }
        ChainHash(*hasher.finalize().as_bytes())
    }

    /// A hash from raw bytes: a saved one, or in tests one that collides.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        ChainHash(bytes)
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

// Eight bytes of a cryptographic hash are as good a table index as all of them.
impl Hash for ChainHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut head = [0u8; 8];
        head.copy_from_slice(&self.0[..8]);
        state.write_u64(u64::from_le_bytes(head));
    }
}

/// The chain hashes of one sequence's full blocks, each computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHashes {
    root: ChainHash,
    hashes: Vec<ChainHash>,
}

impl BlockHashes {
    /// No blocks yet, under this root.
    pub fn new(root: ChainHash) -> Self {
        BlockHashes { root, hashes: Vec::new() }
    }

    /// Hashes the full blocks of `tokens` (the sequence from its first token on) not hashed yet.
    pub fn extend(&mut self, tokens: &[u32], block_size: usize) {
        let done = self.hashes.len() * block_size;
        let mut parent = self.hashes.last().copied().unwrap_or(self.root);
        for block in tokens.get(done..).unwrap_or_default().chunks_exact(block_size) {
            parent = parent.child(block);
            self.hashes.push(parent);
        }
    }

    /// The parent of the first block.
    pub fn root(&self) -> ChainHash {
        self.root
    }

    /// One hash a full block, in order.
    pub fn as_slice(&self) -> &[ChainHash] {
        &self.hashes
    }

    /// A chain from given hashes: tests make them collide.
    #[cfg(test)]
    pub(super) fn from_parts(root: ChainHash, hashes: Vec<ChainHash>) -> Self {
        BlockHashes { root, hashes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_hashing_follow_the_definition() {
        let root = ChainHash::root(&[b"salt"]);
        for n in [1, 16, SMALL_BLOCK, SMALL_BLOCK + 1, 256] {
            let tokens: Vec<u32> = (0..n as u32).map(|i| i * 7919).collect();
            let mut bytes = root.as_bytes().to_vec();
            bytes.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
            assert_eq!(root.child(&tokens).as_bytes(), blake3::hash(&bytes).as_bytes());
        }
    }

    #[test]
    fn roots_keep_their_keys_apart() {
        assert_ne!(ChainHash::root(&[b"ab", b"c"]), ChainHash::root(&[b"a", b"bc"]));
        assert_ne!(ChainHash::root(&[b""]), ChainHash::root(&[]));
    }

    #[test]
    fn extending_in_pieces_equals_extending_at_once() {
        let tokens: Vec<u32> = (0..75).collect();
        let mut at_once = BlockHashes::new(ChainHash::root(&[]));
        at_once.extend(&tokens, 8);
        let mut pieces = BlockHashes::new(ChainHash::root(&[]));
        for n in [3, 8, 8, 40, 75] {
            pieces.extend(&tokens[..n], 8);
        }
        assert_eq!(pieces, at_once);
        assert_eq!(at_once.as_slice().len(), 9);
    }
}
