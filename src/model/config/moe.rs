//! Mixture of experts: how many, how big, and how a token's are chosen.

use super::json::Fields;
use crate::error::{Error, Result};

/// More experts than any published layer has; keeps sizes inside 64 bits.
const MAX_EXPERTS: usize = 4096;

/// What the scores that choose experts are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// The softmax over all experts (Qwen3 MoE).
    Softmax,
    /// The router's outputs as they are; the weights are the softmax over the chosen (Mixtral).
    SoftmaxOfChosen,
    /// The sigmoid of each, in float32; a correction may be added for the choice alone (DeepSeek-V3,
    /// arXiv:2412.19437; Nemotron-H).
    Sigmoid,
}

/// How a layer chooses experts for a token and weights what they give.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// How many experts there are.
    pub experts: usize,
    /// How many of them a token goes to.
    pub per_token: usize,
    /// What chooses them.
    pub scoring: Scoring,
    /// Groups of equal size that experts fall into, in order; 1 if the choice is not limited by group.
    pub groups: usize,
    /// Groups that a token's experts may come from: those whose two best scores have the largest sum.
    pub groups_used: usize,
    /// Whether the weights of the chosen are divided by their sum.
    pub normalize: bool,
    /// The weights are multiplied by this at last.
    pub scale: f32,
}

impl Routing {
    /// Refuses numbers that contradict each other, naming the field; `experts_field` is what the family
    /// calls the number of experts.
    pub fn validate(&self, experts_field: &str) -> Result<()> {
        let Routing { experts, per_token, groups, groups_used, .. } = *self;
        if experts == 0 || experts > MAX_EXPERTS {
            return Err(Error::model(format!("'{experts_field}' is {experts}, want 1 to {MAX_EXPERTS}")));
        }
        if per_token == 0 || per_token > experts {
            return Err(Error::model(format!(
                "'num_experts_per_tok' is {per_token}, want 1 to '{experts_field}' ({experts})"
            )));
        }
        if groups == 0 || !experts.is_multiple_of(groups) {
            return Err(Error::model(format!(
                "'n_group' is {groups}, which does not divide '{experts_field}' ({experts})"
            )));
        }
        if groups_used == 0 || groups_used > groups {
            return Err(Error::model(format!(
                "'topk_group' is {groups_used}, want 1 to 'n_group' ({groups})"
            )));
        }
        let size = experts / groups;
        if groups > 1 && size < 2 {
            return Err(Error::model(format!(
                "'n_group' is {groups}: a group of {experts} experts must have at least two"
            )));
        }
        if per_token > groups_used * size {
            return Err(Error::model(format!(
                "'num_experts_per_tok' is {per_token}, but 'topk_group' ({groups_used}) groups have {} experts",
                groups_used * size
            )));
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(Error::model(format!(
                "'routed_scaling_factor' is {}, want a positive number",
                self.scale
            )));
        }
        Ok(())
    }
}

/// The expert layers of a Qwen3 MoE.
#[derive(Debug, Clone, PartialEq)]
pub struct MoeConfig {
    /// How a token's experts are chosen.
    pub routing: Routing,
    /// Width of one expert.
    pub intermediate_size: usize,
    /// Layers that have a plain feed-forward layer instead.
    pub mlp_only_layers: Vec<usize>,
    /// Every how many layers one has experts.
    pub sparse_step: usize,
}

impl MoeConfig {
    /// Reads the fields of a `qwen3_moe`. What would change the output silently must be there.
    pub(super) fn from_fields(fields: &Fields<'_>) -> Result<MoeConfig> {
        Ok(MoeConfig {
            routing: Routing {
                experts: fields.required("num_experts")?,
                per_token: fields.required("num_experts_per_tok")?,
                scoring: Scoring::Softmax,
                groups: 1,
                groups_used: 1,
                normalize: fields.required("norm_topk_prob")?,
                scale: 1.0,
            },
            intermediate_size: fields.required("moe_intermediate_size")?,
            mlp_only_layers: fields.optional("mlp_only_layers")?.unwrap_or_default(),
            sparse_step: fields.optional("decoder_sparse_step")?.unwrap_or(1),
        })
    }

    /// Refuses sizes that contradict each other, naming the field; `largest` bounds any size.
    pub(super) fn validate(&self, largest: usize) -> Result<()> {
        self.routing.validate("num_experts")?;
        // Gate and up projections are held as one matrix.
        if self.intermediate_size == 0 || self.intermediate_size > largest / 2 {
            return Err(Error::model(format!(
                "'moe_intermediate_size' is {}, want 1 to {}",
                self.intermediate_size,
                largest / 2
            )));
        }
        if self.sparse_step == 0 {
            return Err(Error::model("'decoder_sparse_step' is 0, want at least 1"));
        }
        Ok(())
    }

    /// Whether this layer has experts.
    pub fn is_sparse(&self, layer: usize) -> bool {
        !self.mlp_only_layers.contains(&layer) && (layer + 1).is_multiple_of(self.sparse_step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouped() -> Routing {
        Routing {
            experts: 16,
            per_token: 4,
            scoring: Scoring::Sigmoid,
            groups: 4,
            groups_used: 2,
            normalize: true,
            scale: 2.5,
        }
    }

    #[test]
    fn contradictions_name_the_field() {
        grouped().validate("n_routed_experts").unwrap();
        let bad = [
            ("'n_routed_experts' is 0", Routing { experts: 0, ..grouped() }),
            ("'num_experts_per_tok' is 17", Routing { per_token: 17, ..grouped() }),
            ("'num_experts_per_tok' is 0", Routing { per_token: 0, ..grouped() }),
            ("'n_group' is 3, which does not divide", Routing { groups: 3, ..grouped() }),
            ("'n_group' is 0", Routing { groups: 0, ..grouped() }),
            ("'n_group' is 16", Routing { groups: 16, ..grouped() }),
            ("'topk_group' is 5", Routing { groups_used: 5, ..grouped() }),
            ("'topk_group' is 0", Routing { groups_used: 0, ..grouped() }),
            ("groups have 4 experts", Routing { groups_used: 1, per_token: 5, ..grouped() }),
            ("'routed_scaling_factor' is NaN", Routing { scale: f32::NAN, ..grouped() }),
        ];
        for (words, routing) in bad {
            let e = routing.validate("n_routed_experts").unwrap_err();
            assert!(e.message().contains(words), "{words:?} is not in: {e}");
        }
    }
}
