//! `config.json` of the Hugging Face / MLX layout.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::nemotron;
use super::rope::yarn_magnitude;
use super::{ModelConfig, MoeConfig, QuantMode, QuantParams, Quantization, RopeConfig, RopeScaling};
use crate::error::{Error, Result};
use crate::model::Architecture;

/// Parses and checks the whole file.
pub(super) fn parse(text: &str) -> Result<ModelConfig> {
    let text = without_python_numbers(text);
    let root: Value =
        serde_json::from_str(&text).map_err(|e| Error::model(format!("malformed JSON: {e}")))?;
    let Value::Object(root) = root else {
        return Err(Error::model("the top level is not an object"));
    };
    let fields = Fields { map: &root, prefix: "" };

    let model_type: String = fields.required("model_type")?;
    let architecture = Architecture::from_model_type(&model_type)?;
    let family = architecture.family();
    for name in family.required {
        require(&fields, name)?;
    }
    let hybrid = match architecture {
        Architecture::NemotronH => Some(nemotron::hybrid(&fields)?),
        _ => None,
    };
    refuse_what_we_do_not_run(&fields, hybrid.is_some())?;

    let hidden_size: usize = fields.required("hidden_size")?;
    let heads: usize = fields.required("num_attention_heads")?;
    let max_position_embeddings = fields.optional("max_position_embeddings")?.unwrap_or(2048);
    let head_dim = match fields.optional("head_dim")? {
        Some(head_dim) => head_dim,
        None if heads > 0 && hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            return Err(Error::model(format!(
                "'num_attention_heads' ({heads}) does not divide 'hidden_size' ({hidden_size}), and there \
                 is no 'head_dim'"
            )));
        }
    };
    ModelConfig {
        architecture,
        hidden_size,
        layers: match &hybrid {
            Some(hybrid) => hybrid.kinds.len(),
            None => fields.required("num_hidden_layers")?,
        },
        heads,
        kv_heads: fields.optional("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        intermediate_size: fields.required("intermediate_size")?,
        vocab_size: fields.required("vocab_size")?,
        rms_norm_eps: fields.required(match hybrid {
            Some(_) => "layer_norm_epsilon",
            None => "rms_norm_eps",
        })?,
        // Where layers carry a state, attention does without positions.
        rope: match hybrid {
            Some(_) => RopeConfig { theta: 10_000.0, scaling: RopeScaling::None },
            None => rope(&fields)?,
        },
        // MLX's and Hugging Face's loaders disagree on the default, so the checkpoint decides.
        tie_word_embeddings: fields.optional("tie_word_embeddings")?,
        attention_bias: fields.optional("attention_bias")?.unwrap_or(false),
        mlp_bias: fields.optional("mlp_bias")?.unwrap_or(false),
        max_position_embeddings,
        sliding_window: sliding_window(&fields, family.always_windowed)?,
        bos_token_id: ids(&fields, "bos_token_id")?.first().copied(),
        eos_token_ids: ids(&fields, "eos_token_id")?,
        moe: match architecture {
            Architecture::Qwen3Moe => Some(MoeConfig::from_fields(&fields)?),
            _ => None,
        },
        quantization: quantization(&fields)?,
        hybrid,
    }
    .validate()
}

/// An error if this field is missing; newer files may have it in their `rope_parameters`.
fn require(fields: &Fields, name: &str) -> Result<()> {
    let newer = fields.object("rope_parameters")?;
    if newer.is_some_and(|parameters| parameters.map.contains_key(name)) {
        return Ok(());
    }
    fields.required::<Value>(name).map(drop)
}

/// The text with the numbers that Python writes and JSON does not have (`Infinity`, `-Infinity`, `NaN`)
/// replaced by `null`; published configurations have them.
pub(in crate::model) fn without_python_numbers(text: &str) -> std::borrow::Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !WORDS[1..].iter().any(|word| text.contains(word)) {
        return text.into();
    }
    let (mut out, mut rest, mut quoted) = (String::with_capacity(text.len()), text, false);
    while let Some(next) = rest.chars().next() {
        let word = WORDS.into_iter().find(|word| !quoted && rest.starts_with(word));
        let taken = match (word, next) {
            (Some(word), _) => word.len(),
            (None, '\\') => rest.chars().take(2).map(char::len_utf8).sum(),
            _ => next.len_utf8(),
        };
        quoted ^= next == '"';
        out.push_str(if word.is_some() { "null" } else { &rest[..taken] });
        rest = &rest[taken..];
    }
    out.into()
}

