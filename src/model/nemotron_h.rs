//! Nemotron-H (NVIDIA 2025, arXiv:2504.03624) and Nemotron 3: every layer is one mixer behind an RMS norm,
//! a Mamba-2 layer, attention without positions, a squared-ReLU feed-forward layer or experts, in the order
//! that `hybrid_override_pattern` spells.

use super::arch::Family;
use super::decoder::{self, Design};
use super::tensors::{ExpertNames, Part};
use super::{HybridExperts, LayerKind, MambaConfig, ModelConfig};

pub(super) const FAMILY: Family = Family {
    name: "nemotron_h",
    // As in the reference; those of the layers' own sizes are asked for where they are read.
    required: &["num_key_value_heads", "max_position_embeddings", "attention_bias", "mlp_bias"],
    always_windowed: false,
    parts,
    #[cfg(feature = "mlx")]
    load: forward::load,
};

fn parts(config: &ModelConfig, tied: bool) -> Vec<Part> {
    let Some(hybrid) = &config.hybrid else { return Vec::new() };
    let hidden = config.hidden_size;
    let mut parts = vec![Part::matrix("backbone.embeddings", config.vocab_size, hidden, false)];
    for (layer, kind) in hybrid.kinds.iter().enumerate() {
        let module = format!("backbone.layers.{layer}.mixer");
        parts.push(Part::norm(&format!("backbone.layers.{layer}.norm"), hidden));
        parts.extend(match kind {
            LayerKind::Mamba => mamba_parts(&hybrid.mamba, hidden, &module),
            LayerKind::Attention => decoder::attention_parts(config, design(config), &module),
            LayerKind::Mlp => mlp_parts(config, config.intermediate_size, &module),
            LayerKind::Experts => {
                hybrid.experts.iter().flat_map(|e| expert_parts(config, e, &module)).collect()
            }
        });
    }
    parts.push(Part::norm("backbone.norm_f", hidden));
    if !tied {
        parts.push(Part::matrix("lm_head", config.vocab_size, hidden, false));
    }
    parts
}

/// Attention's.
fn design(config: &ModelConfig) -> Design {
    let bias = config.attention_bias;
    Design { qkv_bias: bias, output_bias: bias, ..Design::default() }
}

fn mamba_parts(mamba: &MambaConfig, hidden: usize, module: &str) -> Vec<Part> {
    let at = |name: &str| format!("{module}.{name}");
    let vector = |name: &str, len| Part::Vector { name: at(name), len };
    let (channels, kernel) = (mamba.channels(), mamba.conv_kernel);
    // MLX's order of axes, then Hugging Face's.
    let shapes = vec![vec![channels, kernel, 1], vec![channels, 1, kernel]];
    let mut parts = vec![
        Part::matrix(&at("in_proj"), mamba.projection(), hidden, mamba.proj_bias),
        Part::Floats { name: at("conv1d.weight"), shapes },
        vector("dt_bias", mamba.heads),
        vector("A_log", mamba.heads),
        vector("D", mamba.heads),
        Part::norm(&at("norm"), mamba.inner()),
        Part::matrix(&at("out_proj"), hidden, mamba.inner(), mamba.proj_bias),
    ];
    if mamba.conv_bias {
        parts.push(vector("conv1d.bias", channels));
    }
    parts
}

fn mlp_parts(config: &ModelConfig, width: usize, module: &str) -> Vec<Part> {
    vec![
        Part::matrix(&format!("{module}.up_proj"), width, config.hidden_size, config.mlp_bias),
        Part::matrix(&format!("{module}.down_proj"), config.hidden_size, width, config.mlp_bias),
    ]
}

