//! Matrices, dense or quantized, and linear layers made of them.

use mlx_rs::ops;

use crate::error::Result;
use crate::mlx::{Array, Dtype};
use crate::model::QuantParams;

use super::Kernels;
#[cfg(quire_host_op)]
use crate::kernels::host::{HostKernels, HostMatrix};

/// A weight matrix `[rows, columns]`, or a stack of them, `[experts, rows, columns]`.
#[derive(Clone)]
pub enum Matrix {
    /// Floats, and a view of them transposed.
    Dense {
        /// `[rows, columns]`.
        weight: Array,
        /// `[columns, rows]`, the same memory.
        transposed: Array,
    },
    /// Packed elements with a scale and a bias per group.
    Quantized {
        /// `[rows, columns * bits / 32]`, unsigned 32-bit.
        weight: Array,
        /// `[rows, columns / group_size]`.
        scales: Array,
        /// `[rows, columns / group_size]`.
        biases: Array,
        /// How it is packed.
        params: QuantParams,
        /// The kernels that multiply it, and the same memory as they want it; else MLX's.
        #[cfg(quire_host_op)]
        host: Option<(HostKernels, HostMatrix)>,
    },
}

impl Matrix {
    /// From floats.
    pub fn dense(weight: Array) -> Result<Matrix> {
        let transposed = weight.swap_axes(-1, -2)?;
        Ok(Matrix::Dense { weight, transposed })
    }

    /// From packed elements, scales and biases.
    pub fn quantized(weight: Array, scales: Array, biases: Array, params: QuantParams) -> Matrix {
        Matrix::Quantized {
            weight,
            scales,
            biases,
            params,
            #[cfg(quire_host_op)]
            host: None,
        }
    }

    /// The same, multiplied by our own kernels if they take it. Evaluates it then.
    pub fn with_kernels(self, kernels: &Kernels) -> Result<Matrix> {
        #[cfg(quire_host_op)]
        if let (Kernels::Host(host), Matrix::Quantized { weight, scales, biases, params, .. }) =
            (kernels, &self)
            && HostKernels::take(params.bits, params.group_size)
        {
            let matrix = HostMatrix::new(weight, scales, biases, params.bits, params.group_size)?;
            let [weight, scales, biases] = [weight, scales, biases].map(Array::clone);
            let host = Some((host.clone(), matrix));
            return Ok(Matrix::Quantized { weight, scales, biases, params: *params, host });
        }
        #[cfg(not(quire_host_op))]
        let _ = kernels;
        Ok(self)
    }

    /// `x` `[n, columns]` times the transpose: `[n, rows]`.
    pub fn multiply(&self, x: &Array) -> Result<Array> {
        Ok(match self {
            #[cfg(quire_host_op)]
            Matrix::Quantized { host: Some((kernels, matrix)), .. } => kernels.multiply(x, matrix, None)?,
            Matrix::Dense { transposed, .. } => ops::matmul(x, transposed)?,
            Matrix::Quantized { weight, scales, biases, params, .. } => ops::quantized_matmul(
                x,
                weight,
                scales,
                biases,
                true,
                params.group_size as i32,
                params.bits as i32,
            )?,
        })
    }

    /// `c + x W^T`, with `c` `[n, rows]` or `[rows]`.
    pub fn multiply_add(&self, x: &Array, c: &Array) -> Result<Array> {
        Ok(match self {
            #[cfg(quire_host_op)]
            Matrix::Quantized { host: Some((kernels, matrix)), .. } if c.ndim() == 2 => {
                kernels.multiply(x, matrix, Some(c))?
            }
            Matrix::Dense { transposed, .. } => ops::addmm(c, x, transposed, None, None)?,
            Matrix::Quantized { .. } => ops::add(self.multiply(x)?, c)?,
        })
    }

    /// Of a stack: rows `[.., 1, columns]` times the transposes of the matrices that `experts`, of their
    /// leading shape or one it broadcasts to, names: `[.., 1, rows]`. `sorted`: `experts` never falls.
    pub fn gather(&self, x: &Array, experts: &Array, sorted: bool) -> Result<Array> {
        Ok(match self {
            Matrix::Dense { transposed, .. } => ops::gather_mm(x, transposed, None, experts, sorted)?,
            Matrix::Quantized { weight, scales, biases, params, .. } => ops::gather_qmm(
                x,
                weight,
                scales,
                biases,
                None,
                experts,
                true,
                params.group_size as i32,
                params.bits as i32,
                sorted,
            )?,
        })
    }

