//! The prefix index: which block holds these tokens after that prefix.
//!
//! Promises:
//! - A match has the same root (salt), the same parents and the same tokens, all compared; the hash
//!   only finds the candidate. A colliding hash costs a miss, never a wrong page.
//! - Every indexed block hangs on a live chain of parents: removing a block removes its descendants.
//! - A block's identity is its id *and* a generation that changes when it leaves the index, so a
//!   reference kept across an eviction is recognised as stale.
//! - Looking up changes nothing.
//!
//! Full blocks are found by chain hash. Children of one parent are also linked in a list (newest
//! first), so that the tokens a prompt shares with the *inside* of a block are found too; partial
//! blocks are only in that list.
//!
//! Recurrent layers need a state at the point where a match ends. Their snapshots belong to full blocks'
//! ends: the block manager cuts a match back to the last block that has one.

use rustc_hash::FxHashMap;

use super::hash::{BlockHashes, ChainHash};
use super::saved::{SavedBlock, SavedParent};
use super::{BlockId, SnapshotId};
use crate::error::{Error, Result};

/// The end of a list of siblings.
const NIL: u32 = u32::MAX;

/// How many children of one block are compared for a match inside the block (newest first): a bound on
/// the cost of prompts that all differ right away.
const MAX_SIBLINGS: usize = 64;

/// An indexed block: its id, and which of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRef {
    /// The block.
    pub block: BlockId,
    generation: u32,
}

/// What a block follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// Nothing: it is a first block, under this root.
    Root(ChainHash),
    /// This full block.
    Node(NodeRef),
}

/// A prefix found in the index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MatchResult {
    /// Full blocks from the first token on, to be shared as they are.
    pub blocks: Vec<BlockId>,
    /// The last of `blocks`, as a parent for what follows.
    pub tip: Option<NodeRef>,
    /// A block that begins with the next tokens, to be copied.
    pub partial: Option<PartialMatch>,
    /// The recurrent state at the end of `blocks`, for models that need one.
    pub snapshot: Option<SnapshotId>,
    /// How many full blocks are indexed: more than `blocks` where a state is missing.
    pub indexed: usize,
}

/// Tokens shared with the beginning of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialMatch {
    /// The block.
    pub block: BlockId,
    /// How many of its leading tokens, at least one.
    pub tokens: u32,
}

impl MatchResult {
    /// Tokens matched, those inside the partial block included.
    pub fn tokens(&self, block_size: usize) -> usize {
        self.blocks.len() * block_size + self.partial.map_or(0, |p| p.tokens as usize)
    }
}

/// Finds blocks by the tokens they hold and the blocks before them.
pub trait PrefixIndex: Send {
    /// The longest prefix of `tokens[..limit]` held by indexed blocks. `hashes` are those of the full
    /// blocks of `tokens`.
    fn lookup(&self, hashes: &BlockHashes, tokens: &[u32], limit: usize) -> MatchResult;

    /// Indexes a full block (`tokens` fill it). Returns the node that stands for these tokens here: the
    /// block's own, or that of an equal block indexed earlier (the block itself then stays out, and
    /// leaves the index if it was in it as a partial block). `None` if the block cannot be indexed:
    /// the parent is gone, or the hash collides.
    fn insert_full(
        &mut self,
        parent: Parent,
        hash: ChainHash,
        tokens: &[u32],
        block: BlockId,
    ) -> Option<NodeRef>;

    /// Indexes the leading `tokens` of a block that is not full, or grows it if it is in the index as a
    /// partial block already. Does nothing if the parent is gone, if an indexed sibling begins with the
    /// same tokens, or if the block is in the index as a full one.
    fn insert_partial(&mut self, parent: Parent, tokens: &[u32], block: BlockId);

    /// Removes a block and its descendants, if it is indexed; appends all removed blocks to `removed`.
    fn remove(&mut self, block: BlockId, removed: &mut Vec<BlockId>);

    /// Whether children can be indexed under this parent.
    fn is_live(&self, parent: Parent) -> bool;

