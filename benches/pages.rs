//! Micro-benchmarks of the pages: `cargo bench --no-default-features --bench pages`.
//!
//! Expected: allocate and free of a block under 100 ns; matching a fully cached prefix of 32k tokens
//! under 1 ms.

use divan::{Bencher, black_box};
use quire::cache::{BlockHashes, BlockManager, BlockPool, ChainHash, Parent};

fn main() {
    divan::main();
}

const BLOCK: usize = 16;

/// A block taken and given back, nothing indexed.
#[divan::bench]
fn pool_allocate_free(bencher: Bencher) {
    let mut pool = BlockPool::new(4096).unwrap();
    bencher.bench_local(|| {
        let allocated = pool.allocate().unwrap();
        pool.release(black_box(allocated.block)).unwrap();
    });
}

/// The same through the manager, where every block taken evicts a cached one and is indexed again.
#[divan::bench]
fn manager_allocate_index_free_evicting(bencher: Bencher) {
    let mut manager = BlockManager::new(4096, BLOCK as u32, true).unwrap();
    let root = ChainHash::root(&[]);
    let mut n = 0u32;
    let mut turn = || {
        n += 1;
        let tokens = [n; BLOCK];
        let block = manager.allocate().unwrap().unwrap();
        manager.index_full(Parent::Root(root), root.child(&tokens), &tokens, block).unwrap();
        manager.release(&[block]).unwrap();
    };
    (0..4096).for_each(|_| turn());
    bencher.bench_local(turn);
}

/// A manager that holds `tokens` as one cached chain.
fn cached(tokens: &[u32]) -> (BlockManager, BlockHashes) {
    let blocks = tokens.len().div_ceil(BLOCK) as u32;
    let mut manager = BlockManager::new(2 * blocks, BLOCK as u32, true).unwrap();
    let mut hashes = BlockHashes::new(ChainHash::root(&[]));
    hashes.extend(tokens, BLOCK);
    let mut parent = Parent::Root(hashes.root());
    let mut table = Vec::new();
    for (hash, tokens) in hashes.as_slice().iter().zip(tokens.chunks_exact(BLOCK)) {
        let block = manager.allocate().unwrap().unwrap();
        table.push(block);
        parent = Parent::Node(manager.index_full(parent, *hash, tokens, block).unwrap().unwrap());
    }
    manager.release(&table).unwrap();
    (manager, hashes)
}

/// Hashing and matching a prompt that is cached completely.
#[divan::bench(args = [1024, 32_768])]
fn hash_and_match_cached_prefix(bencher: Bencher, len: u32) {
    let tokens: Vec<u32> = (0..len).map(|i| i.wrapping_mul(2_654_435_761) % 50_000).collect();
    let (manager, _) = cached(&tokens);
    bencher.bench_local(|| {
        let mut hashes = BlockHashes::new(ChainHash::root(&[]));
        hashes.extend(black_box(&tokens), BLOCK);
        let found = manager.match_prefix(&hashes, &tokens);
        assert_eq!(found.tokens(BLOCK), tokens.len() - 1);
        found
    });
}

/// Matching alone, as a sequence that waits does again and again.
#[divan::bench(args = [1024, 32_768])]
fn match_cached_prefix(bencher: Bencher, len: u32) {
    let tokens: Vec<u32> = (0..len).map(|i| i.wrapping_mul(2_654_435_761) % 50_000).collect();
    let (manager, hashes) = cached(&tokens);
    bencher.bench_local(|| manager.match_prefix(black_box(&hashes), black_box(&tokens)));
}
