use super::*;
use crate::kernels::gpu::{PagedShape, Wanted};
use crate::mlx::Device;
use crate::model::{QuantMode, QuantParams};

const EXPERTS: i32 = 6;
const HIDDEN: i32 = 64;
const WIDTH: i32 = 128;
const K: i32 = 2;

/// Numbers without a pattern, between -0.5 and 0.5.
fn numbers(count: i32, seed: u32) -> Vec<f32> {
    let noise = |i: u32| i.wrapping_mul(2_654_435_761).rotate_left(15).wrapping_mul(2_246_822_519);
    (0..count as u32).map(|i| noise(i + 7919 * seed) as f32 / u32::MAX as f32 - 0.5).collect()
}

fn array(shape: &[i32], seed: u32) -> Array {
    Array::from_slice(&numbers(shape.iter().product(), seed), shape)
}

fn affine(bits: usize) -> QuantParams {
    QuantParams { group_size: 32, bits, mode: QuantMode::Affine }
}

/// A stack of random matrices, its scales of this type, and the same as floats `[experts, rows, columns]`.
fn stack(rows: i32, columns: i32, bits: Option<usize>, seed: u32, dtype: Dtype) -> (Matrix, Array) {
    let floats = array(&[EXPERTS, rows, columns], seed);
    let Some(bits) = bits else { return (Matrix::dense(floats.clone()).unwrap(), floats) };
    let (weight, scales, biases) = ops::quantize(&floats, 32, bits as i32).unwrap();
    let [scales, biases] = [scales, biases].map(|numbers| numbers.as_dtype(dtype).unwrap());
    let [wide_scales, wide_biases] = [&scales, &biases].map(|n| n.as_dtype(Dtype::Float32).unwrap());
    let floats = ops::dequantize(&weight, &wide_scales, &wide_biases, 32, bits as i32).unwrap();
    (Matrix::quantized(weight, scales, Some(biases), affine(bits)), floats)
}

/// What the experts give, one row and one expert at a time, by dense products.
fn by_definition(x: &Array, routes: &Routes, up: &[Array], down: &Array, activation: Activation) -> Vec<f32> {
    let chosen = routes.experts.to_vec_exact::<u32>().unwrap();
    let weights = routes.weights.to_vec_exact::<f32>().unwrap();
    let pick = |stack: &Array, n: u32| stack.take_axis(Array::from_slice(&[n], &[1]), 0).unwrap();
    let product = |x: &Array, stack: &Array, expert: u32| {
        let matrix = pick(stack, expert).squeeze_axes(&[0]).unwrap();
        ops::matmul(x, matrix.transpose_axes(&[1, 0]).unwrap()).unwrap()
    };
    let mut out = Vec::new();
    for row in 0..x.dim(0) {
        let own = pick(x, row as u32);
        let mut sum = ops::zeros_dtype(&[1, HIDDEN], Dtype::Float32).unwrap();
        for pair in (row * K) as usize..((row + 1) * K) as usize {
            let first = product(&own, &up[0], chosen[pair]);
            let inner = match activation {
                Activation::SwiGlu => {
                    let gate = ops::multiply(ops::sigmoid(&first).unwrap(), &first).unwrap();
                    ops::multiply(gate, product(&own, &up[1], chosen[pair])).unwrap()
                }
                Activation::Relu2 => ops::maximum(&first, Array::from_f32(0.0)).unwrap().square().unwrap(),
            };
            let each = ops::multiply(product(&inner, down, chosen[pair]), Array::from_f32(weights[pair]));
            sum = ops::add(sum, each.unwrap()).unwrap();
        }
        out.extend(sum.to_vec_exact::<f32>().unwrap());
    }
    out
}

/// Experts of rows, `rows * k` of them below and above the number from which on rows are sorted.
fn routes(rows: i32) -> Routes {
    let chosen: Vec<u32> =
        (0..rows).flat_map(|r| [(r * 5 % EXPERTS) as u32, ((r * 5 + 2) % EXPERTS) as u32]).collect();
    let weights = ops::add(array(&[rows, K], 3), Array::from_f32(0.7)).unwrap();
    Routes { experts: Array::from_slice(&chosen, &[rows, K]), weights }
}

