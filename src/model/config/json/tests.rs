//! Configurations as published, and as they should not be.

use super::*;
use crate::error::Status;
use serde_json::json;

fn base() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
        "vocab_size": 100, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "max_position_embeddings": 512, "tie_word_embeddings": true,
        "bos_token_id": 1, "eos_token_id": [2, 3],
    })
}

fn with(changes: Value) -> Result<ModelConfig> {
    let mut config = base();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    parse(&config.to_string())
}

#[test]
fn a_plain_llama() {
    let config = with(json!({})).unwrap();
    assert_eq!(config.architecture, Architecture::Llama);
    assert_eq!((config.head_dim, config.kv_heads), (16, 2));
    assert_eq!(config.rope, RopeConfig { theta: 500_000.0, scaling: RopeScaling::None });
    assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice()), (Some(1), &[2, 3][..]));
    assert_eq!(config.quantization, None);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for field in ["hidden_size", "num_hidden_layers", "vocab_size", "rms_norm_eps", "model_type"] {
        let mut config = base();
        config.as_object_mut().unwrap().remove(field);
        let e = parse(&config.to_string()).unwrap_err();
        assert_eq!(e.status(), Status::ModelInvalid);
        assert!(e.message().contains(field), "{e}");
    }
    let bad = [
        (json!({"hidden_size": "64"}), "hidden_size"),
        (json!({"hidden_size": -1}), "hidden_size"),
        (json!({"hidden_size": 0}), "hidden_size"),
        (json!({"vocab_size": 1u64 << 40}), "vocab_size"),
        (json!({"num_key_value_heads": 3}), "num_key_value_heads"),
        (json!({"num_attention_heads": 0}), "num_attention_heads"),
        (json!({"num_attention_heads": 5}), "head_dim"),
        (json!({"head_dim": 15}), "head_dim"),
        (json!({"rms_norm_eps": 0.0}), "rms_norm_eps"),
        (json!({"eos_token_id": 100}), "eos_token_id"),
        (json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor"),
        (json!({"rope_scaling": 3}), "rope_scaling"),
        (json!({"quantization": {"bits": 4}}), "quantization.group_size"),
    ];
    for (change, field) in bad {
        let e = with(change.clone()).unwrap_err();
        assert_eq!(e.status(), Status::ModelInvalid, "{change}: {e}");
        assert!(e.message().contains(field), "{change}: {e}");
    }
    assert_eq!(parse("{").unwrap_err().status(), Status::ModelInvalid);
    assert_eq!(parse("[]").unwrap_err().status(), Status::ModelInvalid);
}

#[test]
fn what_we_do_not_run_is_unsupported_by_name() {
    let bad = [
        (json!({"model_type": "mamba"}), "mamba"),
        (json!({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}), "longrope"),
        (json!({"hidden_act": "gelu"}), "gelu"),
        (json!({"quantize_activations": true}), "quantize_activations"),
        (json!({"layer_types": ["full_attention", "chunked_attention"]}), "chunked_attention"),
        (json!({"quantization": {"bits": 4, "group_size": 32, "mode": "mxfp5"}}), "mxfp5"),
        (json!({"quantization": {"bits": 4, "group_size": 64, "mode": "mxfp4"}}), "mxfp4"),
        (json!({"quantization": {"bits": 7, "group_size": 32}}), "quantization.bits"),
        (json!({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 64}}), "gptq"),
    ];
    for (change, name) in bad {
        let e = with(change.clone()).unwrap_err();
        assert_eq!(e.status(), Status::ModelUnsupported, "{change}: {e}");
        assert!(e.message().contains(name), "{change}: {e}");
    }
}

