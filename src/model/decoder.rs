//! What Llama and its relatives share: blocks of attention and feed-forward, each fed the normed residual stream
//! and added to it (Touvron et al. 2023, arXiv:2302.13971). A family's file says what differs, as a [`Design`].

use super::ModelConfig;
use super::config::RopeScaling;
use super::tensors::Part;

/// What tells one of these families from another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Design {
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether attention's output projection has one.
    pub output_bias: bool,
    /// Whether each query and each key head is normalized before it is rotated.
    pub head_norms: bool,
    /// Whether the feed-forward projections have biases.
    pub mlp_bias: bool,
}

/// Every part of a decoder whose feed-forward layers are gated MLPs.
pub(super) fn parts(config: &ModelConfig, design: Design, tied: bool) -> Vec<Part> {
    let mlp = |_, module: &str| mlp_parts(config, design, module);
    parts_with(config, design, tied, &mlp)
}

/// Every part of a decoder. `feed_forward` gives those of a layer's feed-forward, from the layer's number and the
/// module's name (`model.layers.3.mlp`).
pub(super) fn parts_with(
    config: &ModelConfig,
    design: Design,
    tied: bool,
    feed_forward: &dyn Fn(usize, &str) -> Vec<Part>,
) -> Vec<Part> {
    let hidden = config.hidden_size;
    let mut parts = vec![Part::matrix("model.embed_tokens", config.vocab_size, hidden, false)];
    for layer in 0..config.layers {
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        parts.push(Part::norm(&at("input_layernorm"), hidden));
        parts.extend(attention_parts(config, design, &at("self_attn")));
        parts.push(Part::norm(&at("post_attention_layernorm"), hidden));
        parts.extend(feed_forward(layer, &at("mlp")));
    }
    parts.push(Part::norm("model.norm", hidden));
    if !tied {
        parts.push(Part::matrix("lm_head", config.vocab_size, hidden, false));
    }
    if config.rope.scaling == RopeScaling::Tensor {
        parts.push(Part::Vector { name: "rope_freqs.weight".into(), len: config.head_dim / 2 });
    }
    parts
}

/// The parts of an attention module of this name.
pub(super) fn attention_parts(config: &ModelConfig, design: Design, module: &str) -> Vec<Part> {
    let (hidden, dim) = (config.hidden_size, config.head_dim);
    let (queries, keys) = (config.heads * dim, config.kv_heads * dim);
    let at = |name: &str| format!("{module}.{name}");
    let mut parts = vec![
        Part::matrix(&at("q_proj"), queries, hidden, design.qkv_bias),
        Part::matrix(&at("k_proj"), keys, hidden, design.qkv_bias),
        Part::matrix(&at("v_proj"), keys, hidden, design.qkv_bias),
        Part::matrix(&at("o_proj"), hidden, queries, design.output_bias),
    ];
    if design.head_norms {
        parts.extend([Part::norm(&at("q_norm"), dim), Part::norm(&at("k_norm"), dim)]);
    }
    parts
}

/// The parts of a gated MLP of this name.
pub(super) fn mlp_parts(config: &ModelConfig, design: Design, module: &str) -> Vec<Part> {
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    let at = |name: &str| format!("{module}.{name}");
    vec![
        Part::matrix(&at("gate_proj"), wide, hidden, design.mlp_bias),
        Part::matrix(&at("up_proj"), wide, hidden, design.mlp_bias),
        Part::matrix(&at("down_proj"), hidden, wide, design.mlp_bias),
    ]
}

#[cfg(feature = "mlx")]
mod forward {
    use super::super::batch::Batch;
    use super::super::layers::{Attention, Ends, FeedForward, GatedMlp, HeadNorms, RmsNorm, Rope};
    use super::super::weights::Weights;
    use super::super::{Model, ModelConfig};
    use super::Design;
    use crate::cache::pages::Pages;
    use crate::error::Result;
    use crate::mlx::Array;

