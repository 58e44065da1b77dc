use super::*;

/// Numbers without a pattern: a multiplicative hash.
fn noise(i: usize) -> u32 {
    (i as u32).wrapping_mul(2_654_435_761).rotate_left(15).wrapping_mul(2_246_822_519)
}

/// Between -0.5 and 0.5.
fn float(i: usize) -> f32 {
    noise(i) as f32 / u32::MAX as f32 - 0.5
}

struct Owned {
    weight: Vec<u32>,
    scales: Vec<f32>,
    biases: Vec<f32>,
    rows: usize,
    columns: usize,
    bits: usize,
}

const GROUP: usize = 32;

impl Owned {
    fn new(rows: usize, columns: usize, bits: usize, seed: usize) -> Owned {
        let groups = rows * columns / GROUP;
        Owned {
            weight: (0..rows * columns * bits / 32).map(|i| noise(i + seed)).collect(),
            scales: (0..groups).map(|i| float(i + seed + 1000) * 0.1).collect(),
            biases: (0..groups).map(|i| float(i + seed + 5000)).collect(),
            rows,
            columns,
            bits,
        }
    }

    fn view(&self) -> QuantizedWeights<'_> {
        QuantizedWeights {
            weight: &self.weight,
            scales: &self.scales,
            biases: &self.biases,
            rows: self.rows,
            columns: self.columns,
            bits: self.bits,
            group: GROUP,
        }
    }

    /// Row `n` times `x` by the definition of the format, in double precision.
    fn times(&self, n: usize, x: &[f64]) -> f64 {
        let value = |k: usize| {
            let bit = (n * self.columns + k) * self.bits;
            let q = (self.weight[bit / 32] >> (bit % 32)) & ((1 << self.bits) - 1);
            let g = (n * self.columns + k) / GROUP;
            f64::from(self.scales[g]) * f64::from(q) + f64::from(self.biases[g])
        };
        x.iter().enumerate().map(|(k, x)| x * value(k)).sum()
    }
}

const EXPERTS: usize = 5;
const HIDDEN: usize = 64;
const WIDTH: usize = 96;
const K: usize = 3;

/// A layer, with another number of bits in the second projection than in the first.
struct Layer {
    up: Owned,
    down: Owned,
    activation: ExpertActivation,
}

impl Layer {
    fn new(activation: ExpertActivation) -> Layer {
        let up = Owned::new(EXPERTS * WIDTH * activation.inputs(), HIDDEN, 4, 0);
        Layer { up, down: Owned::new(EXPERTS * HIDDEN, WIDTH, 8, 9000), activation }
    }

    fn run(&self, x: &[f32], chosen: &[u32], weights: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; x.len()];
        let routes = ExpertRoutes { experts: chosen, weights, k: K };
        let layer = ExpertWeights {
            up: self.up.view(),
            down: self.down.view(),
            experts: EXPERTS,
            activation: self.activation,
        };
        expert_mlp(&Threads::new(2), x, &routes, &layer, &mut out);
        out
    }

    /// One expert, in double precision.
    fn expert(&self, expert: usize, x: &[f64]) -> Vec<f64> {
        let inputs = self.activation.inputs();
        let row = |n: usize| self.up.times(expert * WIDTH * inputs + n, x);
        let inner: Vec<f64> = (0..WIDTH)
            .map(|n| match self.activation {
                ExpertActivation::SwiGlu => row(n) / (1.0 + (-row(n)).exp()) * row(WIDTH + n),
                ExpertActivation::Relu2 => row(n).max(0.0).powi(2),
            })
            .collect();
        (0..HIDDEN).map(|n| self.down.times(expert * HIDDEN + n, &inner)).collect()
    }
}

/// Rows whose experts differ, repeat, and leave one out.
fn routes(rows: usize) -> (Vec<f32>, Vec<u32>, Vec<f32>) {
    let x = (0..rows * HIDDEN).map(|i| float(i + 77)).collect();
    let chosen = (0..rows).flat_map(|row| (0..K).map(move |i| ((row + 2 * i) % (EXPERTS - 1)) as u32));
    (x, chosen.collect(), (0..rows * K).map(|i| float(i + 400) + 0.6).collect())
}

#[test]
fn the_output_is_the_definition() {
    for activation in [ExpertActivation::SwiGlu, ExpertActivation::Relu2] {
        let layer = Layer::new(activation);
        for rows in [1, 2, 11] {
            let (x, chosen, weights) = routes(rows);
            let out = layer.run(&x, &chosen, &weights);
            for row in 0..rows {
                let x: Vec<f64> = x[row * HIDDEN..][..HIDDEN].iter().map(|&x| f64::from(x)).collect();
                let mut want = vec![0.0; HIDDEN];
                for pair in row * K..(row + 1) * K {
                    for (want, own) in want.iter_mut().zip(layer.expert(chosen[pair] as usize, &x)) {
                        *want += f64::from(weights[pair]) * own;
                    }
                }
                let largest = want.iter().fold(0f64, |most, x| most.max(x.abs()));
                for (own, want) in out[row * HIDDEN..].iter().zip(&want) {
                    let off = (f64::from(*own) - want).abs() / largest;
                    assert!(off < 1e-5, "{activation:?}, row {row} of {rows}: {own}, want {want}");
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    for activation in [ExpertActivation::SwiGlu, ExpertActivation::Relu2] {
        let layer = Layer::new(activation);
        let (x, chosen, weights) = routes(23);
        let together = layer.run(&x, &chosen, &weights);
        for row in 0..23 {
            let (pairs, features) = (row * K..(row + 1) * K, row * HIDDEN..(row + 1) * HIDDEN);
            let alone = layer.run(&x[features.clone()], &chosen[pairs.clone()], &weights[pairs]);
            assert_eq!(alone, together[features], "bit for bit");
        }
    }
}

#[test]
#[should_panic(expected = "experts")]
fn an_expert_that_is_not_there_is_refused() {
    let (x, mut chosen, weights) = routes(2);
    chosen[4] = EXPERTS as u32;
    Layer::new(ExpertActivation::Relu2).run(&x, &chosen, &weights);
}
