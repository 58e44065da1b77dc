//! What `config.json` of Nemotron-H has beside the usual fields.

use serde_json::Value;

use super::json::Fields;
use super::{HybridConfig, HybridExperts, LayerKind, MambaConfig, Routing, Scoring};
use crate::error::{Error, Result};

/// Layers of several kinds, and the sizes of each.
pub(super) fn hybrid(fields: &Fields) -> Result<HybridConfig> {
    for (field, want) in [("mlp_hidden_act", "relu2"), ("mamba_hidden_act", "silu")] {
        if let Some(act) = fields.optional::<String>(field)?
            && act != want
        {
            return Err(Error::unsupported(format!("'{field}' is \"{act}\", want \"{want}\"")));
        }
    }
    let kinds = kinds(fields)?;
    let mamba = MambaConfig {
        heads: fields.required("mamba_num_heads")?,
        head_dim: fields.required("mamba_head_dim")?,
        groups: fields.required("n_groups")?,
        state_size: fields.required("ssm_state_size")?,
        conv_kernel: fields.required("conv_kernel")?,
        time_step_limit: time_step_limit(fields)?,
        proj_bias: fields.required("mamba_proj_bias")?,
        conv_bias: fields.required("use_conv_bias")?,
    };
    let experts = match kinds.contains(&LayerKind::Experts) {
        true => Some(experts(fields)?),
        false => None,
    };
    Ok(HybridConfig { kinds, mamba, experts })
}

fn experts(fields: &Fields) -> Result<HybridExperts> {
    let per_token = fields.required("num_experts_per_tok")?;
    let shared: Option<usize> = fields.optional("n_shared_experts")?;
    let shared_width = match shared {
        None => None,
        Some(_) => Some(match fields.optional("moe_shared_expert_intermediate_size")? {
            Some(width) => width,
            None => fields.required("intermediate_size")?,
        }),
    };
    Ok(HybridExperts {
        routing: Routing {
            experts: fields.required("n_routed_experts")?,
            per_token,
            scoring: Scoring::Sigmoid,
            groups: fields.required("n_group")?,
            groups_used: fields.required("topk_group")?,
            // One alone keeps its own weight.
            normalize: fields.required("norm_topk_prob")? && per_token > 1,
            scale: fields.required("routed_scaling_factor")?,
        },
        width: fields.required("moe_intermediate_size")?,
        shared_width,
        latent_width: fields.optional("moe_latent_size")?,
    })
}

/// `hybrid_override_pattern`, a string or a list of letters; else a list of names.
fn kinds(fields: &Fields) -> Result<Vec<LayerKind>> {
    let (field, kinds) = match fields.optional::<Value>("hybrid_override_pattern")? {
        Some(Value::String(pattern)) => {
            let letters = pattern.chars().map(String::from).collect();
            ("hybrid_override_pattern", read(letters, "hybrid_override_pattern", LayerKind::from_letter)?)
        }
        Some(_) => {
            let letters = fields.required("hybrid_override_pattern")?;
            ("hybrid_override_pattern", read(letters, "hybrid_override_pattern", LayerKind::from_letter)?)
        }
        None => {
            let named = ["layers_block_type", "layer_types"].into_iter().find(|name| fields.has(name));
            let Some(field) = named else {
                return Err(Error::model("required field 'hybrid_override_pattern' is missing"));
            };
            (field, read(fields.required(field)?, field, LayerKind::from_name)?)
        }
    };
    if kinds.is_empty() {
        return Err(Error::model(format!("'{field}' names no layer")));
    }
    if let Some(layers) = fields.optional::<usize>("num_hidden_layers")?
        && layers != kinds.len()
    {
        return Err(Error::model(format!(
            "'{field}' names {} layers, but 'num_hidden_layers' is {layers}",
            kinds.len()
        )));
    }
    Ok(kinds)
}

fn read(entries: Vec<String>, field: &str, of: fn(&str) -> Option<LayerKind>) -> Result<Vec<LayerKind>> {
    let kind = |(i, entry): (usize, &String)| {
        of(entry).ok_or_else(|| {
            Error::unsupported(format!("'{field}' names layer {i} \"{entry}\", which is not supported"))
        })
    };
    entries.iter().enumerate().map(kind).collect()
}