    /// A decoder with its weights.
    struct Decoder {
        ends: Ends,
        layers: Vec<Layer>,
    }

    struct Layer {
        input_norm: RmsNorm,
        attention: Attention,
        feed_forward_norm: RmsNorm,
        feed_forward: Box<dyn FeedForward>,
    }

    /// Loads a layer's feed-forward, from the layer's number and the module's name.
    pub type LoadFeedForward<'a> = dyn Fn(&mut Weights, usize, &str) -> Result<Box<dyn FeedForward>> + 'a;

    /// Loads a decoder whose feed-forward layers are gated MLPs.
    pub fn load(
        config: &ModelConfig,
        design: Design,
        weights: &mut Weights,
        tied: bool,
    ) -> Result<Box<dyn Model>> {
        load_with(config, design, weights, tied, &|weights, _, module| {
            Ok(Box::new(load_mlp(weights, module)?))
        })
    }

    /// Loads a decoder of the parts that [`parts_with`](super::parts_with) lists.
    pub fn load_with(
        config: &ModelConfig,
        design: Design,
        weights: &mut Weights,
        tied: bool,
        feed_forward: &LoadFeedForward,
    ) -> Result<Box<dyn Model>> {
        let eps = config.rms_norm_eps;
        let factors = weights.values("rope_freqs.weight")?;
        let rope = Rope::new(config, factors.as_deref(), weights.kernels());
        let ends = weights.ends(["model.embed_tokens", "model.norm"], eps, tied, rope)?;
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let at = |name: &str| format!("model.layers.{layer}.{name}");
            layers.push(Layer {
                input_norm: weights.norm(&at("input_layernorm"), eps)?,
                attention: load_attention(config, design, weights, layer, &at("self_attn"))?,
                feed_forward_norm: weights.norm(&at("post_attention_layernorm"), eps)?,
                feed_forward: feed_forward(weights, layer, &at("mlp"))?,
            });
        }
        Ok(Box::new(Decoder { ends, layers }))
    }

    /// Loads the attention module of this name; `layer` is the number of its pages.
    pub fn load_attention(
        config: &ModelConfig,
        design: Design,
        weights: &mut Weights,
        layer: usize,
        module: &str,
    ) -> Result<Attention> {
        let at = |name: &str| format!("{module}.{name}");
        let qkv = weights.linear(&["q_proj", "k_proj", "v_proj"].map(at))?;
        let output = weights.linear(&[at("o_proj")])?;
        let norms = match design.head_norms {
            true => {
                let queries = weights.vector(&at("q_norm.weight"))?;
                let keys = weights.vector(&at("k_norm.weight"))?;
                Some(HeadNorms::new(config, &queries, &keys, weights.kernels())?)
            }
            false => None,
        };
        Ok(Attention::new(config, layer, qkv, norms, output, weights.kernels()))
    }

    /// Loads the gated MLP of this name.
    pub fn load_mlp(weights: &mut Weights, module: &str) -> Result<GatedMlp> {
        let at = |name: &str| format!("{module}.{name}");
        let gate_up = weights.linear(&[at("gate_proj"), at("up_proj")])?;
        let down = weights.linear(&[at("down_proj")])?;
        Ok(GatedMlp::new(gate_up, down, weights.kernels()))
    }

    impl Model for Decoder {
        fn forward(&self, tokens: &Array, batch: &Batch, pages: &mut Pages) -> Result<Array> {
            let mut x = self.ends.embedding.forward(tokens)?;
            for layer in &self.layers {
                let normed = layer.input_norm.forward(&x)?;
                x = layer.attention.forward_onto(&normed, &x, batch, &self.ends.rope, pages)?;
                let normed = layer.feed_forward_norm.forward(&x)?;
                x = layer.feed_forward.forward_onto(&normed, &x)?;
            }
            Ok(x)
        }

        fn ends(&self) -> &Ends {
            &self.ends
        }
    }
}

#[cfg(feature = "mlx")]
pub(super) use forward::{load, load_mlp, load_with};
