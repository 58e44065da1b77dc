use super::*;

struct Owned {
    weight: Vec<u32>,
    scales: Vec<f32>,
    biases: Vec<f32>,
}

/// Numbers without a pattern: a multiplicative hash.
fn noise(i: usize) -> u32 {
    (i as u32).wrapping_mul(2_654_435_761).rotate_left(15).wrapping_mul(2_246_822_519)
}

fn float(i: usize) -> f32 {
    noise(i) as f32 / u32::MAX as f32 - 0.5
}

fn weights(rows: usize, columns: usize, bits: usize, group: usize) -> Owned {
    let groups = rows * columns / group;
    Owned {
        weight: (0..rows * columns * bits / 32).map(noise).collect(),
        scales: (0..groups).map(|i| float(i + 1000) * 0.1).collect(),
        biases: (0..groups).map(|i| float(i + 5000)).collect(),
    }
}

/// Weight `[n][k]` by the definition of the format, in double precision.
fn value(w: &QuantizedWeights<'_>, n: usize, k: usize) -> f64 {
    let bit = (n * w.columns + k) * w.bits;
    let q = (w.weight[bit / 32] >> (bit % 32)) & ((1 << w.bits) - 1);
    let g = (n * w.columns + k) / w.group;
    f64::from(w.scales[g]) * f64::from(q) + f64::from(w.biases[g])
}

#[test]
fn the_product_is_the_definition() {
    let threads = Threads::new(2);
    for (bits, group) in [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)] {
        let (rows, columns) = (37, 256);
        let owned = weights(rows, columns, bits, group);
        let w = QuantizedWeights {
            weight: &owned.weight,
            scales: &owned.scales,
            biases: &owned.biases,
            rows,
            columns,
            bits,
            group,
        };
        let mut dense = vec![f32::NAN; rows * columns];
        dequantize(&threads, &w, &mut dense);
        for m in [1, 2, 3, 4, 5, 6, 7, 13] {
            let x: Vec<f32> = (0..m * columns).map(|i| float(i + 77)).collect();
            let add: Vec<f32> = (0..m * rows).map(float).collect();
            let mut out = vec![f32::NAN; m * rows];
            quantized_matmul(&threads, &x, &w, Some(&add), &mut out);
            for i in 0..m {
                for n in 0..rows {
                    let product: f64 =
                        (0..columns).map(|k| f64::from(x[i * columns + k]) * value(&w, n, k)).sum();
                    let want = product + f64::from(add[i * rows + n]);
                    assert!((f64::from(out[i * rows + n]) - want).abs() < 2e-4, "{bits} {group} {m}");
                }
            }
        }
        for n in 0..rows {
            for k in 0..columns {
                assert!((f64::from(dense[n * columns + k]) - value(&w, n, k)).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let threads = Threads::new(2);
    let owned = weights(64, 128, 4, 32);
    let w = QuantizedWeights {
        weight: &owned.weight,
        scales: &owned.scales,
        biases: &owned.biases,
        rows: 64,
        columns: 128,
        bits: 4,
        group: 32,
    };
    let x: Vec<f32> = (0..13 * 128).map(float).collect();
    let mut together = vec![0.0; 13 * 64];
    quantized_matmul(&threads, &x, &w, None, &mut together);
    for m in 0..13 {
        let mut alone = vec![0.0; 64];
        quantized_matmul(&threads, &x[m * 128..][..128], &w, None, &mut alone);
        assert_eq!(alone, together[m * 64..][..64], "bit for bit");
    }
}