/// Fields that would change the forward pass in ways this library does not follow.
fn refuse_what_we_do_not_run(fields: &Fields, is_hybrid: bool) -> Result<()> {
    if let Some(act) = fields.optional::<String>("hidden_act")?
        && act != "silu"
    {
        return Err(Error::unsupported(format!("'hidden_act' is \"{act}\", want \"silu\"")));
    }
    if is_hybrid {
        return Ok(());
    }
    if fields.optional::<bool>("rope_traditional")?.unwrap_or(false) {
        return Err(Error::unsupported("'rope_traditional' is true; only rotated halves are supported"));
    }
    if fields.optional::<bool>("quantize_activations")?.unwrap_or(false) {
        return Err(Error::unsupported("'quantize_activations' is true; activations stay floats"));
    }
    if let Some(part) = fields.optional::<f64>("partial_rotary_factor")?
        && part != 1.0
    {
        return Err(Error::unsupported(format!("'partial_rotary_factor' is {part}, want 1")));
    }
    let kinds = layer_types(fields)?;
    let known = ["full_attention", SLIDING];
    if let Some(kind) = kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
        let message =
            format!("'layer_types' has \"{kind}\", want {}", known.map(|k| format!("\"{k}\"")).join(" or "));
        return Err(Error::unsupported(message));
    }
    Ok(())
}

/// The `layer_types` of layers that attend to a window.
const SLIDING: &str = "sliding_attention";

fn layer_types(fields: &Fields) -> Result<Vec<String>> {
    Ok(fields.optional("layer_types")?.unwrap_or_default())
}

/// The window some layer attends to, if any does: `use_sliding_window` says so where it is given; else
/// `layer_types`; else, in families where `always` is true, that there is a `sliding_window` at all.
fn sliding_window(fields: &Fields, always: bool) -> Result<Option<usize>> {
    let kinds = layer_types(fields)?;
    let used = match fields.optional::<bool>("use_sliding_window")? {
        Some(used) => used,
        None if kinds.is_empty() => always,
        None => kinds.iter().any(|kind| kind == SLIDING),
    };
    match used {
        true if always && kinds.is_empty() => fields.optional("sliding_window"),
        true => fields.required("sliding_window").map(Some),
        false => Ok(None),
    }
}

/// `rope_theta` and `rope_scaling`, or the `rope_parameters` object that newer files carry instead.
fn rope(fields: &Fields) -> Result<RopeConfig> {
    let newer = fields.object("rope_parameters")?;
    let theta = match &newer {
        Some(parameters) => parameters.optional("rope_theta")?,
        None => None,
    };
    let theta = match theta {
        Some(theta) => theta,
        None => fields.optional("rope_theta")?.unwrap_or(10_000.0),
    };
    let scaling = match (fields.object("rope_scaling")?, &newer) {
        (Some(scaling), _) => rope_scaling(&scaling)?,
        (None, Some(parameters)) => rope_scaling(parameters)?,
        (None, None) => RopeScaling::None,
    };
    Ok(RopeConfig { theta, scaling })
}

