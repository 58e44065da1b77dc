//! What a GGUF file's header says, in the terms of a `config.json` and of `safetensors` names.
//!
//! The keys are those of <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::BTreeMap;

use super::gguf::unpack::GROUP;
use super::gguf::{Gguf, GgufType};
use super::tensors::{ElementType, TensorIndex, TensorInfo};
use super::{Architecture, ModelConfig, QuantParams, Quantization, RopeConfig, RopeScaling};
use crate::error::{Error, Result};

/// The model's configuration.
///
/// Errors: `ModelInvalid` naming the file and the key; `ModelUnsupported` naming the architecture or
/// feature.
pub fn config(gguf: &Gguf) -> Result<ModelConfig> {
    read_config(gguf).map_err(|e| e.within(gguf.path().display()))
}

fn read_config(gguf: &Gguf) -> Result<ModelConfig> {
    let meta = gguf.metadata();
    let name = meta.str("general.architecture")?;
    let architecture = Architecture::from_model_type(name)?;
    if architecture == Architecture::NemotronH {
        return Err(Error::unsupported(format!(
            "'general.architecture' is \"{name}\", which is read from safetensors only"
        )));
    }
    let key = |suffix: &str| format!("{name}.{suffix}");
    let size = |suffix: &str| meta.u64(&key(suffix)).map(to_size);
    let find = |suffix: &str| meta.find_u64(&key(suffix)).map(|n| n.map(to_size));

    if find("expert_count")?.unwrap_or(0) > 0 {
        return Err(Error::unsupported(format!(
            "'{}' is set: mixtures of experts are not supported",
            key("expert_count")
        )));
    }
    let hidden_size = size("embedding_length")?;
    let heads = size("attention.head_count")?;
    let head_dim = match find("attention.key_length")? {
        Some(head_dim) => head_dim,
        None if heads > 0 && hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            let message =
                format!("'{}' ({heads}) does not divide {hidden_size}", key("attention.head_count"));
            return Err(Error::model(message));
        }
    };
    for suffix in ["attention.value_length", "rope.dimension_count"] {
        let own = find(suffix)?.unwrap_or(head_dim);
        if own != head_dim {
            let message = format!("'{}' is {own}, want the head's width ({head_dim})", key(suffix));
            return Err(Error::unsupported(message));
        }
    }
    let embedding = gguf.tensors().iter().find(|t| t.name == "token_embd.weight");
    let vocab_size = match embedding {
        Some(tensor) => tensor.shape.first().copied().unwrap_or(0),
        None => return Err(Error::model("tensor 'token_embd.weight' is missing")),
    };
    let has = |suffix: &str| gguf.tensors().iter().any(|t| t.name.ends_with(suffix));
    ModelConfig {
        architecture,
        hidden_size,
        layers: size("block_count")?,
        heads,
        kv_heads: find("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        intermediate_size: size("feed_forward_length")?,
        vocab_size,
        rms_norm_eps: meta.f32(&key("attention.layer_norm_rms_epsilon"))?,
        rope: rope(gguf, name)?,
        tie_word_embeddings: None,
        attention_bias: has(".attn_q.bias"),
        mlp_bias: has(".ffn_gate.bias"),
        moe: None,
        max_position_embeddings: size("context_length")?,
        sliding_window: find("attention.sliding_window")?.filter(|&window| window > 0),
        bos_token_id: token(gguf, "bos_token_id")?,
        eos_token_ids: eos(gguf)?,
        quantization: quantization(gguf),
        hybrid: None,
    }
    .validate()
}

fn rope(gguf: &Gguf, name: &str) -> Result<RopeConfig> {
    let meta = gguf.metadata();
    let key = |suffix: &str| format!("{name}.rope.{suffix}");
    let number = |suffix: &str| meta.find_f32(&key(suffix)).map(|x| x.map(f64::from));
    let required = |suffix: &str| meta.f32(&key(suffix)).map(f64::from);
    let theta = number("freq_base")?.unwrap_or(10_000.0);
    if gguf.tensors().iter().any(|t| t.name == ROPE_FREQS) {
        return Ok(RopeConfig { theta, scaling: RopeScaling::Tensor });
    }
    let scaling = match meta.find_str(&key("scaling.type"))? {
        None | Some("none") => match number("scale_linear")? {
            None | Some(1.0) => RopeScaling::None,
            Some(factor) => RopeScaling::Linear { factor },
        },
        Some("linear") => RopeScaling::Linear { factor: required("scaling.factor")? },
        Some("yarn") => {
            let factor = required("scaling.factor")?;
            let original = meta.u64(&key("scaling.original_context_length"))?;
            RopeScaling::Yarn {
                factor,
                original_context: original as f64,
                beta_fast: number("scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: number("scaling.yarn_beta_slow")?.unwrap_or(1.0),
                attention_factor: number("scaling.attn_factor")?.unwrap_or(1.0)
                    * (1.0 + 0.1 * factor.max(1.0).ln()),
            }
        }
        Some(other) => {
            let message = format!("'{}' is \"{other}\", want none, linear or yarn", key("scaling.type"));
            return Err(Error::unsupported(message));
        }
    };
    Ok(RopeConfig { theta, scaling })
}

/// Llama 3's frequency factors.
const ROPE_FREQS: &str = "rope_freqs.weight";

/// A special token's id, if the file names it.
fn token(gguf: &Gguf, name: &str) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}");
    match gguf.metadata().find_u64(&key)? {
        None => Ok(None),
        Some(id) => match u32::try_from(id) {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(Error::model(format!("'{key}' is {id}, which is no token"))),
        },
    }
}

