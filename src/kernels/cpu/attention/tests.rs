use super::*;

fn noise(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| {
            let n = ((i + seed * 7919) as u32).wrapping_mul(2_654_435_761).rotate_left(13);
            n.wrapping_mul(2_246_822_519) as f32 / u32::MAX as f32 - 0.5
        })
        .collect()
}

/// Attention by the definition, in double precision, for one row that starts at position 0. `rotated`
/// are its queries and keys after rotation.
fn reference(shape: &AttentionShape, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
    let dim = shape.head_dim;
    let tokens = q.len() / (shape.heads * dim);
    let mut out = Vec::new();
    for t in 0..tokens {
        for h in 0..shape.heads {
            let kv = h / (shape.heads / shape.kv_heads);
            let query = &q[(t * shape.heads + h) * dim..][..dim];
            let at = |s: usize| (s * shape.kv_heads + kv) * dim;
            let scores: Vec<f64> = (0..=t)
                .map(|s| {
                    let dot: f64 = query
                        .iter()
                        .zip(&k[at(s)..][..dim])
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum();
                    (dot * f64::from(shape.scale)).exp()
                })
                .collect();
            let total: f64 = scores.iter().sum();
            for d in 0..dim {
                out.push((0..=t).map(|s| scores[s] / total * f64::from(v[at(s) + d])).sum());
            }
        }
    }
    out
}

struct Case {
    shape: AttentionShape,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Case {
    fn new(shape: AttentionShape, tokens: usize) -> Self {
        let angles: Vec<f32> = (0..tokens)
            .flat_map(|t| (0..shape.rope_dims / 2).map(move |i| t as f32 / 10f32.powi(i as i32)))
            .collect();
        let scaled = |v: Vec<f32>| v.into_iter().map(|x| x * 6.0).collect();
        Case {
            q: scaled(noise(tokens * shape.heads * shape.head_dim, 1)),
            k: scaled(noise(tokens * shape.kv_heads * shape.head_dim, 2)),
            v: noise(tokens * shape.kv_heads * shape.head_dim, 3),
            cos: angles.iter().map(|a| a.cos()).collect(),
            sin: angles.iter().map(|a| a.sin()).collect(),
            shape,
        }
    }

    /// Runs the tokens in chunks of these lengths, one call a chunk, and returns all outputs.
    fn run(&self, chunks: &[usize], table: &[u32], blocks: usize) -> Vec<f32> {
        let s = &self.shape;
        let span = s.kv_heads * s.head_dim * s.block_size;
        // What no token wrote must not matter.
        let (mut keys, mut values) = (vec![f32::NAN; blocks * span], vec![f32::NAN; blocks * span]);
        let threads = Threads::new(2);
        let (mut start, mut all) = (0, Vec::new());
        for &tokens in chunks {
            let (q, kv, half) = (s.heads * s.head_dim, s.kv_heads * s.head_dim, s.rope_dims / 2);
            let step = Projected {
                queries: &self.q[start * q..][..tokens * q],
                keys: &self.k[start * kv..][..tokens * kv],
                values: &self.v[start * kv..][..tokens * kv],
                cos: &self.cos[start * half..][..tokens * half],
                sin: &self.sin[start * half..][..tokens * half],
                head_norms: None,
            };
            let mut out = vec![f32::NAN; tokens * q];
            let rows = [PagedRow { tokens: 0..tokens, start, table }];
            let pages = Pages { keys: &mut keys, values: &mut values };
            paged_attention(&threads, s, &step, &rows, pages, &mut out);
            all.extend(out);
            start += tokens;
        }
        all
    }

    fn rotated(&self, x: &[f32], heads: usize) -> Vec<f32> {
        let (dim, half) = (self.shape.head_dim, self.shape.rope_dims / 2);
        let mut x = x.to_vec();
        for (t, token) in x.chunks_exact_mut(heads * dim).enumerate() {
            for head in token.chunks_exact_mut(dim) {
                for i in 0..half {
                    let (a, b) = (head[i], head[i + half]);
                    let (c, s) = (self.cos[t * half + i], self.sin[t * half + i]);
                    (head[i], head[i + half]) = (a * c - b * s, b * c + a * s);
                }
            }
        }
        x
    }
}

fn shape(heads: usize, kv_heads: usize, head_dim: usize, block_size: usize) -> AttentionShape {
    let scale = (head_dim as f32).powf(-0.5);
    AttentionShape { heads, kv_heads, head_dim, rope_dims: head_dim, block_size, scale }
}

#[test]
fn it_is_the_definition_however_the_pages_lie() {
    for (heads, kv_heads, dim, size) in [(9, 3, 64, 16), (4, 4, 32, 32), (8, 2, 16, 4), (4, 1, 32, 1)] {
        let case = Case::new(shape(heads, kv_heads, dim, size), 50);
        let table: Vec<u32> = (0..50u32.div_ceil(size as u32)).map(|i| (i * 7 + 3) % 53).collect();
        let got = case.run(&[50], &table, 53);
        let want =
            reference(&case.shape, &case.rotated(&case.q, heads), &case.rotated(&case.k, kv_heads), &case.v);
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
        }
    }
}

#[test]
fn chunks_change_nothing() {
    let case = Case::new(shape(6, 2, 32, 16), 45);
    let whole = case.run(&[45], &[2, 0, 1], 3);
    for chunks in [&[1; 45][..], &[7, 7, 7, 7, 7, 7, 3], &[16, 16, 13], &[44, 1]] {
        assert_eq!(case.run(chunks, &[1, 2, 0], 3), whole, "bit for bit");
    }
}

#[test]
fn rows_of_one_step_do_not_see_each_other() {
    let case = Case::new(shape(6, 2, 32, 16), 20);
    let alone = case.run(&[20], &[0, 1], 2);
    let s = &case.shape;
    let twice = |x: &[f32]| [x, x].concat();
    let (q, k, v) = (twice(&case.q), twice(&case.k), twice(&case.v));
    let (cos, sin) = (twice(&case.cos), twice(&case.sin));
    let step = Projected { queries: &q, keys: &k, values: &v, cos: &cos, sin: &sin, head_norms: None };
    let span = s.kv_heads * s.head_dim * s.block_size;
    let (mut keys, mut values) = (vec![f32::NAN; 4 * span], vec![f32::NAN; 4 * span]);
    let rows = [
        PagedRow { tokens: 0..20, start: 0, table: &[3, 0] },
        PagedRow { tokens: 20..40, start: 0, table: &[1, 2] },
    ];
    let mut out = vec![f32::NAN; q.len()];
    let pages = Pages { keys: &mut keys, values: &mut values };
    paged_attention(&Threads::new(2), s, &step, &rows, pages, &mut out);
    assert_eq!(out, twice(&alone));
}