fn expert_parts(config: &ModelConfig, own: &HybridExperts, module: &str) -> Vec<Part> {
    let at = |name: &str| format!("{module}.{name}");
    let (hidden, experts) = (config.hidden_size, own.routing.experts);
    let inner = own.latent_width.unwrap_or(hidden);
    let [up, down] = expert_names(module);
    let mut parts = vec![
        Part::matrix(&at("gate"), experts, hidden, false),
        Part::Vector { name: at("gate.e_score_correction_bias"), len: experts },
        Part::Experts { names: up, experts, rows: own.width, columns: inner },
        Part::Experts { names: down, experts, rows: inner, columns: own.width },
    ];
    if let Some(width) = own.shared_width {
        parts.extend(mlp_parts(config, width, &at("shared_experts")));
    }
    if let Some(width) = own.latent_width {
        parts.push(Part::matrix(&at("fc1_latent_proj"), width, hidden, config.mlp_bias));
        parts.push(Part::matrix(&at("fc2_latent_proj"), hidden, width, config.mlp_bias));
    }
    parts
}

/// The projections of a layer's experts: up, down.
fn expert_names(module: &str) -> [ExpertNames; 2] {
    [("fc1", "up_proj"), ("fc2", "down_proj")].map(|(stacked, projection)| {
        let stacked = format!("{module}.switch_mlp.{stacked}");
        ExpertNames::new(stacked, format!("{module}.experts"), projection)
    })
}

#[cfg(feature = "mlx")]
mod forward {
    use super::super::batch::Batch;
    use super::super::layers::{
        Activation, Attention, Ends, Experts, FeedForward, Linear, Mamba, MambaWeights, RmsNorm, Rope,
        Router, SquaredReluMlp,
    };
    use super::super::weights::Weights;
    use super::super::{HybridExperts, LayerKind, MambaConfig, Model, ModelConfig};
    use super::expert_names;
    use crate::cache::pages::Pages;
    use crate::cache::states::StateShape;
    use crate::error::{Error, Result};
    use crate::mlx::Array;

    /// Such a model with its weights.
    struct NemotronH {
        ends: Ends,
        layers: Vec<(RmsNorm, Mixer)>,
    }

    enum Mixer {
        Mamba(Box<Mamba>),
        Attention(Box<Attention>),
        FeedForward(Box<dyn FeedForward>),
    }

    /// Loads it.
    pub fn load(config: &ModelConfig, weights: &mut Weights, tied: bool) -> Result<Box<dyn Model>> {
        let hybrid = config.hybrid.as_ref().ok_or_else(|| Error::internal("no layer kinds"))?;
        let (eps, rope) = (config.rms_norm_eps, Rope::absent(config, weights.kernels()));
        let ends = weights.ends(["backbone.embeddings", "backbone.norm_f"], eps, tied, rope)?;
        let mut layers = Vec::with_capacity(config.layers);
        // Layers with pages and layers with states are numbered on their own.
        let (mut paged, mut recurrent) = (0, 0);
        for (layer, &kind) in hybrid.kinds.iter().enumerate() {
            let norm = weights.norm(&format!("backbone.layers.{layer}.norm"), eps)?;
            let at = |name: &str| format!("backbone.layers.{layer}.mixer.{name}");
            layers.push((
                norm,
                match kind {
                    LayerKind::Mamba => {
                        recurrent += 1;
                        Mixer::Mamba(Box::new(mamba(config, &hybrid.mamba, recurrent - 1, weights, &at)?))
                    }
                    LayerKind::Attention => {
                        paged += 1;
                        Mixer::Attention(Box::new(attention(config, paged - 1, weights, &at)?))
                    }
                    LayerKind::Mlp => Mixer::FeedForward(Box::new(mlp(weights, &at(""))?)),
                    LayerKind::Experts => {
                        let own = hybrid.experts.as_ref().ok_or_else(|| Error::internal("no experts"))?;
                        Mixer::FeedForward(Box::new(experts(own, weights, &at)?))
                    }
                },
            ));
        }
        Ok(Box::new(NemotronH { ends, layers }))
    }

    fn attention(
        config: &ModelConfig,
        number: usize,
        weights: &mut Weights,
        at: &dyn Fn(&str) -> String,
    ) -> Result<Attention> {
        let qkv = weights.linear(&["q_proj", "k_proj", "v_proj"].map(at))?;
        let output = weights.linear(&[at("o_proj")])?;
        Ok(Attention::new(config, number, qkv, None, output, weights.kernels()))
    }