/// What experts give, for one row and for many, against what they should by definition.
fn compare(
    activation: Activation,
    up_bits: &[Option<usize>],
    down_bits: Option<usize>,
    kernels: &Kernels,
    dtype: Dtype,
) {
    let ups: Vec<(Matrix, Array)> =
        (0..).zip(up_bits).map(|(i, bits)| stack(WIDTH, HIDDEN, *bits, 20 + i, dtype)).collect();
    let (down, down_floats) = stack(HIDDEN, WIDTH, down_bits, 50, dtype);
    let (parts, floats): (Vec<Matrix>, Vec<Array>) = ups.into_iter().unzip();
    let parts = match parts.as_slice() {
        // As the loader stacks them: each expert's gate above its `up`.
        [gate, up] if up_bits[0] == up_bits[1] => {
            let both = gate.arrays().into_iter().zip(up.arrays());
            let both: Vec<Array> = both.map(|(a, b)| ops::concatenate(&[a, b], 1).unwrap()).collect();
            vec![match both.as_slice() {
                [weight] => Matrix::dense(weight.clone()).unwrap(),
                [weight, scales, biases] => {
                    let params = affine(up_bits[0].unwrap());
                    Matrix::quantized(weight.clone(), scales.clone(), Some(biases.clone()), params)
                }
                _ => panic!("{} arrays", both.len()),
            }]
        }
        _ => parts,
    };
    let (up, down) = (ExpertLinear::new(parts), ExpertLinear::new(vec![down]));
    let experts = Experts::new(up, down, activation, dtype, kernels).unwrap();
    let most_off = match dtype {
        Dtype::Float32 => 1e-4,
        _ if kernels.on_gpu() => 0.03,
        // MLX adds up in that type there.
        _ => 0.1,
    };
    let mut first = Vec::new();
    for rows in [1, 5, 31, 32, 70] {
        let (x, routes) = (array(&[rows, HIDDEN], 1).as_dtype(dtype).unwrap(), routes(rows));
        let own = experts.forward(&x, &routes).unwrap();
        assert_eq!((own.shape(), own.dtype()), (&[rows, HIDDEN][..], dtype));
        let own = own.as_dtype(Dtype::Float32).unwrap().to_vec_exact::<f32>().unwrap();
        let x = x.as_dtype(Dtype::Float32).unwrap();
        let want = by_definition(&x, &routes, &floats, &down_floats, activation);
        let largest = want.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (own, want) in own.iter().zip(&want) {
            let off = (own - want).abs() / largest;
            assert!(off < most_off, "{activation:?}, {up_bits:?}, {rows} rows: {own}, want {want}");
        }
        if kernels.gpu().is_some_and(|gpu| gpu.by_expert().is_some()) {
            // Alone, and with its experts' other rows.
            let bits: Vec<u32> = own[..HIDDEN as usize].iter().map(|x| x.to_bits()).collect();
            if first.is_empty() {
                first.clone_from(&bits);
            }
            assert_eq!(first, bits, "{activation:?}, {up_bits:?}, the first of {rows} rows");
        }
    }
    kernels.check().unwrap();
}

#[test]
fn each_row_gets_the_weighted_sum_of_its_experts() {
    let device = Device::best().unwrap();
    device.run(|| {
        for kernels in [Kernels::best(device.gpu(), true), Kernels::best(device.gpu(), false)] {
            let compare = |activation, up_bits: &[_], down_bits| {
                compare(activation, up_bits, down_bits, &kernels, Dtype::Float32);
            };
            for bits in [None, Some(4), Some(6), Some(8)] {
                compare(Activation::SwiGlu, &[bits, bits], bits);
                compare(Activation::Relu2, &[bits], bits);
            }
            // Stored in different ways.
            compare(Activation::SwiGlu, &[Some(4), Some(4)], Some(8));
            compare(Activation::SwiGlu, &[Some(4), Some(8)], Some(4));
        }
    });
}

/// On CUDA by kernels of ours, alone and in groups.
#[test]
fn each_row_gets_them_in_bfloat16_too() {
    let device = Device::best().unwrap();
    device.run(|| {
        let dtype = Dtype::Bfloat16;
        let kernels = Kernels::best(device.gpu(), true);
        if let Some(own) = kernels.gpu() {
            let pages =
                PagedShape { heads: 2, kv_heads: 1, head_dim: 32, block_size: 16, norms: false, turns: true };
            let packings = vec![(4, 32), (8, 32)];
            own.check(&Wanted { dtype, pages, gated: vec![WIDTH as usize], packings, experts: true });
        }
        compare(Activation::SwiGlu, &[Some(4), Some(4)], Some(8), &kernels, dtype);
        compare(Activation::SwiGlu, &[Some(4), Some(8)], Some(4), &kernels, dtype);
        compare(Activation::Relu2, &[Some(8)], Some(4), &kernels, dtype);
    });
}
