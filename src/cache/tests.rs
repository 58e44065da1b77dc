//! Property tests of pool, index and block manager against plain models, with the integrity check after
//! every operation.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::error::Status;

const BLOCK: usize = 4;

// ---- The pool, against a list in LRU order and a map of reference counts.

#[derive(Debug, Clone)]
enum PoolOp {
    Allocate,
    Acquire(u32),
    Release(u32),
    Mark(u32),
    Clear(u32),
    Reset,
}

fn pool_op(blocks: u32) -> impl Strategy<Value = PoolOp> {
    // One block too many, so that strangers are tried as well.
    let block = 0..=blocks;
    prop_oneof![
        6 => Just(PoolOp::Allocate),
        3 => block.clone().prop_map(PoolOp::Acquire),
        8 => block.clone().prop_map(PoolOp::Release),
        4 => block.clone().prop_map(PoolOp::Mark),
        2 => block.prop_map(PoolOp::Clear),
        1 => prop::sample::select(vec![PoolOp::Reset]),
    ]
}

/// What a pool should be, in the plainest way.
struct PoolModel {
    refs: Vec<u32>,
    indexed: Vec<bool>,
    /// Free blocks, next to go first.
    free: VecDeque<u32>,
    /// Cached blocks, least recently released first.
    cached: VecDeque<u32>,
}

impl PoolModel {
    fn new(n: u32) -> Self {
        let n_ = n as usize;
        PoolModel {
            refs: vec![0; n_],
            indexed: vec![false; n_],
            free: (0..n).collect(),
            cached: VecDeque::new(),
        }
    }

    fn exists(&self, b: u32) -> bool {
        (b as usize) < self.refs.len()
    }