    /// The one whose tensors' names begin with `prefix`.
    fn mlp(weights: &mut Weights, prefix: &str) -> Result<SquaredReluMlp> {
        let up = weights.linear(&[format!("{prefix}up_proj")])?;
        let down = weights.linear(&[format!("{prefix}down_proj")])?;
        SquaredReluMlp::new(up, down, weights.dtype())
    }

    /// Experts that a token goes to, between projections to and from their width if they have one of their own,
    /// and one that every token goes to.
    struct ExpertMixer {
        router: Router,
        experts: Experts,
        latent: Option<(Linear, Linear)>,
        shared: Option<SquaredReluMlp>,
    }

    impl FeedForward for ExpertMixer {
        fn forward_onto(&self, x: &Array, residual: &Array) -> Result<Array> {
            let routes = self.router.forward(x)?;
            let onto = match &self.shared {
                Some(shared) => &shared.forward_onto(x, residual)?,
                None => residual,
            };
            match &self.latent {
                Some((to, from)) => from.forward_onto(&self.experts.forward(&to.forward(x)?, &routes)?, onto),
                None => Ok(mlx_rs::ops::add(onto, self.experts.forward(x, &routes)?)?),
            }
        }
    }

    fn experts(
        own: &HybridExperts,
        weights: &mut Weights,
        at: &dyn Fn(&str) -> String,
    ) -> Result<ExpertMixer> {
        let [up, down] = expert_names(at("").trim_end_matches('.'));
        let correction = at("gate.e_score_correction_bias");
        let router = weights.router(&at("gate"), Some(&correction), &own.routing)?;
        let experts = weights.experts(&[up], &down, Activation::Relu2)?;
        let latent = match own.latent_width {
            Some(_) => {
                Some((weights.linear(&[at("fc1_latent_proj")])?, weights.linear(&[at("fc2_latent_proj")])?))
            }
            None => None,
        };
        let shared = match own.shared_width {
            Some(_) => Some(mlp(weights, &at("shared_experts."))?),
            None => None,
        };
        Ok(ExpertMixer { router, experts, latent, shared })
    }

    fn mamba(
        model: &ModelConfig,
        config: &MambaConfig,
        number: usize,
        weights: &mut Weights,
        at: &dyn Fn(&str) -> String,
    ) -> Result<Mamba> {
        let projections = (weights.linear(&[at("in_proj")])?, weights.linear(&[at("out_proj")])?);
        // Either order of axes has a channel's taps next to each other.
        let taps = weights.float32(&at("conv1d.weight"))?;
        let taps = taps.reshape(&[config.channels() as i32, -1])?.transpose_axes(&[1, 0])?;
        let own = MambaWeights {
            taps: taps.contiguous()?,
            bias: config.conv_bias.then(|| weights.float32(&at("conv1d.bias"))).transpose()?,
            dt_bias: weights.float32(&at("dt_bias"))?,
            a_log: weights.float32(&at("A_log"))?,
            d: weights.float32(&at("D"))?,
            norm: weights.float32(&at("norm.weight"))?,
        };
        let on_gpu = weights.kernels().on_gpu();
        Mamba::new(config, number, projections, own, (model.rms_norm_eps, weights.dtype(), on_gpu))
    }

    impl Model for NemotronH {
        fn forward(&self, tokens: &Array, batch: &Batch, pages: &mut Pages) -> Result<Array> {
            let mut x = self.ends.embedding.forward(tokens)?;
            for (norm, mixer) in &self.layers {
                let normed = norm.forward(&x)?;
                x = match mixer {
                    Mixer::Mamba(mamba) => mamba.forward_onto(&normed, &x, batch, pages)?,
                    Mixer::Attention(layer) => {
                        layer.forward_onto(&normed, &x, batch, &self.ends.rope, pages)?
                    }
                    Mixer::FeedForward(layer) => layer.forward_onto(&normed, &x)?,
                };
            }
            Ok(x)
        }

        fn ends(&self) -> &Ends {
            &self.ends
        }

        fn state_shape(&self) -> Option<StateShape> {
            self.layers.iter().find_map(|(_, mixer)| match mixer {
                Mixer::Mamba(mamba) => Some(mamba.state_shape()),
                _ => None,
            })
        }
    }
}
