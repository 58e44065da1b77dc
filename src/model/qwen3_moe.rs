//! Qwen3 MoE: a Qwen3 whose feed-forward layers are, in all or some layers, many experts of which each token
//! goes to a few. (Yang et al. 2025, arXiv:2505.09388.)

use super::arch::Family;
use super::decoder;
use super::tensors::{ExpertNames, Part};
use super::{ModelConfig, MoeConfig, qwen3};

pub(super) const FAMILY: Family = Family {
    name: "qwen3_moe",
    required: &[
        "num_key_value_heads",
        "head_dim",
        "rope_theta",
        "max_position_embeddings",
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "norm_topk_prob",
    ],
    always_windowed: false,
    parts,
    #[cfg(feature = "mlx")]
    load: forward::load,
};

fn parts(config: &ModelConfig, tied: bool) -> Vec<Part> {
    let design = qwen3::design(config);
    decoder::parts_with(config, design, tied, &|layer, module| match experts_of(config, layer) {
        Some(moe) => expert_parts(moe, config.hidden_size, module),
        None => decoder::mlp_parts(config, design, module),
    })
}

/// The experts of a layer, if it has any.
fn experts_of(config: &ModelConfig, layer: usize) -> Option<&MoeConfig> {
    config.moe.as_ref().filter(|moe| moe.is_sparse(layer))
}

fn expert_parts(moe: &MoeConfig, hidden: usize, module: &str) -> Vec<Part> {
    let (experts, width) = (moe.routing.experts, moe.intermediate_size);
    let [gate, up, down] = names(module);
    let part = |names, rows, columns| Part::Experts { names, experts, rows, columns };
    vec![
        Part::matrix(&format!("{module}.gate"), experts, hidden, false),
        part(gate, width, hidden),
        part(up, width, hidden),
        part(down, hidden, width),
    ]
}

/// The projections of a layer's experts: gate, up, down.
fn names(module: &str) -> [ExpertNames; 3] {
    ["gate_proj", "up_proj", "down_proj"].map(|projection| {
        let stacked = format!("{module}.switch_mlp.{projection}");
        ExpertNames::new(stacked, format!("{module}.experts"), projection)
    })
}

#[cfg(feature = "mlx")]
mod forward {
    use super::super::layers::{Activation, ExpertLayer, FeedForward};
    use super::super::weights::Weights;
    use super::super::{Model, ModelConfig, MoeConfig, decoder, qwen3};
    use super::{experts_of, names};
    use crate::error::Result;

    pub fn load(config: &ModelConfig, weights: &mut Weights, tied: bool) -> Result<Box<dyn Model>> {
        let design = qwen3::design(config);
        decoder::load_with(config, design, weights, tied, &|weights, layer, module| {
            Ok(match experts_of(config, layer) {
                Some(moe) => Box::new(load_experts(moe, weights, module)?) as Box<dyn FeedForward>,
                None => Box::new(decoder::load_mlp(weights, module)?),
            })
        })
    }

    fn load_experts(moe: &MoeConfig, weights: &mut Weights, module: &str) -> Result<ExpertLayer> {
        let [gate, up, down] = names(module);
        let router = weights.router(&format!("{module}.gate"), None, &moe.routing)?;
        Ok(ExpertLayer::new(router, weights.experts(&[gate, up], &down, Activation::SwiGlu)?))
    }
}