    /// Whether the block is indexed.
    fn contains(&self, block: BlockId) -> bool;

    /// Whether it is, as a full one.
    fn contains_full(&self, block: BlockId) -> bool;

    /// How many blocks are indexed.
    fn len(&self) -> usize;

    /// Whether no block is.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every full block, parents before children; each with what it takes to index it again.
    fn full_blocks(&self) -> Vec<(BlockId, SavedBlock)>;

    /// Whether anything can ever be indexed.
    fn is_enabled(&self) -> bool;

    /// Forgets everything.
    fn clear(&mut self);

    /// Verifies links, parents and hash entries, in time linear in the pool.
    fn check(&self) -> Result<()>;
}

#[derive(Debug, Clone, Copy)]
struct Node {
    parent: Parent,
    /// Meaningful for a full block only.
    hash: ChainHash,
    /// Tokens held; zero for a block that is not indexed.
    len: u32,
    generation: u32,
    first_child: u32,
    prev: u32,
    next: u32,
}

enum Found {
    Block(BlockId),
    /// The hash names a block with other tokens or another parent.
    Collision,
    Nothing,
}

/// The index proper. See the module's page.
#[derive(Debug, Clone)]
pub struct ChainIndex {
    block_size: usize,
    /// One for each block of the pool.
    nodes: Vec<Node>,
    /// `block_size` tokens for each block of the pool.
    tokens: Vec<u32>,
    by_hash: FxHashMap<ChainHash, BlockId>,
    /// First child of each root that has one.
    roots: FxHashMap<ChainHash, u32>,
    len: usize,
}

impl ChainIndex {
    /// An empty index over a pool of `num_blocks` blocks of `block_size` tokens.
    pub fn new(num_blocks: u32, block_size: usize) -> Self {
        let unused = ChainHash::from_bytes([0; 32]);
        let node = Node {
            parent: Parent::Root(unused),
            hash: unused,
            len: 0,
            generation: 0,
            first_child: NIL,
            prev: NIL,
            next: NIL,
        };
        ChainIndex {
            block_size,
            nodes: vec![node; num_blocks as usize],
            tokens: vec![0; num_blocks as usize * block_size],
            by_hash: FxHashMap::default(),
            roots: FxHashMap::default(),
            len: 0,
        }
    }

    fn node_ref(&self, block: BlockId) -> NodeRef {
        NodeRef { block, generation: self.nodes[block as usize].generation }
    }

    fn is_full(&self, block: BlockId) -> bool {
        self.nodes[block as usize].len as usize == self.block_size
    }

    /// The tokens an indexed block holds.
    fn tokens_of(&self, block: BlockId) -> &[u32] {
        let at = block as usize * self.block_size;
        &self.tokens[at..at + self.nodes[block as usize].len as usize]
    }

    fn set_tokens(&mut self, block: BlockId, tokens: &[u32]) {
        let at = block as usize * self.block_size;
        self.tokens[at..at + tokens.len()].copy_from_slice(tokens);
        self.nodes[block as usize].len = tokens.len() as u32;
    }

