//! Llama: grouped-query attention with rotary positions, gated SiLU feed-forward, RMS norms.
//! (Touvron et al. 2023, arXiv:2302.13971; Llama 3's rope scaling in `config::rope`.)

use super::tensors::Part;
use super::{ModelConfig, RopeScaling};

/// Every tensor a llama checkpoint must have.
pub(super) fn parts(config: &ModelConfig, tied: bool) -> Vec<Part> {
    let hidden = config.hidden_size;
    let matrix = |module: String, rows, columns, bias| Part::Matrix { module, rows, columns, bias };
    let norm = |module: &str| Part::Vector { name: format!("{module}.weight"), len: hidden };
    let queries = config.heads * config.head_dim;
    let keys = config.kv_heads * config.head_dim;

    let mut parts = vec![matrix("model.embed_tokens".into(), config.vocab_size, hidden, false)];
    for layer in 0..config.layers {
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        let (attention, mlp) = (config.attention_bias, config.mlp_bias);
        parts.extend([
            norm(&at("input_layernorm")),
            matrix(at("self_attn.q_proj"), queries, hidden, attention),
            matrix(at("self_attn.k_proj"), keys, hidden, attention),
            matrix(at("self_attn.v_proj"), keys, hidden, attention),
            matrix(at("self_attn.o_proj"), hidden, queries, attention),
            norm(&at("post_attention_layernorm")),
            matrix(at("mlp.gate_proj"), config.intermediate_size, hidden, mlp),
            matrix(at("mlp.up_proj"), config.intermediate_size, hidden, mlp),
            matrix(at("mlp.down_proj"), hidden, config.intermediate_size, mlp),
        ]);
    }
    parts.push(norm("model.norm"));
    if !tied {
        parts.push(matrix("lm_head".into(), config.vocab_size, hidden, false));
    }
    if config.rope.scaling == RopeScaling::Tensor {
        parts.push(Part::Vector { name: "rope_freqs.weight".into(), len: config.head_dim / 2 });
    }
    parts
}

#[cfg(feature = "mlx")]
mod forward {
    use super::super::batch::Batch;
    use super::super::layers::{Attention, Embedding, GatedMlp, Matrix, RmsNorm, Rope};
    use super::super::weights::Weights;
    use super::super::{Model, ModelConfig};
    use crate::cache::pages::Pages;
    use crate::error::Result;
    use crate::mlx::{Array, Dtype};

    /// A llama with its weights.
    pub struct Llama {
        embedding: Embedding,
        layers: Vec<Layer>,
        norm: RmsNorm,
        output: Matrix,
        rope: Rope,
        dtype: Dtype,
        dense: bool,
    }

    struct Layer {
        input_norm: RmsNorm,
        attention: Attention,
        mlp_norm: RmsNorm,
        mlp: GatedMlp,
    }

    impl Llama {
        /// Loads it.
        pub fn load(config: &ModelConfig, weights: &mut Weights, tied: bool) -> Result<Llama> {
            let kernels = weights.kernels().clone();
            let embedding = weights.embedding("model.embed_tokens")?;
            let mut layers = Vec::with_capacity(config.layers);
            for layer in 0..config.layers {
                let at = |name: &str| format!("model.layers.{layer}.{name}");
                let qkv = ["q_proj", "k_proj", "v_proj"].map(|name| at(&format!("self_attn.{name}")));
                let qkv = weights.linear(&qkv)?;
                let output = weights.linear(&[at("self_attn.o_proj")])?;
                let gate_up = weights.linear(&[at("mlp.gate_proj"), at("mlp.up_proj")])?;
                let down = weights.linear(&[at("mlp.down_proj")])?;
                layers.push(Layer {
                    input_norm: weights.norm(&at("input_layernorm"), config.rms_norm_eps)?,
                    attention: Attention::new(config, layer, qkv, output, &kernels),
                    mlp_norm: weights.norm(&at("post_attention_layernorm"), config.rms_norm_eps)?,
                    mlp: GatedMlp::new(gate_up, down, &kernels),
                });
            }
            let output = if tied { embedding.matrix().clone() } else { weights.output("lm_head")? };
            let factors = weights.values("rope_freqs.weight")?;
            Ok(Llama {
                embedding,
                layers,
                norm: weights.norm("model.norm", config.rms_norm_eps)?,
                output,
                rope: Rope::new(config, factors.as_deref(), &kernels),
                dtype: weights.dtype(),
                dense: weights.is_dense(),
            })
        }
    }

    impl Model for Llama {
        fn forward(&self, tokens: &Array, batch: &Batch, pages: &mut Pages) -> Result<Array> {
            let mut x = self.embedding.forward(tokens)?;
            for layer in &self.layers {
                let normed = layer.input_norm.forward(&x)?;
                x = layer.attention.forward_onto(&normed, &x, batch, &self.rope, pages)?;
                let normed = layer.mlp_norm.forward(&x)?;
                x = layer.mlp.forward_onto(&normed, &x)?;
            }
            Ok(x)
        }

        fn logits(&self, hidden: &Array, rows: &Array) -> Result<Array> {
            self.output.multiply(&self.norm.forward(&hidden.take_axis(rows, 0)?)?)
        }

        fn rope(&self) -> &Rope {
            &self.rope
        }

        fn dtype(&self) -> Dtype {
            self.dtype
        }

        fn is_dense(&self) -> bool {
            self.dense
        }
    }
}

#[cfg(feature = "mlx")]
pub use forward::Llama;