/// End of text, and end of turn where it is another token.
fn eos(gguf: &Gguf) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for name in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        if let Some(id) = token(gguf, name)?
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// How a block type unpacks.
fn quant_params(kind: GgufType) -> Option<QuantParams> {
    match kind {
        GgufType::Q4_0 | GgufType::Q4_1 => Some(QuantParams::affine(GROUP, 4)),
        GgufType::Q8_0 => Some(QuantParams::affine(GROUP, 8)),
        _ => None,
    }
}

/// The setting most modules have, and the modules that differ.
fn quantization(gguf: &Gguf) -> Option<Quantization> {
    let modules: BTreeMap<String, Option<QuantParams>> = gguf
        .tensors()
        .iter()
        .filter(|t| t.shape.len() == 2)
        .filter_map(|t| {
            let name = checkpoint_name(&t.name);
            Some((name.strip_suffix(".weight")?.to_owned(), quant_params(t.kind)))
        })
        .collect();
    let count = |params: QuantParams| modules.values().filter(|&&p| p == Some(params)).count();
    let default = modules.values().flatten().copied().max_by_key(|&params| count(params))?;
    let overrides = modules.into_iter().filter(|(_, params)| *params != Some(default)).collect();
    Some(Quantization { default, overrides })
}

/// The tensors the file unpacks to, under their `safetensors` names: a quantized one becomes packed
/// weights, scales and biases.
///
/// Errors: `ModelInvalid` or `ModelUnsupported`, naming the file and the tensor.
pub fn tensors(gguf: &Gguf) -> Result<TensorIndex> {
    gguf.check_supported()?;
    let mut index = TensorIndex::default();
    let file = index.add_file(gguf.path());
    for tensor in gguf.tensors() {
        let name = checkpoint_name(&tensor.name);
        let mut add = |name: String, element: ElementType, shape: Vec<usize>| {
            let (offset, bytes) = (tensor.offset, tensor.bytes);
            index.add(name, TensorInfo { element, shape, file, offset, bytes })
        };
        let Some(QuantParams { group_size, bits, .. }) = quant_params(tensor.kind) else {
            let element = match tensor.kind {
                GgufType::F32 => ElementType::F32,
                GgufType::F16 => ElementType::F16,
                GgufType::Bf16 => ElementType::Bf16,
                other => ElementType::Other(other.to_string()),
            };
            add(name, element, tensor.shape.clone())?;
            continue;
        };
        let module = name.strip_suffix(".weight").unwrap_or(&name).to_owned();
        let with_last = |f: &dyn Fn(usize) -> usize| {
            let mut shape = tensor.shape.clone();
            if let Some(last) = shape.last_mut() {
                *last = f(*last);
            }
            shape
        };
        let groups = with_last(&|columns| columns / group_size);
        add(name, ElementType::U32, with_last(&|columns| columns * bits / 32))?;
        add(format!("{module}.scales"), ElementType::F16, groups.clone())?;
        add(format!("{module}.biases"), ElementType::F16, groups)?;
    }
    Ok(index)
}

/// The `safetensors` name of a GGUF tensor; names this library does not know stay as they are.
pub fn checkpoint_name(name: &str) -> String {
    let renamed = || {
        let (rest, leaf) = name.rsplit_once('.')?;
        let module = match rest {
            "token_embd" => "model.embed_tokens".to_owned(),
            "output_norm" => "model.norm".to_owned(),
            "output" => "lm_head".to_owned(),
            _ => {
                let (layer, module) = rest.strip_prefix("blk.")?.split_once('.')?;
                let module = BLOCK_MODULES.iter().find(|(gguf, _)| *gguf == module)?.1;
                format!("model.layers.{layer}.{module}")
            }
        };
        Some(format!("{module}.{leaf}"))
    };
    renamed().unwrap_or_else(|| name.to_owned())
}

/// Whether GGUF files of this family store this tensor's rows permuted, each head's pairs interleaved: those of
/// llamas do, Mistral (which calls itself `llama` there) included.
pub fn is_permuted(architecture: Architecture, checkpoint_name: &str) -> bool {
    if !matches!(architecture, Architecture::Llama | Architecture::Mistral) {
        return false;
    }
    checkpoint_name.contains(".self_attn.q_proj.") || checkpoint_name.contains(".self_attn.k_proj.")
}

/// A block's modules: GGUF's name, the `safetensors` name.
const BLOCK_MODULES: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

fn to_size(n: u64) -> usize {
    // Too large becomes larger still, which `validate` refuses.
    usize::try_from(n).unwrap_or(usize::MAX)
}