    fn children(&self, parent: Parent) -> impl Iterator<Item = BlockId> + '_ {
        let mut at = match parent {
            Parent::Root(root) => self.roots.get(&root).copied().unwrap_or(NIL),
            Parent::Node(node) => self.nodes[node.block as usize].first_child,
        };
        std::iter::from_fn(move || {
            let block = at;
            at = self.nodes.get(block as usize)?.next;
            Some(block)
        })
    }

    /// The full block with these tokens under this parent.
    fn find(&self, parent: Parent, hash: &ChainHash, tokens: &[u32]) -> Found {
        match self.by_hash.get(hash) {
            None => Found::Nothing,
            Some(&b) if self.nodes[b as usize].parent == parent && self.tokens_of(b) == tokens => {
                Found::Block(b)
            }
            Some(_) => Found::Collision,
        }
    }

    fn link(&mut self, block: BlockId, parent: Parent) {
        let head = match parent {
            Parent::Root(root) => self.roots.entry(root).or_insert(NIL),
            Parent::Node(node) => &mut self.nodes[node.block as usize].first_child,
        };
        let next = std::mem::replace(head, block);
        if next != NIL {
            self.nodes[next as usize].prev = block;
        }
        let node = &mut self.nodes[block as usize];
        (node.parent, node.prev, node.next, node.first_child) = (parent, NIL, next, NIL);
        self.len += 1;
    }

    /// Takes one block out; its children must go as well.
    fn unlink(&mut self, block: BlockId) {
        let Node { parent, hash, prev, next, .. } = self.nodes[block as usize];
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
        match (prev, parent) {
            (NIL, Parent::Root(root)) if next == NIL => {
                self.roots.remove(&root);
            }
            (NIL, Parent::Root(root)) => {
                self.roots.insert(root, next);
            }
            (NIL, Parent::Node(node)) => self.nodes[node.block as usize].first_child = next,
            (before, _) => self.nodes[before as usize].next = next,
        }
        if self.is_full(block) {
            self.by_hash.remove(&hash);
        }
        let node = &mut self.nodes[block as usize];
        (node.len, node.prev, node.next, node.first_child) = (0, NIL, NIL, NIL);
        node.generation = node.generation.wrapping_add(1);
        self.len -= 1;
    }
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

impl PrefixIndex for ChainIndex {
    fn lookup(&self, hashes: &BlockHashes, tokens: &[u32], limit: usize) -> MatchResult {
        let tokens = &tokens[..limit.min(tokens.len())];
        let mut found = MatchResult::default();
        let mut parent = Parent::Root(hashes.root());
        for (block_tokens, hash) in tokens.chunks_exact(self.block_size).zip(hashes.as_slice()) {
            let Found::Block(block) = self.find(parent, hash, block_tokens) else { break };
            let node = self.node_ref(block);
            found.blocks.push(block);
            found.tip = Some(node);
            parent = Parent::Node(node);
        }
        found.indexed = found.blocks.len();
        let rest = &tokens[found.blocks.len() * self.block_size..];
        let rest = &rest[..rest.len().min(self.block_size)];
        for block in self.children(parent).take(MAX_SIBLINGS) {
            let shared = common_prefix(self.tokens_of(block), rest) as u32;
            if shared > found.partial.map_or(0, |p| p.tokens) {
                found.partial = Some(PartialMatch { block, tokens: shared });
            }
        }
        found
    }

    fn insert_full(
        &mut self,
        parent: Parent,
        hash: ChainHash,
        tokens: &[u32],
        block: BlockId,
    ) -> Option<NodeRef> {
        debug_assert_eq!(tokens.len(), self.block_size);
        if !self.is_live(parent) {
            return None;
        }
        match self.find(parent, &hash, tokens) {
            Found::Block(existing) => {
                if existing != block && self.contains(block) && !self.is_full(block) {
                    self.unlink(block);
                }
                return Some(self.node_ref(existing));
            }
            Found::Collision => return None,
            Found::Nothing => {}
        }
        if !self.contains(block) {
            self.link(block, parent);
        } else if self.is_full(block) || self.nodes[block as usize].parent != parent {
            return None;
        }
        self.set_tokens(block, tokens);
        self.nodes[block as usize].hash = hash;
        self.by_hash.insert(hash, block);
        Some(self.node_ref(block))
    }

    fn insert_partial(&mut self, parent: Parent, tokens: &[u32], block: BlockId) {
        debug_assert!(tokens.len() < self.block_size);
        if tokens.is_empty() || !self.is_live(parent) {
            return;
        }
        if self.contains(block) {
            let node = &self.nodes[block as usize];
            if node.parent == parent && (node.len as usize) < tokens.len() {
                self.set_tokens(block, tokens);
            }
            return;
        }
        if self.children(parent).take(MAX_SIBLINGS).any(|b| self.tokens_of(b).starts_with(tokens)) {
            return;
        }
        self.link(block, parent);
        self.set_tokens(block, tokens);
    }