    /// The matrix, or a stack as one matrix with all rows below each other, as our own CPU kernels want it;
    /// `None` if they do not take it. Evaluates it.
    #[cfg(quire_host_op)]
    pub(super) fn on_host(&self) -> Result<Option<HostMatrix>> {
        let Matrix::Quantized { weight, scales, biases, params, .. } = self else { return Ok(None) };
        if !HostKernels::take(params.bits, params.group_size) {
            return Ok(None);
        }
        let below = |part: &Array| part.reshape(&[-1, part.dim(-1)]);
        let (weight, scales, biases) = (below(weight)?, below(scales)?, below(biases)?);
        HostMatrix::new(&weight, &scales, &biases, params.bits, params.group_size).map(Some)
    }

    /// Rows `indices` `[n]`, as floats `[n, columns]`.
    pub fn take_rows(&self, indices: &Array) -> Result<Array> {
        Ok(match self {
            Matrix::Dense { weight, .. } => weight.take_axis(indices, 0)?,
            #[cfg(quire_host_op)]
            Matrix::Quantized { host: Some((kernels, matrix)), .. } => kernels.take_rows(indices, matrix)?,
            Matrix::Quantized { weight, scales, biases, params, .. } => {
                let [weight, scales, biases] =
                    [weight, scales, biases].map(|part| part.take_axis(indices, 0));
                ops::dequantize(weight?, scales?, &biases?, params.group_size as i32, params.bits as i32)?
            }
        })
    }

    /// The type its products have.
    pub fn dtype(&self) -> Dtype {
        match self {
            Matrix::Dense { weight, .. } => weight.dtype(),
            Matrix::Quantized { scales, .. } => scales.dtype(),
        }
    }

    /// Every array it holds memory with.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Matrix::Dense { weight, .. } => vec![weight],
            Matrix::Quantized { weight, scales, biases, .. } => vec![weight, scales, biases],
        }
    }

    /// The matrices one below the other, as one matrix; `None` if they are packed differently.
    pub fn stack(parts: &[Matrix]) -> Result<Option<Matrix>> {
        let below = |pick: &dyn Fn(&Matrix) -> Option<Array>| -> Result<Option<Array>> {
            match parts.iter().map(pick).collect::<Option<Vec<Array>>>() {
                Some(arrays) => Ok(Some(ops::concatenate(&arrays, 0)?)),
                None => Ok(None),
            }
        };
        match parts.first() {
            None => Ok(None),
            Some(Matrix::Dense { .. }) => {
                let stacked = below(&|part| match part {
                    Matrix::Dense { weight, .. } => Some(weight.clone()),
                    Matrix::Quantized { .. } => None,
                })?;
                stacked.map(Matrix::dense).transpose()
            }
            Some(Matrix::Quantized { params, .. }) => {
                let same = |part: &Matrix| matches!(part, Matrix::Quantized { params: p, .. } if p == params);
                if !parts.iter().all(same) {
                    return Ok(None);
                }
                let part = |which: usize| below(&move |m| m.arrays().get(which).map(|&a| a.clone()));
                Ok(match (part(0)?, part(1)?, part(2)?) {
                    (Some(weight), Some(scales), Some(biases)) => {
                        Some(Matrix::quantized(weight, scales, biases, *params))
                    }
                    _ => None,
                })
            }
        }
    }
}

/// A linear layer: `x W^T + b`.
pub struct Linear {
    /// One matrix, or several whose outputs follow each other (where they could not be stacked).
    parts: Vec<Matrix>,
    bias: Option<Array>,
}

impl Linear {
    /// One layer computing what `parts`, fed the same input, compute one after the other. `bias` is for
    /// all of them.
    pub fn new(parts: Vec<Matrix>, bias: Option<Array>, kernels: &Kernels) -> Result<Linear> {
        let parts = match parts.len() {
            1 => parts,
            _ => match Matrix::stack(&parts)? {
                Some(stacked) => vec![stacked],
                None => parts,
            },
        };
        let parts = parts.into_iter().map(|part| part.with_kernels(kernels)).collect::<Result<_>>()?;
        Ok(Linear { parts, bias })
    }

    /// `[n, in]` to `[n, out]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        match (self.parts.as_slice(), &self.bias) {
            ([matrix], None) => matrix.multiply(x),
            ([matrix], Some(bias)) => matrix.multiply_add(x, bias),
            (parts, bias) => {
                let outputs = parts.iter().map(|part| part.multiply(x)).collect::<Result<Vec<_>>>()?;
                let joined = ops::concatenate(&outputs, 1)?;
                match bias {
                    Some(bias) => Ok(ops::add(joined, bias)?),
                    None => Ok(joined),
                }
            }
        }
    }

    /// `residual + forward(x)`.
    pub fn forward_onto(&self, x: &Array, residual: &Array) -> Result<Array> {
        match (self.parts.as_slice(), &self.bias) {
            ([matrix], None) => matrix.multiply_add(x, residual),
            _ => Ok(ops::add(self.forward(x)?, residual)?),
        }
    }

    /// Every array it holds memory with.
    pub fn arrays(&self) -> Vec<&Array> {
        self.parts.iter().flat_map(Matrix::arrays).chain(&self.bias).collect()
    }
}