    /// Applies the operation to both; the pool must do what the model does, and refuse what it refuses.
    fn apply(&mut self, pool: &mut BlockPool, op: &PoolOp) {
        match *op {
            PoolOp::Allocate => {
                let expected = self.free.pop_front().or_else(|| self.cached.pop_front());
                let got = pool.allocate();
                assert_eq!(got.map(|a| a.block), expected);
                if let Some(Allocated { block, evicted }) = got {
                    assert_eq!(evicted, self.indexed[block as usize]);
                    self.refs[block as usize] = 1;
                    self.indexed[block as usize] = false;
                }
            }
            PoolOp::Acquire(b) => {
                let ok = self.exists(b) && (self.refs[b as usize] > 0 || self.indexed[b as usize]);
                assert_eq!(pool.acquire(b).is_ok(), ok);
                if ok {
                    self.refs[b as usize] += 1;
                    self.cached.retain(|&c| c != b);
                }
            }
            PoolOp::Release(b) => {
                let ok = self.exists(b) && self.refs[b as usize] > 0;
                match pool.release(b) {
                    Ok(()) => assert!(ok),
                    Err(e) => assert!(!ok && e.status() == Status::Internal),
                }
                if ok {
                    self.refs[b as usize] -= 1;
                    match (self.refs[b as usize], self.indexed[b as usize]) {
                        (0, true) => self.cached.push_back(b),
                        (0, false) => self.free.push_front(b),
                        _ => {}
                    }
                }
            }
            PoolOp::Mark(b) => {
                let ok = self.exists(b) && self.refs[b as usize] > 0 && !self.indexed[b as usize];
                assert_eq!(pool.mark_indexed(b).is_ok(), ok);
                if ok {
                    self.indexed[b as usize] = true;
                }
            }
            PoolOp::Clear(b) => {
                let ok = self.exists(b) && self.indexed[b as usize];
                assert_eq!(pool.clear_indexed(b).is_ok(), ok);
                if ok {
                    self.indexed[b as usize] = false;
                    if self.refs[b as usize] == 0 {
                        self.cached.retain(|&c| c != b);
                        self.free.push_front(b);
                    }
                }
            }
            PoolOp::Reset => {
                pool.reset();
                *self = PoolModel::new(self.refs.len() as u32);
            }
        }
        pool.check().unwrap();
        assert_eq!(pool.free() as usize, self.free.len());
        assert_eq!(pool.cached() as usize, self.cached.len());
        assert_eq!(pool.in_use() as usize, self.refs.iter().filter(|&&r| r > 0).count());
        for b in 0..self.refs.len() as u32 {
            assert_eq!(pool.refs(b), self.refs[b as usize]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_pool_equals_its_model((blocks, ops) in (1u32..12).prop_flat_map(|n| {
        (Just(n), prop::collection::vec(pool_op(n), 1..200))
    })) {
        let (mut pool, mut model) = (BlockPool::new(blocks).unwrap(), PoolModel::new(blocks));
        ops.iter().for_each(|op| model.apply(&mut pool, op));
    }
}

#[test]
fn a_double_release_is_an_error_and_changes_nothing() {
    let mut pool = BlockPool::new(3).unwrap();
    let block = pool.allocate().unwrap().block;
    pool.release(block).unwrap();
    let error = pool.release(block).unwrap_err();
    assert_eq!(error.status(), Status::Internal);
    assert!(error.message().contains("released twice"), "{error}");
    pool.check().unwrap();
    assert_eq!(pool.free(), 3);
}

#[test]
fn the_check_finds_what_is_broken() {
    let mut manager = BlockManager::new(4, BLOCK as u32, true).unwrap();
    let block = manager.allocate().unwrap().unwrap();
    manager.check([[block].as_slice()].into_iter()).unwrap();
    // A reference that no table holds, a table that holds no reference, a block that does not exist.
    assert!(manager.check(std::iter::empty()).is_err());
    assert!(manager.check([[block, block].as_slice()].into_iter()).is_err());
    assert!(manager.check([[block, 99].as_slice()].into_iter()).is_err());
}

// ---- The manager with its index, against full token sequences remembered per block.

/// A sequence as the tests keep it: all its tokens are "computed".
#[derive(Debug, Clone)]
struct Held {
    root: u8,
    tokens: Vec<u32>,
    blocks: Vec<BlockId>,
}

/// Hashes for the index: real ones, or ones that collide all the time.
fn hashes(root: u8, tokens: &[u32], weak: bool) -> BlockHashes {
    let mut strong = BlockHashes::new(ChainHash::root(&[&[root]]));
    strong.extend(tokens, BLOCK);
    if !weak {
        return strong;
    }
    let weaken = |h: &ChainHash| ChainHash::from_bytes([h.as_bytes()[0] % 5; 32]);
    BlockHashes::from_parts(strong.root(), strong.as_slice().iter().map(weaken).collect())
}

#[derive(Debug, Clone)]
enum Op {
    Start { root: u8, tokens: Vec<u32>, reserve: u32 },
    Append { which: prop::sample::Index, tokens: Vec<u32> },
    End { which: prop::sample::Index, index_tail: bool },
    DropCached,
    Reset,
}

fn tokens(max: usize) -> impl Strategy<Value = Vec<u32>> {
    // Two tokens only: prefixes meet all the time.
    prop::collection::vec(0u32..2, 1..max)
}

fn op() -> impl Strategy<Value = Op> {
    let which = any::<prop::sample::Index>();
    prop_oneof![
        20 => (0u8..2, tokens(20), 0u32..3).prop_map(|(root, tokens, reserve)| Op::Start { root, tokens, reserve }),
        10 => (which.clone(), tokens(6)).prop_map(|(which, tokens)| Op::Append { which, tokens }),
        15 => (which, any::<bool>()).prop_map(|(which, index_tail)| Op::End { which, index_tail }),
        1 => Just(Op::DropCached),
        1 => Just(Op::Reset),
    ]
}

struct Model {
    manager: BlockManager,
    weak: bool,
    held: Vec<Held>,
    /// What was written into each block last: root, all tokens from the first to the block's last.
    content: Vec<Option<(u8, Vec<u32>)>>,
    matched: usize,
}

impl Model {
    fn new(blocks: u32, weak: bool) -> Self {
        let manager = BlockManager::new(blocks, BLOCK as u32, true).unwrap();
        Model { manager, weak, held: Vec::new(), content: vec![None; blocks as usize], matched: 0 }
    }

    fn check(&self) {
        self.manager.check(self.held.iter().map(|h| h.blocks.as_slice())).unwrap();
        let c = self.manager.counts();
        assert_eq!(c.free + c.cached + c.in_use, c.total);
    }

    /// Writes the sequence's tokens from position `from` on into its blocks, and indexes the full ones.
    fn write(&mut self, held: &Held, from: usize) {
        for (i, &block) in held.blocks.iter().enumerate() {
            let end = held.tokens.len().min((i + 1) * BLOCK);
            if end > from {
                self.content[block as usize] = Some((held.root, held.tokens[..end].to_vec()));
            }
        }
        let chain = hashes(held.root, &held.tokens, self.weak);
        let mut parent = Parent::Root(chain.root());
        for (i, block_tokens) in held.tokens.chunks_exact(BLOCK).enumerate() {
            let hash = chain.as_slice()[i];
            match self.manager.index_full(parent, hash, block_tokens, held.blocks[i]).unwrap() {
                Some(node) => parent = Parent::Node(node),
                None => break,
            }
        }
    }

    fn start(&mut self, root: u8, tokens: &[u32], reserve: u32) {
        let chain = hashes(root, tokens, self.weak);
        let before = self.manager.counts();
        let found = self.manager.match_prefix(&chain, tokens);
        assert_eq!(self.manager.counts(), before, "matching changes nothing");
        assert!(found.tokens(BLOCK) < tokens.len());

        // Whatever was found really holds these tokens after this prefix, under this root.
        let holds = |block: BlockId, from: usize, n: usize| {
            let (its_root, content) = self.content[block as usize].as_ref().expect("a written block");
            assert_eq!((*its_root, &content[..from + n]), (root, &tokens[..from + n]));
        };
        for (i, &block) in found.blocks.iter().enumerate() {
            holds(block, i * BLOCK, BLOCK);
        }
        if let Some(partial) = found.partial {
            holds(partial.block, found.blocks.len() * BLOCK, partial.tokens as usize);
        }

        let allocation = self.manager.allocate_for(chain.root(), &found, tokens.len(), reserve).unwrap();
        let Some(allocation) = allocation else {
            assert_eq!(self.manager.counts(), before, "a refusal changes nothing");
            let needed = blocks_for(tokens.len(), BLOCK) as u32 + reserve;
            assert!(needed > before.free + before.cached, "refused with room to spare");
            return;
        };
        self.matched += allocation.cached_tokens;
        let mut held = Held { root, tokens: tokens.to_vec(), blocks: allocation.blocks };
        if let Some(copy) = allocation.copy {
            assert_eq!(held.blocks.last(), Some(&copy.to));
            assert!(!self.held.iter().any(|h| h.blocks.contains(&copy.to)), "a copy is private");
            assert_ne!(copy.from, copy.to);
        }
        for _ in 0..allocation.promised {
            held.blocks.push(self.manager.allocate().unwrap().expect("promised"));
        }
        assert!(self.manager.available() >= reserve);
        assert_eq!(held.blocks.len(), blocks_for(tokens.len(), BLOCK));
        self.manager.end_plan().unwrap();
        self.write(&held, allocation.cached_tokens);
        self.held.push(held);
    }

    fn append(&mut self, which: usize, tokens: &[u32]) {
        let mut held = self.held[which].clone();
        let from = held.tokens.len();
        for &token in tokens {
            if held.tokens.len() == held.blocks.len() * BLOCK {
                let Some(block) = self.manager.allocate().unwrap() else { break };
                held.blocks.push(block);
            }
            held.tokens.push(token);
        }
        self.write(&held, from);
        self.held[which] = held;
    }

    fn end(&mut self, which: usize, index_tail: bool) {
        let held = self.held.swap_remove(which);
        if index_tail {
            // The parent as the index knows it.
            let full = held.tokens.len() / BLOCK;
            let chain = hashes(held.root, &held.tokens, self.weak);
            let probe = [&held.tokens[..full * BLOCK], &[7]].concat();
            let found = self.manager.match_prefix(&chain, &probe);
            if found.blocks.len() == full && !held.tokens.len().is_multiple_of(BLOCK) {
                let parent = found.tip.map_or(Parent::Root(chain.root()), Parent::Node);
                let tail = &held.tokens[full * BLOCK..];
                self.manager.index_partial(parent, tail, held.blocks[full]).unwrap();
            }
        }
        self.manager.release(&held.blocks).unwrap();
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Start { root, tokens, reserve } => self.start(*root, tokens, *reserve),
            Op::Append { which, tokens } if !self.held.is_empty() => {
                self.append(which.index(self.held.len()), tokens);
            }
            Op::End { which, index_tail } if !self.held.is_empty() => {
                self.end(which.index(self.held.len()), *index_tail);
            }
            Op::DropCached => {
                self.manager.drop_cached().unwrap();
                assert_eq!(self.manager.counts().cached, 0);
            }
            Op::Reset => {
                self.held.clear();
                self.content.fill(None);
                self.manager.reset();
                assert_eq!(self.manager.counts().free, self.manager.counts().total);
            }
            _ => {}
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_matched_is_the_same_prefix_even_when_hashes_collide(
        blocks in 3u32..24,
        weak: bool,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut model = Model::new(blocks, weak);
        ops.iter().for_each(|op| model.apply(op));
        while !model.held.is_empty() {
            model.end(0, true);
            model.check();
        }
        prop_assert_eq!(model.manager.counts().in_use, 0);
    }
}

/// With room for everything, the longest shared prefix is found to the token.
#[test]
fn the_longest_prefix_is_found_to_the_token() {
    let mut model = Model::new(1000, false);
    let mut texts: Vec<Vec<u32>> = Vec::new();
    let mut state = 1u32;
    let mut random = |n: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % n
    };
    for _ in 0..150 {
        let text: Vec<u32> = (0..1 + random(24)).map(|_| random(2)).collect();
        let common = |other: &Vec<u32>| text.iter().zip(other).take_while(|(a, b)| a == b).count();
        let best = texts.iter().map(common).max().unwrap_or(0).min(text.len() - 1);
        let before = model.matched;
        model.start(0, &text, 0);
        assert_eq!(model.matched - before, best, "{text:?}");
        model.end(0, true);
        model.check();
        texts.push(text);
    }
    assert!(model.matched > 500);
}

#[test]
fn removing_a_parent_removes_its_descendants_and_outdates_references_to_it() {
    let mut index = ChainIndex::new(8, BLOCK);
    let chain = hashes(0, &[1; 12], false);
    let mut parent = Parent::Root(chain.root());
    for (block, hash) in [(3, 0), (5, 1), (6, 2)] {
        parent = Parent::Node(index.insert_full(parent, chain.as_slice()[hash], &[1; 4], block).unwrap());
    }
    index.insert_partial(parent, &[1, 1], 7);
    index.check().unwrap();
    assert_eq!(index.len(), 4);
    assert!(index.is_live(parent));

    let mut removed = vec![0];
    index.remove(5, &mut removed);
    index.check().unwrap();
    removed[1..].sort_unstable();
    assert_eq!((removed, index.len()), (vec![0, 5, 6, 7], 1));
    assert!(!index.is_live(parent));

    // The same block in a new life is not the parent it was.
    let root = Parent::Root(chain.root());
    index.insert_full(root, ChainHash::from_bytes([9; 32]), &[2; 4], 6).unwrap();
    assert!(index.contains(6) && !index.is_live(parent));
    assert_eq!(index.insert_full(parent, chain.as_slice()[2], &[1; 4], 7), None);
    index.check().unwrap();
}

#[test]
fn an_equal_block_stands_in_for_the_second_one() {
    let mut manager = BlockManager::new(4, BLOCK as u32, true).unwrap();
    let chain = hashes(0, &[1; 8], false);
    let root = Parent::Root(chain.root());
    let (a, b) = (manager.allocate().unwrap().unwrap(), manager.allocate().unwrap().unwrap());
    manager.index_partial(root, &[1, 1], b).unwrap();
    let first = manager.index_full(root, chain.as_slice()[0], &[1; 4], a).unwrap();
    // The second was known by its first tokens; now that it is full and equal it leaves the index.
    let second = manager.index_full(root, chain.as_slice()[0], &[1; 4], b).unwrap();
    assert_eq!(first, second);
    assert_eq!(first.map(|n| n.block), Some(a));
    manager.release(&[a, b]).unwrap();
    let counts = manager.counts();
    assert_eq!((counts.cached, counts.free), (1, 3));
    manager.check(std::iter::empty()).unwrap();
}

#[test]
fn the_null_index_finds_nothing() {
    let mut manager = BlockManager::new(4, BLOCK as u32, false).unwrap();
    let chain = hashes(0, &[1; 8], false);
    let block = manager.allocate().unwrap().unwrap();
    let node = manager.index_full(Parent::Root(chain.root()), chain.as_slice()[0], &[1; 4], block).unwrap();
    assert_eq!(node, None);
    assert_eq!(manager.match_prefix(&chain, &[1; 8]), MatchResult::default());
    manager.release(&[block]).unwrap();
    assert_eq!(manager.counts().free, 4);
}

#[test]
fn the_source_of_a_copy_stays_until_the_plan_is_whole() {
    let mut model = Model::new(4, false);
    model.start(0, &[1, 1, 1, 1], 0);
    model.end(0, false);
    let manager = &mut model.manager;
    let tokens = [1, 1, 0];
    let chain = hashes(0, &tokens, false);
    let found = manager.match_prefix(&chain, &tokens);
    let copy = manager.allocate_for(chain.root(), &found, 3, 0).unwrap().unwrap().copy.unwrap();
    let others: Vec<BlockId> = std::iter::from_fn(|| manager.allocate().unwrap()).collect();
    assert_eq!(others.len(), 2, "all but the source and its copy");
    assert!(!others.contains(&copy.from) && !others.contains(&copy.to));
    manager.end_plan().unwrap();
    assert_eq!(manager.allocate().unwrap(), Some(copy.from));
}

#[test]
fn a_copy_is_forgone_when_its_source_is_the_last_block() {
    let mut model = Model::new(2, false);
    model.start(0, &[1; 8], 0);
    model.end(0, false);
    // The first block is shared; the second would have to be copied into a third.
    model.start(0, &[1; 8], 0);
    assert_eq!((model.held[0].blocks.len(), model.matched), (2, 4));
    model.check();
}

#[test]
fn the_end_of_a_prefix_is_evicted_before_its_beginning() {
    let mut model = Model::new(3, false);
    model.start(0, &[1; 12], 0);
    model.end(0, false);
    for left in [2, 1, 0] {
        model.manager.allocate().unwrap().unwrap();
        let found = model.manager.match_prefix(&hashes(0, &[1; 13], false), &[1; 13]);
        assert_eq!(found.blocks.len(), left);
    }
}
