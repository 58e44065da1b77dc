//! Expert layers, from either form that checkpoints have them in.

use super::Weights;
use crate::error::{Error, Result};
use crate::mlx::Array;
use crate::model::layers::{Activation, ExpertLinear, Experts, Matrix, Router};
use crate::model::tensors::{ExpertNames, TensorInfo};
use crate::model::{QuantMode, QuantParams, Routing};

impl Weights<'_> {
    /// What chooses a layer's experts: the linear layer `module`, and the vector `correction` if the family
    /// has one.
    pub fn router(&mut self, module: &str, correction: Option<&str>, routing: &Routing) -> Result<Router> {
        let gate = self.linear(&[module.to_owned()])?;
        let correction = match correction {
            Some(name) => {
                let values = self.values(name)?;
                let values = values.ok_or_else(|| Error::internal(format!("'{name}' was not checked")))?;
                Some(Array::from_slice(&values, &[values.len() as i32]))
            }
            None => None,
        };
        Ok(Router::new(gate, correction, routing))
    }

    /// A layer's experts: `up` are the projections in front of the activation (the gate's first, if there is
    /// one), `down` the one behind it.
    pub fn experts(
        &mut self,
        up: &[ExpertNames],
        down: &ExpertNames,
        activation: Activation,
    ) -> Result<Experts> {
        let up = self.expert_linear(up)?;
        let down = self.expert_linear(std::slice::from_ref(down))?;
        Experts::new(up, down, activation, self.dtype, &self.kernels)
    }

    /// One layer that computes, for every expert, what these projections, fed the same input, compute one
    /// after the other.
    fn expert_linear(&mut self, names: &[ExpertNames]) -> Result<ExpertLinear> {
        let parts = match names {
            [first, rest @ ..] if rest.iter().all(|other| self.is_stored_alike(first, other)) => {
                vec![self.expert_stack(names)?]
            }
            _ => {
                names.iter().map(|own| self.expert_stack(std::slice::from_ref(own))).collect::<Result<_>>()?
            }
        };
        let linear = ExpertLinear::new(parts);
        self.keep(linear.arrays())?;
        Ok(linear)
    }

    fn is_stored_alike(&self, a: &ExpertNames, b: &ExpertNames) -> bool {
        let manifest = &self.checkpoint.manifest;
        let element =
            |names: &ExpertNames, kind: &str| self.slice(names, kind, 0).ok().map(|info| info.element);
        manifest.quantized.get(&a.stacked) == manifest.quantized.get(&b.stacked)
            && ["weight", "scales"].iter().all(|kind| element(a, kind) == element(b, kind))
    }

    /// All experts' matrices of these projections, each expert's below each other; not evaluated.
    fn expert_stack(&mut self, names: &[ExpertNames]) -> Result<Matrix> {
        let params = names.first().and_then(|names| self.checkpoint.manifest.quantized.get(&names.stacked));
        let params = params.copied();
        let weight = self.expert_tensor(names, "weight")?;
        let scales = match params {
            Some(_) => Some(self.expert_tensor(names, "scales")?),
            None => None,
        };
        let biases = match params {
            Some(QuantParams { mode: QuantMode::Affine, .. }) => Some(self.expert_tensor(names, "biases")?),
            _ => None,
        };
        self.as_held(weight, scales, biases, params)
    }

    /// One kind of tensor, `[experts, rows of all names, columns]`: read piece by piece into its place.
    fn expert_tensor(&mut self, names: &[ExpertNames], kind: &str) -> Result<Array> {
        let firsts = names.iter().map(|names| self.slice(names, kind, 0)).collect::<Result<Vec<_>>>()?;
        let Some(mut whole) = firsts.first().cloned() else {
            return Err(Error::internal("no projection was named"));
        };
        let experts = self.experts_of(names, kind);
        let rows = firsts.iter().map(|first| first.shape.first().copied().unwrap_or(0)).sum();
        whole.shape = [&[experts, rows], whole.shape.get(1..).unwrap_or(&[])].concat();
        let mut pieces = Vec::with_capacity(experts * names.len());
        for expert in 0..experts {
            for names in names {
                let slice = self.slice(names, kind, expert)?;
                let stack = format!("{}.{kind}", names.stacked);
                let numbers = self.numbers(&stack, &slice.element);
                let name = match self.checkpoint.manifest.index.has(&stack) {
                    true => format!("{stack}[{expert}]"),
                    false => format!("{}.{kind}", names.one(expert)),
                };
                pieces.push(self.piece(&name, &slice, numbers)?);
            }
        }
        self.array(pieces, &whole, kind)
    }

    /// How many experts the checkpoint has of a projection; the check has compared it with the configuration.
    fn experts_of(&self, names: &[ExpertNames], kind: &str) -> usize {
        let Some(names) = names.first() else { return 0 };
        let index = &self.checkpoint.manifest.index;
        match index.get(&format!("{}.{kind}", names.stacked)) {
            Some(stack) => stack.shape.first().copied().unwrap_or(0),
            None => (0..).take_while(|&n| index.has(&format!("{}.{kind}", names.one(n)))).count(),
        }
    }

    /// Where one expert's part lies, `[rows, columns]`: in the stack, or by itself.
    fn slice(&self, names: &ExpertNames, kind: &str, expert: usize) -> Result<TensorInfo> {
        let Some(stack) = self.checkpoint.manifest.index.get(&format!("{}.{kind}", names.stacked)) else {
            return self.info(&format!("{}.{kind}", names.one(expert)));
        };
        let [experts, matrix @ ..] = stack.shape.as_slice() else {
            return Err(Error::internal(format!("'{}.{kind}' is not a stack", names.stacked)));
        };
        let bytes = stack.bytes / (*experts).max(1) as u64;
        let offset = stack.offset + bytes * expert as u64;
        Ok(TensorInfo { shape: matrix.to_vec(), offset, bytes, ..stack.clone() })
    }
}
