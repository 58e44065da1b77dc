//! Expert layers: stacked, and one by one.

use super::*;

const EXPERTS: usize = 3;

fn moe(quantized: bool) -> serde_json::Value {
    let mut config = json!({
        "model_type": "qwen3_moe", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 64, "vocab_size": 40,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 128, "tie_word_embeddings": false,
        "num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": true,
        "decoder_sparse_step": 1, "mlp_only_layers": [1],
    });
    if quantized {
        config["quantization"] = json!({"group_size": 32, "bits": 4,
            "model.layers.0.mlp.gate": {"group_size": 32, "bits": 8}});
    }
    config
}

/// The same tensors as Hugging Face's checkpoints have them.
fn listed(stacked: &[Tensor], experts: usize) -> Vec<Tensor> {
    let mut out = Vec::new();
    for (name, dtype, shape) in stacked {
        if name.contains(".switch_mlp.") {
            let one = |n: usize| name.replace(".switch_mlp.", &format!(".experts.{n}."));
            out.extend((0..experts).map(|n| (one(n), *dtype, shape[1..].to_vec())));
        } else {
            out.push((name.clone(), *dtype, shape.clone()));
        }
    }
    out
}

fn find(tensors: &[Tensor], name: &str) -> usize {
    let at = tensors.iter().position(|(own, ..)| own == name);
    at.unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn both_forms_pass_and_are_one_to_the_loader() {
    for quantized in [false, true] {
        let config = moe(quantized);
        let stacked = tensors(&config);
        let manifests = [stacked.clone(), listed(&stacked, EXPERTS)]
            .map(|tensors| Model::new(&config, &tensors).open().unwrap().manifest);
        assert_eq!(manifests[0].elements, manifests[1].elements);
        assert_eq!(manifests[0].stored_bytes, manifests[1].stored_bytes);
        assert_eq!(manifests[0].quantized, manifests[1].quantized);
        let up = manifests[1].quantized.get("model.layers.2.mlp.switch_mlp.up_proj");
        assert_eq!(up.map(|params| params.bits), quantized.then_some(4));
        let gate = manifests[1].quantized.get("model.layers.0.mlp.gate");
        assert_eq!(gate.map(|params| params.bits), quantized.then_some(8));
    }
}

#[test]
fn layers_are_sparse_or_dense_as_configured() {
    let has = |changes: serde_json::Value, layer: usize| {
        let mut config = moe(false);
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let tensors = tensors(&config);
        tensors.iter().any(|(name, ..)| name.starts_with(&format!("model.layers.{layer}.mlp.switch_mlp")))
    };
    assert_eq!([0, 1, 2].map(|layer| has(json!({}), layer)), [true, false, true]);
    assert_eq!([0, 1, 2].map(|layer| has(json!({"mlp_only_layers": []}), layer)), [true; 3]);
    let every_second = json!({"mlp_only_layers": [], "decoder_sparse_step": 2});
    assert_eq!([0, 1, 2].map(|layer| has(every_second.clone(), layer)), [false, true, false]);
}

#[test]
fn every_missing_expert_tensor_is_named() {
    let config = moe(true);
    let stacked = tensors(&config);
    for tensors in [stacked.clone(), listed(&stacked, EXPERTS)] {
        for i in 0..tensors.len() {
            let mut some = tensors.clone();
            let (name, ..) = some.remove(i);
            if !name.contains("switch_mlp") && !name.contains(".experts.") {
                continue;
            }
            // Without scales a module counts as dense, and its packed weight is what is wrong; experts stored
            // in two ways are named as such.
            let module = name.rsplit_once('.').unwrap().0;
            Model::new(&config, &some).fails(Status::ModelInvalid, &[module]);
        }
    }
}

#[test]
fn wrong_numbers_and_shapes_of_experts_are_named() {
    let config = moe(true);
    let stacked = tensors(&config);
    let name = "model.layers.0.mlp.switch_mlp.down_proj.weight";
    let mut fewer = stacked.clone();
    let at = find(&fewer, name);
    fewer[at].2[0] -= 1;
    Model::new(&config, &fewer).fails(Status::ModelInvalid, &[name, "[2, 32, 4]", "[3, 32, 4]"]);

    let missing = format!("tensor 'model.layers.0.mlp.experts.{}.gate_proj.weight' is missing", EXPERTS - 1);
    Model::new(&config, &listed(&stacked, EXPERTS - 1)).fails(Status::ModelInvalid, &[&missing]);
    let left = format!("'model.layers.0.mlp.experts.{EXPERTS}.down_proj.biases' is not part of");
    Model::new(&config, &listed(&stacked, EXPERTS + 1)).fails(Status::ModelInvalid, &[&left]);

    let all = listed(&stacked, EXPERTS);
    let name = "model.layers.2.mlp.experts.1.up_proj.weight";
    let mut wider = all.clone();
    let at = find(&wider, name);
    wider[at].2[0] += 1;
    Model::new(&config, &wider).fails(Status::ModelInvalid, &[name, "shape"]);
    let router = "model.layers.2.mlp.gate.weight";
    let mut narrow = all.clone();
    let at = find(&narrow, router);
    narrow[at].2[0] -= 1;
    Model::new(&config, &narrow).fails(Status::ModelInvalid, &[router, "shape"]);
}

#[test]
fn experts_of_a_layer_are_stored_alike() {
    let config = moe(true);
    let mut mixed = listed(&tensors(&config), EXPERTS);
    let module = "model.layers.2.mlp.experts.1.up_proj";
    let at = find(&mixed, &format!("{module}.scales"));
    mixed[at].1 = "F32";
    Model::new(&config, &mixed).fails(Status::ModelInvalid, &[module, "another format"]);

    let mut named = config.clone();
    named["quantization"][module] = json!({"group_size": 32, "bits": 8});
    let mut mixed = listed(&tensors(&config), EXPERTS);
    let at = find(&mixed, &format!("{module}.weight"));
    mixed[at].2[1] *= 2;
    Model::new(&named, &mixed).fails(Status::ModelInvalid, &[module, "another format"]);
}

#[test]
fn fields_of_experts_that_are_missing_or_wrong_are_named() {
    let with = |field: &str, value: serde_json::Value| {
        let mut config = moe(false);
        config[field] = value;
        ModelConfig::from_json(&config.to_string()).map(drop)
    };
    let required = ["num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob"];
    for field in required.into_iter().chain(["head_dim", "num_key_value_heads", "rope_theta"]) {
        let e = with(field, serde_json::Value::Null).unwrap_err();
        assert_eq!(e.status(), Status::ModelInvalid);
        assert!(e.message().contains(&format!("'{field}' is missing")), "{e}");
    }
    with("mlp_only_layers", serde_json::Value::Null).unwrap();
    with("decoder_sparse_step", serde_json::Value::Null).unwrap();
    let wrong = [
        ("num_experts", json!(0)),
        ("num_experts", json!(1 << 20)),
        ("num_experts", json!("many")),
        ("num_experts_per_tok", json!(EXPERTS + 1)),
        ("num_experts_per_tok", json!(0)),
        ("moe_intermediate_size", json!(0)),
        ("moe_intermediate_size", json!(1u64 << 40)),
        ("decoder_sparse_step", json!(0)),
        ("mlp_only_layers", json!(2)),
        ("norm_topk_prob", json!("yes")),
    ];
    for (field, value) in wrong {
        let e = with(field, value.clone()).unwrap_err();
        assert_eq!(e.status(), Status::ModelInvalid);
        assert!(e.message().contains(&format!("'{field}'")), "{value}: {e}");
    }
}
