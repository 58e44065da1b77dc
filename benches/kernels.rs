//! Micro-benchmarks of the CPU kernels, at the shapes of SmolLM2-135M (4 bits, groups of 32):
//! `cargo bench --no-default-features --bench kernels`.

use divan::Bencher;
use quire::kernels::cpu::{
    AttentionShape, PagedRow, Pages, Projected, QuantizedWeights, Threads, paged_attention, quantized_matmul,
};

fn main() {
    divan::main();
}

const GROUP: usize = 32;

fn floats(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect()
}

/// From a cache line's begin, as page pools lie.
fn aligned(numbers: &mut [f32]) -> &mut [f32] {
    let from = numbers.as_ptr().align_offset(64);
    &mut numbers[from..]
}

/// Rows of `x` met by a layer's four products: queries, keys and values; output; gate and up; down.
#[divan::bench(args = [1, 2, 4, 8, 12, 16, 24, 64, 256])]
fn products_of_a_layer(bencher: Bencher, m: usize) {
    let threads = Threads::per_core();
    let parts: Vec<_> = [(960, 576), (576, 576), (3072, 576), (576, 1536)]
        .into_iter()
        .map(|(rows, columns)| {
            let groups = rows * columns / GROUP;
            let weight: Vec<u32> =
                (0..(rows * columns / 8) as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
            (rows, columns, weight, floats(groups), floats(groups), floats(m * columns))
        })
        .collect();
    let mut out = vec![0.0; m * 3072];
    bencher.bench_local(|| {
        for (rows, columns, weight, scales, biases, x) in &parts {
            let (rows, columns) = (*rows, *columns);
            let w = QuantizedWeights { weight, scales, biases, rows, columns, bits: 4, group: GROUP };
            quantized_matmul(&threads, x, &w, None, &mut out[..m * rows]);
        }
    });
}

/// A layer's attention: this many tokens of one sequence, the last of this many positions.
#[divan::bench(args = [(1, 128), (1, 4000), (4, 4000), (16, 4000), (16, 512), (512, 512), (512, 4000)])]
fn attention_of_a_layer(bencher: Bencher, (tokens, context): (usize, usize)) {
    let shape =
        AttentionShape { heads: 9, kv_heads: 3, head_dim: 64, rope_dims: 64, block_size: 16, scale: 0.125 };
    let threads = Threads::per_core();
    let blocks = context.div_ceil(16);
    let span = shape.kv_heads * shape.head_dim * shape.block_size;
    let (mut keys, mut values) = (floats(blocks * span + 16), floats(blocks * span + 16));
    let (keys, values) = (aligned(&mut keys), aligned(&mut values));
    let table: Vec<u32> = (0..blocks as u32).rev().collect();
    let (q, kv) = (floats(tokens * 9 * 64), floats(tokens * 3 * 64));
    let (cos, sin) = (vec![1.0; tokens * 32], vec![0.0; tokens * 32]);
    let mut out = vec![0.0; tokens * 9 * 64];
    bencher.bench_local(|| {
        let step = Projected { queries: &q, keys: &kv, values: &kv, cos: &cos, sin: &sin, head_norms: None };
        let rows = [PagedRow { tokens: 0..tokens, start: context - tokens, table: &table }];
        let pages = Pages { keys, values };
        paged_attention(&threads, &shape, &step, &rows, pages, &mut out);
    });
}