    fn remove(&mut self, block: BlockId, removed: &mut Vec<BlockId>) {
        if !self.contains(block) {
            return;
        }
        // `removed` is also the queue of the walk: what was appended here still has children to follow.
        let start = removed.len();
        let mut next = start;
        removed.push(block);
        while let Some(&at) = removed.get(next) {
            let children = self.children(Parent::Node(self.node_ref(at)));
            removed.extend(children);
            next += 1;
        }
        // Children before parents, so that each is unlinked from a list that is still there.
        for &at in removed[start..].iter().rev() {
            self.unlink(at);
        }
    }

    fn is_live(&self, parent: Parent) -> bool {
        match parent {
            Parent::Root(_) => true,
            Parent::Node(node) => {
                self.contains(node.block)
                    && self.is_full(node.block)
                    && self.nodes[node.block as usize].generation == node.generation
            }
        }
    }

    fn contains(&self, block: BlockId) -> bool {
        self.nodes.get(block as usize).is_some_and(|n| n.len > 0)
    }

    fn contains_full(&self, block: BlockId) -> bool {
        self.contains(block) && self.is_full(block)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn full_blocks(&self) -> Vec<(BlockId, SavedBlock)> {
        let mut found: Vec<(BlockId, SavedBlock)> = Vec::new();
        let add_children = |found: &mut Vec<_>, parent, saved: SavedParent| {
            for block in self.children(parent).filter(|&b| self.is_full(b)) {
                let tokens = self.tokens_of(block).to_vec();
                found.push((block, SavedBlock { parent: saved, tokens, has_state: false }));
            }
        };
        let mut roots: Vec<&ChainHash> = self.roots.keys().collect();
        roots.sort_unstable_by_key(|root| root.as_bytes());
        for root in roots {
            add_children(&mut found, Parent::Root(*root), SavedParent::Root(*root));
        }
        // The list is also the queue of the walk.
        let mut next = 0;
        while let Some(&(block, _)) = found.get(next) {
            add_children(&mut found, Parent::Node(self.node_ref(block)), SavedParent::Block(next));
            next += 1;
        }
        found
    }

    fn is_enabled(&self) -> bool {
        true
    }

    fn clear(&mut self) {
        for node in &mut self.nodes {
            if node.len > 0 {
                node.generation = node.generation.wrapping_add(1);
            }
            (node.len, node.first_child, node.prev, node.next) = (0, NIL, NIL, NIL);
        }
        self.by_hash.clear();
        self.roots.clear();
        self.len = 0;
    }

    fn check(&self) -> Result<()> {
        let fail = |what: String| Err(Error::internal(format!("prefix index: {what}")));
        let (mut indexed, mut full) = (0, 0);
        for block in 0..self.nodes.len() as u32 {
            if !self.contains(block) {
                continue;
            }
            let node = &self.nodes[block as usize];
            indexed += 1;
            if !self.is_live(node.parent) {
                return fail(format!("block {block} hangs on a parent that is gone"));
            }
            if self.is_full(block) {
                full += 1;
                if self.by_hash.get(&node.hash) != Some(&block) {
                    return fail(format!("block {block} is not found by its hash"));
                }
            } else if node.first_child != NIL {
                return fail(format!("partial block {block} has children"));
            }
        }
        let mut listed = 0;
        let parents = (0..self.nodes.len() as u32)
            .filter(|&b| self.contains(b))
            .map(|b| Parent::Node(self.node_ref(b)))
            .chain(self.roots.keys().map(|&root| Parent::Root(root)));
        for parent in parents {
            let mut prev = NIL;
            for block in self.children(parent) {
                listed += 1;
                let node = &self.nodes[block as usize];
                if listed > indexed || node.parent != parent || node.prev != prev {
                    return fail(format!("block {block} is wrongly linked below {parent:?}: {node:?}"));
                }
                prev = block;
            }
        }
        if listed != indexed || indexed != self.len || full != self.by_hash.len() {
            return fail(format!(
                "{indexed} blocks are indexed ({full} full), {listed} are listed, {} recorded ({} by hash)",
                self.len,
                self.by_hash.len()
            ));
        }
        Ok(())
    }
}
