use serde::Deserialize;

use super::*;
use crate::mlx::Device;
use crate::model::layers::Kernels;

/// What `tests/parity/routing.py` wrote.
#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    experts: usize,
    per_token: usize,
    scoring: String,
    groups: usize,
    groups_used: usize,
    normalize: bool,
    scale: f32,
    outputs: Vec<Vec<f32>>,
    correction: Option<Vec<f32>>,
    chosen: Vec<Vec<u32>>,
    weights: Vec<Vec<f32>>,
}

impl Case {
    fn router(&self) -> Router {
        let routing = Routing {
            experts: self.experts,
            per_token: self.per_token,
            scoring: match self.scoring.as_str() {
                "softmax" => Scoring::Softmax,
                "softmax_of_chosen" => Scoring::SoftmaxOfChosen,
                "sigmoid" => Scoring::Sigmoid,
                other => panic!("{other}"),
            },
            groups: self.groups,
            groups_used: self.groups_used,
            normalize: self.normalize,
            scale: self.scale,
        };
        routing.validate("experts").unwrap();
        let gate = Linear::new(Vec::new(), None, &Kernels::Elementary).unwrap();
        let correction = self.correction.as_ref().map(|c| Array::from_slice(c, &[c.len() as i32]));
        Router::new(gate, correction, &routing)
    }

    fn outputs(&self) -> Array {
        Array::from_slice(&self.outputs.concat(), &[self.outputs.len() as i32, self.experts as i32])
    }
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../../tests/parity/routing.json");
    let expected: Expected = serde_json::from_str(text).unwrap();
    assert_eq!(expected.cases.len(), 11);
    expected.cases
}

#[test]
fn experts_and_weights_are_mlx_lms() {
    Device::best().unwrap().run(|| {
        for case in cases() {
            let routes = case.router().route(&case.outputs()).unwrap();
            let chosen = routes.experts.contiguous().unwrap().to_vec_exact::<u32>().unwrap();
            let weights = routes.weights.contiguous().unwrap().to_vec_exact::<f32>().unwrap();
            assert_eq!(chosen.len(), case.chosen.len() * case.per_token, "{}", case.name);
            let k = case.per_token;
            let rows = chosen.chunks(k).zip(weights.chunks(k)).zip(case.chosen.iter().zip(&case.weights));
            for ((chosen, weights), (want_chosen, want_weights)) in rows {
                let mut own: Vec<(u32, f32)> = chosen.iter().copied().zip(weights.iter().copied()).collect();
                own.sort_by_key(|&(expert, _)| expert);
                let experts: Vec<u32> = own.iter().map(|&(expert, _)| expert).collect();
                assert_eq!(&experts, want_chosen, "{}", case.name);
                for ((_, weight), want) in own.iter().zip(want_weights) {
                    assert!((weight - want).abs() < 1e-6, "{}: {weight}, want {want}", case.name);
                }
            }
        }
    });
}

#[test]
fn sigmoids_are_float32_whatever_the_layer_computes_in() {
    Device::best().unwrap().run(|| {
        for case in cases() {
            let outputs = case.outputs().as_dtype(Dtype::Bfloat16).unwrap();
            let routes = case.router().route(&outputs).unwrap();
            let want = if case.scoring == "sigmoid" { Dtype::Float32 } else { Dtype::Bfloat16 };
            assert_eq!(routes.weights.dtype(), want, "{}", case.name);
            assert_eq!(routes.experts.dtype(), Dtype::Uint32, "{}", case.name);
        }
    });
}
