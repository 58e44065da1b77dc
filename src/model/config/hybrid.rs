//! Models whose layers differ in kind: attention, Mamba-2, feed-forward, experts.

use super::Routing;
use crate::error::{Error, Result};

/// What one layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// A Mamba-2 mixer.
    Mamba,
    /// Attention.
    Attention,
    /// A feed-forward layer.
    Mlp,
    /// A layer of experts.
    Experts,
}

impl LayerKind {
    /// Of a letter of `hybrid_override_pattern`.
    pub(super) fn from_letter(letter: &str) -> Option<LayerKind> {
        match letter {
            "M" => Some(LayerKind::Mamba),
            "*" => Some(LayerKind::Attention),
            "-" => Some(LayerKind::Mlp),
            "E" => Some(LayerKind::Experts),
            _ => None,
        }
    }

    /// Of an entry of `layers_block_type` or `layer_types`, in old and new spellings.
    pub(super) fn from_name(name: &str) -> Option<LayerKind> {
        match name {
            "mamba" | "conv" | "linear_attention" => Some(LayerKind::Mamba),
            "attention" | "full_attention" => Some(LayerKind::Attention),
            "mlp" => Some(LayerKind::Mlp),
            "moe" => Some(LayerKind::Experts),
            _ => None,
        }
    }
}

/// A hybrid model's layers and what the kinds beside attention need.
#[derive(Debug, Clone, PartialEq)]
pub struct HybridConfig {
    /// Every layer's kind, in order.
    pub kinds: Vec<LayerKind>,
    /// Sizes of the Mamba-2 mixers.
    pub mamba: MambaConfig,
    /// The layers of experts, if there are any.
    pub experts: Option<HybridExperts>,
}

impl HybridConfig {
    /// How many layers are of this kind.
    pub fn count(&self, kind: LayerKind) -> usize {
        self.kinds.iter().filter(|&&k| k == kind).count()
    }

    /// Refuses sizes that contradict each other, naming the field; `largest` bounds any size.
    pub(super) fn validate(&self, largest: usize) -> Result<()> {
        self.mamba.validate(largest)?;
        let Some(experts) = &self.experts else { return Ok(()) };
        experts.routing.validate("n_routed_experts")?;
        let widths = [
            ("moe_intermediate_size", experts.width),
            ("moe_shared_expert_intermediate_size", experts.shared_width.unwrap_or(1)),
            ("moe_latent_size", experts.latent_width.unwrap_or(1)),
        ];
        for (field, size) in widths {
            if size == 0 || size > largest {
                return Err(Error::model(format!("'{field}' is {size}, want 1 to {largest}")));
            }
        }
        Ok(())
    }
}

/// A hybrid model's layers of experts: squared-ReLU layers of which a token sees a few, and one that every
/// token sees.
#[derive(Debug, Clone, PartialEq)]
pub struct HybridExperts {
    /// How a token's experts are chosen.
    pub routing: Routing,
    /// Width of one expert.
    pub width: usize,
    /// Width of the expert that every token sees; `None` if there is none.
    pub shared_width: Option<usize>,
    /// Width that the chosen experts' input is projected to, and their output from; `None` if it is not.
    pub latent_width: Option<usize>,
}

/// Sizes of a Mamba-2 mixer.
#[derive(Debug, Clone, PartialEq)]
pub struct MambaConfig {
    /// Heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Groups of heads that share their B and C; divides `heads`.
    pub groups: usize,
    /// Width of the state of one channel.
    pub state_size: usize,
    /// Tokens the convolution sees, at least 2.
    pub conv_kernel: usize,
    /// Least and largest time step.
    pub time_step_limit: (f32, f32),
    /// Whether the projections have biases.
    pub proj_bias: bool,
    /// Whether the convolution has one.
    pub conv_bias: bool,
}

impl MambaConfig {
    /// Width of all heads.
    pub fn inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Channels of the convolution: x, then B and C of every group.
    pub fn channels(&self) -> usize {
        self.inner() + 2 * self.groups * self.state_size
    }

    /// Outputs of the input projection: gate, convolution's channels, time steps.
    pub fn projection(&self) -> usize {
        self.inner() + self.channels() + self.heads
    }

    /// The limits, if they can change a time step: it is never below zero anyway.
    pub fn limits_that_matter(&self) -> Option<(f32, f32)> {
        let (least, most) = self.time_step_limit;
        (least > 0.0 || most.is_finite()).then_some((least, most))
    }

    /// Bytes of one sequence's state in one layer; the convolution's inputs are of `element_bytes`.
    pub fn state_bytes(&self, element_bytes: usize) -> usize {
        4 * self.inner() * self.state_size + element_bytes * (self.conv_kernel - 1) * self.channels()
    }

    /// Refuses sizes that contradict each other, naming the field.
    pub(super) fn validate(&self, most: usize) -> Result<()> {
        let sizes = [
            ("mamba_num_heads", self.heads),
            ("mamba_head_dim", self.head_dim),
            ("n_groups", self.groups),
            ("ssm_state_size", self.state_size),
            ("conv_kernel", self.conv_kernel),
        ];
        for (field, size) in sizes {
            if size == 0 || size > most {
                return Err(Error::model(format!("'{field}' is {size}, want 1 to {most}")));
            }
        }
        if !self.heads.is_multiple_of(self.groups) {
            let (heads, groups) = (self.heads, self.groups);
            return Err(Error::model(format!(
                "'n_groups' is {groups}, which does not divide 'mamba_num_heads' ({heads})"
            )));
        }
        if !(2..=16).contains(&self.conv_kernel) {
            return Err(Error::model(format!("'conv_kernel' is {}, want 2 to 16", self.conv_kernel)));
        }
        let widest = self.heads.saturating_mul(self.head_dim).saturating_mul(self.state_size);
        let channels = self.groups.saturating_mul(self.state_size).saturating_mul(4);
        if widest.max(channels) > most {
            return Err(Error::model(format!(
                "a state of {} heads of {} by {} is too large",
                self.heads, self.head_dim, self.state_size
            )));
        }
        let (least, most) = self.time_step_limit;
        if !(least >= 0.0 && most > least) {
            return Err(Error::model(format!("'time_step_limit' is [{least}, {most}], want a range")));
        }
        Ok(())
    }
}
