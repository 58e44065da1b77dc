//! What is wrong with a model is said before the first token, with the file and the tensor or field: for every
//! architecture, on models that are sound but for one thing.

#[path = "common/formula.rs"]
mod formula;
#[cfg(feature = "mlx")]
#[path = "common/gguf.rs"]
mod gguf;

use std::collections::BTreeSet;

use formula::{ModelDir, Reference};
use quire::engine::load::{Loaded, load};
use quire::error::{Result, Status};
use quire::model::locate::locate;
use quire::model::{Architecture, LoadOptions};
use serde_json::{Value, json};

/// The sound models: at least one of every architecture.
const MODELS: &[&str] =
    &["llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "nemotron_h", "nemotron_h_other"];

fn models() -> Vec<Reference> {
    let mut models: Vec<Reference> = MODELS.iter().map(|name| Reference::read(name)).collect();
    models.push(Reference::read("qwen3_moe").with_listed_experts());
    let families: BTreeSet<&str> = models.iter().map(family).collect();
    let all: BTreeSet<&str> = Architecture::ALL.into_iter().map(Architecture::name).collect();
    assert_eq!(families, all);
    models
}

fn family(model: &Reference) -> &str {
    model.config["model_type"].as_str().unwrap()
}

fn options() -> LoadOptions {
    LoadOptions { max_sequences: 1, cache_bytes: Some(8 << 20), ..LoadOptions::default() }
}

fn try_load(model: &ModelDir, options: &LoadOptions) -> Result<Loaded> {
    load(&locate(model.path().to_str().unwrap())?, options, &mut |_, _| true)
}

/// Loading fails with this status and a message that has all of `words`; `what` was done to the model.
fn assert_refused(model: &ModelDir, what: &str, status: Status, words: &[&str]) {
    assert_refused_with(&options(), model, what, status, words);
}

/// The same for weights, in both ways that they are read: as on a CPU and as on a GPU.
#[cfg(feature = "mlx")]
fn assert_weights_refused(model: &ModelDir, what: &str, words: &[&str]) {
    for as_on_gpu in [false, true] {
        let options = LoadOptions { as_on_gpu, ..options() };
        assert_refused_with(&options, model, what, Status::ModelInvalid, words);
    }
}

fn assert_refused_with(options: &LoadOptions, model: &ModelDir, what: &str, status: Status, words: &[&str]) {
    assert_error(try_load(model, options), what, status, words);
}

fn assert_error(loaded: Result<Loaded>, what: &str, status: Status, words: &[&str]) {
    let error = match loaded {
        Ok(_) => panic!("{what}: the model was accepted"),
        Err(error) => error,
    };
    assert_eq!(error.status(), status, "{what}: {error}");
    for word in words {
        assert!(error.message().contains(word), "{what}: {word:?} is not in: {error}");
    }
}

#[test]
fn the_models_are_sound_otherwise() {
    for model in models() {
        try_load(&model.write(), &options()).unwrap();
    }
}

#[test]
fn a_missing_field_is_named() {
    let always = ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"];
    for model in models() {
        let own: &[&str] = match family(&model) {
            "llama" => &["intermediate_size", "rms_norm_eps"],
            "mistral" => {
                &["intermediate_size", "rms_norm_eps", "num_key_value_heads", "max_position_embeddings"]
            }
            "qwen2" => &["intermediate_size", "rms_norm_eps", "num_key_value_heads", "rope_theta"],
            "qwen3" => &[
                "intermediate_size",
                "rms_norm_eps",
                "num_key_value_heads",
                "head_dim",
                "rope_theta",
                "max_position_embeddings",
            ],
            "qwen3_moe" => &[
                "intermediate_size",
                "rms_norm_eps",
                "num_key_value_heads",
                "head_dim",
                "rope_theta",
                "max_position_embeddings",
                "num_experts",
                "num_experts_per_tok",
                "moe_intermediate_size",
                "norm_topk_prob",
            ],
            "nemotron_h" => &[
                "intermediate_size",
                "layer_norm_epsilon",
                "num_key_value_heads",
                "max_position_embeddings",
                "hybrid_override_pattern",
                "attention_bias",
                "mlp_bias",
                "mamba_num_heads",
                "mamba_head_dim",
                "mamba_proj_bias",
                "ssm_state_size",
                "conv_kernel",
                "n_groups",
                "use_conv_bias",
                "moe_intermediate_size",
                "n_routed_experts",
                "num_experts_per_tok",
                "n_group",
                "topk_group",
                "norm_topk_prob",
                "routed_scaling_factor",
            ],
            other => panic!("name the fields that {other} needs"),
        };
        for field in always.iter().chain(own) {
            // There the pattern says how many layers there are.
            if *field == "num_hidden_layers" && own.contains(&"hybrid_override_pattern") {
                continue;
            }
            let mut broken = model.clone();
            broken.config.as_object_mut().unwrap().remove(*field).unwrap();
            let what = format!("{} without {field}", family(&model));
            assert_refused(&broken.write(), &what, Status::ModelInvalid, &["config.json", field]);
        }
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let cases: [(&str, Value, &str); 6] = [
        ("quantization", json!({"group_size": 32, "bits": 4, "mode": "q4_k"}), "quantization.mode"),
        ("quantization", json!({"group_size": 32, "bits": 7}), "quantization.bits"),
        ("quantization", json!({"group_size": 48, "bits": 4}), "quantization.group_size"),
        ("quantization_config", json!({"quant_method": "gptq", "bits": 4}), "gptq"),
        ("rope_scaling", json!({"rope_type": "longrope", "factor": 4.0}), "rope_scaling.rope_type"),
        ("rope_scaling", json!({"type": "su", "factor": 4.0}), "rope_scaling.rope_type"),
    ];
    for model in models() {
        for (field, value, named) in &cases {
            // Without positions there is nothing to scale.
            if *field == "rope_scaling" && family(&model) == "nemotron_h" {
                continue;
            }
            let mut broken = model.clone();
            let config = broken.config.as_object_mut().unwrap();
            if *field == "quantization_config" {
                config.remove("quantization");
            }
            config.insert((*field).into(), value.clone());
            let what = format!("{} with {field} {value}", family(&model));
            assert_refused(&broken.write(), &what, Status::ModelUnsupported, &["config.json", named]);
        }
    }
}

/// One tensor of each kind: of the first layer, and what no layer has.
fn kinds(model: &Reference) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let kind = |name: &str| name.split('.').filter(|part| part.parse::<u32>().is_err()).collect::<String>();
    (0..model.tensors.len()).filter(|&i| seen.insert(kind(&model.tensors[i].name))).collect()
}

#[test]
fn a_wrong_shape_is_named() {
    for model in models() {
        for i in kinds(&model) {
            for dimension in 0..model.tensors[i].shape.len() {
                let mut broken = model.clone();
                broken.tensors[i].shape[dimension] += 1;
                let name = &model.tensors[i].name;
                let what = format!("{}, {name} larger in dimension {dimension}", family(&model));
                assert_refused(
                    &broken.write(),
                    &what,
                    Status::ModelInvalid,
                    &[".safetensors", name, "shape"],
                );
            }
        }
    }
}

#[test]
fn a_missing_tensor_is_named() {
    for model in models() {
        for i in kinds(&model) {
            let mut broken = model.clone();
            let name = broken.tensors.remove(i).name;
            // Without scales a packed weight is what is wrong.
            let module = name.rsplit_once('.').unwrap().0;
            let what = format!("{} without {name}", family(&model));
            assert_refused(&broken.write(), &what, Status::ModelInvalid, &[".safetensors", module]);
        }
    }
}

#[test]
#[cfg(feature = "mlx")]
fn what_is_no_number_is_named() {
    for model in models() {
        let dir = model.write();
        for i in kinds(&model) {
            let tensor = &model.tensors[i];
            let (nan, infinite) = match tensor.dtype.as_str() {
                "F32" => (f32::NAN.to_le_bytes().to_vec(), f32::NEG_INFINITY.to_le_bytes().to_vec()),
                "BF16" => (vec![0xc0, 0x7f], vec![0x80, 0xff]),
                "F16" => (vec![0x00, 0x7e], vec![0x00, 0xfc]),
                _ => continue,
            };
            let last = (tensor.bytes().len() - nan.len()) as u64;
            for (at, bytes) in [(0, infinite), (last, nan)] {
                dir.write_over(&tensor.name, at, &bytes);
                let what = format!("{}, {} is no number", family(&model), tensor.name);
                assert_weights_refused(&dir, &what, &[".safetensors", &tensor.name, "NaN"]);
                dir.write_over(&tensor.name, 0, &tensor.bytes());
            }
        }
        for as_on_gpu in [false, true] {
            try_load(&dir, &LoadOptions { as_on_gpu, ..options() }).unwrap();
        }
    }
}

#[test]
#[cfg(feature = "mlx")]
fn what_is_no_number_is_named_in_every_packed_format() {
    for (name, leaf, bad) in [
        ("format-mxfp4", "scales", 0xff),
        ("format-mxfp8", "scales", 0xff),
        ("format-mxfp8", "weight", 0x7f),
        ("format-nvfp4", "scales", 0x7f),
    ] {
        let tensor = format!("model.layers.0.mlp.up_proj.{leaf}");
        let dir = Reference::read(name).write();
        dir.write_over(&tensor, 77, &[bad]);
        assert_weights_refused(&dir, name, &[".safetensors", &tensor, "NaN"]);
    }
}

/// What happens to files while a model is loaded, after they were checked, in both ways of reading.
#[cfg(feature = "mlx")]
mod while_loading {
    use super::*;

    /// Loads these models; `act` is called whenever a module is loaded, with how many there were before.
    fn each(act: impl Fn(&ModelDir, usize) -> bool, status: Status, words: &[&str]) {
        for model in ["llama", "qwen3_moe", "nemotron_h"] {
            for as_on_gpu in [false, true] {
                let dir = Reference::read(model).write();
                let files = locate(dir.path().to_str().unwrap()).unwrap();
                let mut modules = 0;
                let loaded = load(&files, &LoadOptions { as_on_gpu, ..options() }, &mut |_, stage| {
                    let is_module = stage == quire::model::weights::STAGE;
                    modules += usize::from(is_module);
                    !is_module || act(&dir, modules - 1)
                });
                assert_error(loaded, &format!("{model}, as on a GPU: {as_on_gpu}"), status, words);
                // Nothing of it is left to fail in the next one's place.
                let sound = Reference::read(model).write();
                try_load(&sound, &LoadOptions { as_on_gpu, ..options() }).unwrap();
            }
        }
    }

    #[test]
    fn a_file_that_becomes_shorter_is_named() {
        let cut = |dir: &ModelDir, modules: usize| {
            if modules == 3 {
                let path = dir.path().join("model-00001-of-00001.safetensors");
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                // The headers stay.
                file.set_len(file.metadata().unwrap().len() / 8).unwrap();
            }
            true
        };
        each(cut, Status::ModelInvalid, &["model-00001-of-00001.safetensors", "became shorter"]);
    }

    #[test]
    fn the_caller_may_stop() {
        each(|_, modules| modules < 5, Status::Aborted, &["progress callback"]);
    }
}

#[test]
#[cfg(feature = "mlx")]
fn what_is_no_number_is_named_in_gguf_files() {
    let sound = Reference::read("dense-qwen3");
    for i in kinds(&sound) {
        let mut broken = sound.clone();
        broken.tensors[i].float = Some([f64::NAN, 0.0]);
        let file = gguf::write(&broken);
        let files = locate(file.path().to_str().unwrap()).unwrap();
        let error = load(&files, &LoadOptions::default(), &mut |_, _| true).unwrap_err();
        let name = &broken.tensors[i].name;
        assert_eq!(error.status(), Status::ModelInvalid, "{name}: {error}");
        for word in [".gguf", name, "NaN"] {
            assert!(error.message().contains(word), "{word:?} is not in: {error}");
        }
    }
}

#[test]
fn a_context_beyond_the_window_is_refused() {
    let mut model = Reference::read("mistral");
    model.config["sliding_window"] = 64.into();
    let dir = model.write();
    let at_most = |max_context| try_load(&dir, &LoadOptions { max_context, ..options() });
    assert_eq!(at_most(None).unwrap().info.max_context, 64);
    assert_eq!(at_most(Some(50)).unwrap().info.max_context, 50);
    let error = at_most(Some(65)).unwrap_err();
    assert_eq!(error.status(), Status::ModelUnsupported);
    assert!(error.message().contains("sliding_window"), "{error}");
}
