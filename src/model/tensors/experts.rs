//! Weights of expert layers, in the two forms that checkpoints have them.

use super::{Check, QuantParams};
use crate::error::Result;

/// What one projection of a layer's experts is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertNames {
    /// The module that holds all experts' as one, as MLX's converters write it: `{stacked}.weight` is
    /// `[experts, rows, columns]`.
    pub stacked: String,
    /// Where the experts are one by one, as Hugging Face's checkpoints have them:
    /// `{list}.{expert}.{projection}.weight` is `[rows, columns]`.
    pub list: String,
    /// The projection's name there.
    pub projection: String,
}

impl ExpertNames {
    /// From the module that stacks, the module that lists, and the projection's name in the list.
    pub fn new(stacked: impl Into<String>, list: impl Into<String>, projection: &str) -> ExpertNames {
        ExpertNames { stacked: stacked.into(), list: list.into(), projection: projection.to_owned() }
    }

    /// The module of one expert in the list.
    pub fn one(&self, expert: usize) -> String {
        format!("{}.{expert}.{}", self.list, self.projection)
    }
}

impl Check<'_> {
    /// The projection of all experts, in either form; its quantization if it is packed.
    pub(super) fn experts(
        &mut self,
        names: &ExpertNames,
        experts: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Option<QuantParams>> {
        let in_list = self.index.has_under(&format!("{}.", names.list));
        if self.index.has(&format!("{}.weight", names.stacked)) || !in_list {
            return self.matrix(&names.stacked, &[experts, rows], columns);
        }
        let first = self.matrix(&names.one(0), &[rows], columns)?;
        for expert in 1..experts {
            let own = self.matrix(&names.one(expert), &[rows], columns)?;
            if own != first {
                return Err(self.differ(names, expert));
            }
            for part in ["weight", "scales"] {
                let element = |expert| {
                    let info = self.index.get(&format!("{}.{part}", names.one(expert)));
                    info.map(|info| &info.element)
                };
                if element(expert) != element(0) {
                    return Err(self.differ(names, expert));
                }
            }
        }
        Ok(first)
    }

    /// The error that experts are stored in different ways: they are held, and multiplied, as one.
    fn differ(&self, names: &ExpertNames, expert: usize) -> crate::error::Error {
        let (first, other) = (names.one(0), names.one(expert));
        self.index.error(0, format!("'{other}' is stored in another format than '{first}'"))
    }
}