#[test]
fn each_family_asks_for_what_it_has_no_default_for() {
    for family in Architecture::ALL {
        let name = family.name();
        let mut whole = json!({"model_type": name, "head_dim": 16, "max_position_embeddings": 512,
            "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": true});
        if family == Architecture::NemotronH {
            let own = json!({"hybrid_override_pattern": "M*", "layer_norm_epsilon": 1e-5,
                "mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 2,
                "conv_kernel": 4, "mamba_proj_bias": false, "use_conv_bias": true,
                "attention_bias": false, "mlp_bias": false});
            whole.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        }
        assert_eq!(with(whole.clone()).unwrap().architecture, family);
        for field in family.family().required {
            let mut config = whole.clone();
            config[*field] = Value::Null;
            let e = with(config).unwrap_err();
            assert_eq!(e.status(), Status::ModelInvalid, "{name}: {e}");
            assert!(e.message().contains(field), "{name}: {e}");
        }
    }
    let newer = json!({"model_type": "qwen3", "head_dim": 16, "rope_theta": null,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}});
    assert_eq!(with(newer).unwrap().rope.theta, 1e6);
}

#[test]
fn a_window_limits_the_context() {
    let window = |family: &str, mut change: Value| {
        change["model_type"] = family.into();
        change["head_dim"] = 16.into();
        let config = with(change).unwrap();
        (config.sliding_window, config.max_context())
    };
    let layers = json!(["full_attention", "sliding_attention"]);
    // Family, fields, window, longest context.
    let cases = [
        ("mistral", json!({}), (None, 512)),
        ("mistral", json!({"sliding_window": null}), (None, 512)),
        ("mistral", json!({"sliding_window": 64}), (Some(64), 64)),
        ("mistral", json!({"sliding_window": 4096}), (Some(4096), 512)),
        ("llama", json!({"sliding_window": 64}), (None, 512)),
        ("llama", json!({"sliding_window": 64, "layer_types": layers}), (Some(64), 64)),
        ("qwen2", json!({"sliding_window": 64, "use_sliding_window": false}), (None, 512)),
        ("qwen3", json!({"sliding_window": 64, "use_sliding_window": true}), (Some(64), 64)),
    ];
    for (family, fields, expected) in cases {
        assert_eq!(window(family, fields.clone()), expected, "{family} {fields}");
    }
    let e = with(json!({"layer_types": layers})).unwrap_err();
    assert!(e.message().contains("sliding_window"), "{e}");
    let e = with(json!({"model_type": "mistral", "sliding_window": 0})).unwrap_err();
    assert!(e.message().contains("sliding_window"), "{e}");
}

#[test]
fn every_rope_scaling() {
    let scaling = |value: Value| with(json!({ "rope_scaling": value })).unwrap().rope.scaling;
    assert_eq!(scaling(json!({"type": "linear", "factor": 4.0})), RopeScaling::Linear { factor: 4.0 });
    assert_eq!(scaling(json!({"rope_type": "dynamic", "factor": 4.0})), RopeScaling::None);
    assert_eq!(
        scaling(json!({"rope_type": "llama3", "factor": 32.0})),
        RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0
        }
    );
    let yarn = scaling(json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}));
    let RopeScaling::Yarn { attention_factor, beta_fast, .. } = yarn else { panic!("{yarn:?}") };
    assert!((attention_factor - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12);
    assert_eq!(beta_fast, 32.0);
    let newer = with(json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 7e3}}));
    let expected = RopeConfig { theta: 7000.0, scaling: RopeScaling::Linear { factor: 2.0 } };
    assert_eq!(newer.unwrap().rope, expected);
}

#[test]
fn quantization_with_overrides() {
    let q = json!({"group_size": 32, "bits": 4, "mode": "affine",
        "model.embed_tokens": {"group_size": 32, "bits": 8}, "lm_head": false});
    for name in ["quantization", "quantization_config"] {
        let q = with(json!({ name: q })).unwrap().quantization.unwrap();
        assert_eq!(q.of("model.layers.0.mlp.up_proj"), Some(QuantParams::affine(32, 4)));
        assert_eq!(q.of("model.embed_tokens"), Some(QuantParams::affine(32, 8)));
        assert_eq!(q.of("lm_head"), None);
    }
    // Modes that come in one size need not say it.
    let q = with(json!({"quantization": {"mode": "nvfp4"}})).unwrap().quantization.unwrap();
    assert_eq!(q.default, QuantParams { group_size: 16, bits: 4, mode: QuantMode::Nvfp4 });
}