/// `[least, most]`; a missing bound does not bind.
fn time_step_limit(fields: &Fields) -> Result<(f32, f32)> {
    let limits: Option<Vec<Option<f32>>> = fields.optional("time_step_limit")?;
    match limits.as_deref() {
        None => Ok((0.0, f32::INFINITY)),
        Some([least, most]) => Ok((least.unwrap_or(0.0), most.unwrap_or(f32::INFINITY))),
        Some(other) => Err(Error::model(format!("'time_step_limit' has {} numbers, want 2", other.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ModelConfig;
    use super::*;
    use crate::error::Status;
    use serde_json::json;

    fn with(changes: Value) -> Result<ModelConfig> {
        let mut config = json!({
            "model_type": "nemotron_h", "hidden_size": 64, "intermediate_size": 96, "vocab_size": 100,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "num_hidden_layers": 4,
            "max_position_embeddings": 512, "hybrid_override_pattern": "MM*-", "layer_norm_epsilon": 1e-5,
            "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 2,
            "conv_kernel": 4, "mamba_proj_bias": false, "use_conv_bias": true, "mlp_hidden_act": "relu2",
            "attention_bias": false, "mlp_bias": false,
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        ModelConfig::from_json(&config.to_string())
    }

    #[test]
    fn layers_by_pattern_list_and_names() {
        use LayerKind::{Attention, Mamba, Mlp};
        let config = with(json!({})).unwrap();
        let hybrid = config.hybrid.clone().unwrap();
        assert_eq!(hybrid.kinds, [Mamba, Mamba, Attention, Mlp]);
        assert_eq!((config.layers, config.page_layers(), config.recurrent_layers()), (4, 1, 2));
        // x of 8 heads of 16, B and C of 2 groups of 16.
        assert_eq!((hybrid.mamba.inner(), hybrid.mamba.channels()), (128, 192));
        assert_eq!(config.state_bytes(2), 2 * (4 * 128 * 16 + 2 * 3 * 192));
        let list = with(json!({"hybrid_override_pattern": ["M", "M", "*", "-"]})).unwrap();
        assert_eq!(list.hybrid, config.hybrid);
        for field in ["layers_block_type", "layer_types"] {
            let names = ["mamba", "linear_attention", "attention", "mlp"];
            let named = with(json!({"hybrid_override_pattern": null, field: names})).unwrap();
            assert_eq!(named.hybrid, config.hybrid);
        }
    }

    #[test]
    fn experts() {
        let base = json!({
            "hybrid_override_pattern": "ME*-", "moe_intermediate_size": 48, "n_routed_experts": 8,
            "moe_shared_expert_intermediate_size": 80, "n_shared_experts": 1, "num_experts_per_tok": 2,
            "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 2.5,
        });
        let changed = |field: &str, value: Value| {
            let mut changes = base.clone();
            changes[field] = value;
            with(changes)
        };
        let read =
            |field: &str, value: Value| changed(field, value).unwrap().hybrid.unwrap().experts.unwrap();
        let own = read("moe_latent_size", json!(null));
        assert_eq!((own.width, own.shared_width, own.latent_width), (48, Some(80), None));
        assert!(own.routing.normalize && own.routing.scale == 2.5);
        assert_eq!(read("moe_latent_size", json!(24)).latent_width, Some(24));
        assert_eq!(read("n_shared_experts", json!(null)).shared_width, None);
        assert_eq!(read("moe_shared_expert_intermediate_size", json!(null)).shared_width, Some(96));
        assert!(!read("num_experts_per_tok", json!(1)).routing.normalize);
        for (field, value) in [
            ("n_routed_experts", json!(null)),
            ("norm_topk_prob", json!(null)),
            ("num_experts_per_tok", json!(9)),
            ("moe_intermediate_size", json!(0)),
            ("moe_latent_size", json!(0)),
            ("n_group", json!(3)),
        ] {
            let e = changed(field, value).unwrap_err();
            assert!(e.message().contains(field), "{e}");
        }
    }

    #[test]
    fn time_steps_without_a_limit_are_not_limited() {
        let limit = |value: Value| {
            with(json!({ "time_step_limit": value })).unwrap().hybrid.unwrap().mamba.limits_that_matter()
        };
        assert_eq!(limit(json!(null)), None);
        assert_eq!(limit(json!([0.0, null])), None);
        assert_eq!(limit(json!([0.001, 100.0])), Some((0.001, 100.0)));
        // As published: Python writes what JSON has no word for.
        let text = r#""x": "a \" Infinity", "time_step_limit": [0.0, Infinity], "y": [-Infinity, NaN]"#;
        let plain = super::super::json::without_python_numbers(text);
        assert_eq!(plain, r#""x": "a \" Infinity", "time_step_limit": [0.0, null], "y": [null, null]"#);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let bad = [
            (json!({"hybrid_override_pattern": "MMX-"}), "layer 2 \"X\""),
            (json!({"hybrid_override_pattern": "MM*"}), "names 3 layers, but 'num_hidden_layers' is 4"),
            (json!({"hybrid_override_pattern": "", "num_hidden_layers": null}), "hybrid_override_pattern"),
            (json!({"hybrid_override_pattern": null}), "hybrid_override_pattern"),
            (json!({"hybrid_override_pattern": 3}), "hybrid_override_pattern"),
            (json!({"n_groups": 3}), "n_groups"),
            (json!({"mamba_num_heads": 0}), "mamba_num_heads"),
            (json!({"ssm_state_size": null}), "ssm_state_size"),
            (json!({"conv_kernel": 1}), "conv_kernel"),
            (json!({"mamba_head_dim": 1 << 30}), "mamba_head_dim"),
            (json!({"layer_norm_epsilon": null}), "layer_norm_epsilon"),
            (json!({"time_step_limit": [1.0]}), "time_step_limit"),
            (json!({"time_step_limit": [2.0, 1.0]}), "time_step_limit"),
            (json!({"mlp_hidden_act": "silu"}), "mlp_hidden_act"),
        ];
        for (change, message) in bad {
            let e = with(change.clone()).unwrap_err();
            assert!(matches!(e.status(), Status::ModelInvalid | Status::ModelUnsupported), "{change}: {e}");
            assert!(e.message().contains(message), "{change}: {e}");
        }
    }
}