fn rope_scaling(fields: &Fields) -> Result<RopeScaling> {
    let kind = match fields.optional::<String>("rope_type")? {
        Some(kind) => kind,
        None => fields.optional("type")?.unwrap_or_else(|| "default".into()),
    };
    match kind.as_str() {
        "default" => Ok(RopeScaling::None),
        "dynamic" => {
            // Only contexts past `max_position_embeddings` would change; the field must be sound.
            let _factor: f64 = fields.required("factor")?;
            Ok(RopeScaling::None)
        }
        "linear" => Ok(RopeScaling::Linear { factor: fields.required("factor")? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: fields.required("factor")?,
            low_freq_factor: fields.optional("low_freq_factor")?.unwrap_or(1.0),
            high_freq_factor: fields.optional("high_freq_factor")?.unwrap_or(4.0),
            original_context: fields.optional("original_max_position_embeddings")?.unwrap_or(8192.0),
        }),
        "yarn" => {
            let factor: f64 = fields.required("factor")?;
            let mscale: Option<f64> = fields.optional("mscale")?;
            let mscale_all: Option<f64> = fields.optional("mscale_all_dim")?;
            let attention_factor = match (fields.optional("attention_factor")?, mscale, mscale_all) {
                (Some(own), _, _) => own,
                (None, Some(m), Some(all)) if m != 0.0 && all != 0.0 => {
                    yarn_magnitude(factor, m) / yarn_magnitude(factor, all)
                }
                _ => yarn_magnitude(factor, 1.0),
            };
            Ok(RopeScaling::Yarn {
                factor,
                original_context: fields.required("original_max_position_embeddings")?,
                beta_fast: fields.optional("beta_fast")?.unwrap_or(32.0),
                beta_slow: fields.optional("beta_slow")?.unwrap_or(1.0),
                attention_factor,
            })
        }
        other => Err(Error::unsupported(format!(
            "'rope_scaling.rope_type' is \"{other}\", want default, linear, dynamic, llama3 or yarn"
        ))),
    }
}

/// `quantization` (MLX's own name) or `quantization_config` (where converters repeat it).
fn quantization(fields: &Fields) -> Result<Option<Quantization>> {
    let (name, map) = match (fields.object("quantization")?, fields.object("quantization_config")?) {
        (Some(own), _) => ("quantization", own),
        (None, Some(copy)) => ("quantization_config", copy),
        (None, None) => return Ok(None),
    };
    if let Some(method) = map.optional::<String>("quant_method")? {
        return Err(Error::unsupported(format!(
            "'{name}.quant_method' is \"{method}\"; only MLX's own quantization is supported"
        )));
    }
    let default = quant_params(&map, name)?;
    let mut overrides = BTreeMap::new();
    for (module, value) in map.map {
        let field = format!("{name}.{module}");
        match value {
            Value::Object(own) => {
                let own = Fields { map: own, prefix: &field };
                overrides.insert(module.clone(), Some(quant_params(&own, &field)?));
            }
            Value::Bool(false) => {
                overrides.insert(module.clone(), None);
            }
            // `true` means the default; the rest are the setting's own fields, read above.
            _ => {}
        }
    }
    Ok(Some(Quantization { default, overrides }))
}

fn quant_params(fields: &Fields, name: &str) -> Result<QuantParams> {
    let mode: String = fields.optional("mode")?.unwrap_or_else(|| "affine".into());
    let Some(mode) = QuantMode::ALL.into_iter().find(|known| known.name() == mode) else {
        let known = QuantMode::ALL.map(QuantMode::name).join(", ");
        return Err(Error::unsupported(format!("'{name}.mode' is \"{mode}\", want one of {known}")));
    };
    let size = |field, only: Option<usize>| match (fields.optional(field)?, only) {
        (Some(own), _) => Ok(own),
        (None, Some(only)) => Ok(only),
        (None, None) => fields.required(field),
    };
    let group_size = size("group_size", mode.only().map(|(group_size, _)| group_size))?;
    let bits = size("bits", mode.only().map(|(_, bits)| bits))?;
    QuantParams { group_size, bits, mode }.validate(name)
}

/// A token id, a list of them, or nothing.
fn ids(fields: &Fields, name: &str) -> Result<Vec<u32>> {
    match fields.map.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(_)) => fields.required(name),
        Some(_) => Ok(vec![fields.required(name)?]),
    }
}

/// An object of the file, with the path to it for messages.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    prefix: &'a str,
}

impl<'a> Fields<'a> {
    /// The field's full name.
    fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// The field's value; an error that names it if it is missing or of another type.
    pub fn required<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.optional(name)?
            .ok_or_else(|| Error::model(format!("required field '{}' is missing", self.path(name))))
    }

    /// The field's value; `None` where it is absent or null.
    pub fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|e| Error::model(format!("field '{}': {e}", self.path(name)))),
        }
    }

    /// Whether the field is there, and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// The field as an object; `None` where it is absent or null.
    fn object(&self, name: &'a str) -> Result<Option<Fields<'a>>> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields { map, prefix: name })),
            Some(_) => Err(Error::model(format!("field '{}' is not an object", self.path(name)))),
        }
    }
}

#[cfg(test)]
mod tests;
