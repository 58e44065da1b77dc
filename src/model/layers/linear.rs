//! Matrices, dense or quantized, and linear layers made of them.

use mlx_rs::ops;

use crate::error::{Error, Result};
use crate::kernels::gpu::{GpuKernels, Groups, Packed, QuantizedProduct};
use crate::mlx::{self, Array, Dtype, Packing};
use crate::model::{QuantMode, QuantParams};

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
    /// Packed elements with a scale per group, and a bias where the mode has one.
    Quantized {
        /// `[rows, columns * bits / 32]`, unsigned 32-bit.
        weight: Array,
        /// `[rows, columns / group_size]`.
        scales: Array,
        /// `[rows, columns / group_size]`, for affine elements.
        biases: Option<Array>,
        /// How it is packed.
        params: QuantParams,
        /// Kernels of ours for a GPU that may multiply it.
        gpu: Option<GpuKernels>,
        /// Those for a CPU that multiply it, and the same memory as they want it; else MLX's.
        #[cfg(quire_host_op)]
        host: Option<(HostKernels, HostMatrix)>,
    },
}

/// Which matrices of a stack rows are multiplied with.
pub enum Chosen<'a> {
    /// Rows `[.., 1, columns]` with those that experts, of their leading shape or one it broadcasts to, name:
    /// `[.., 1, rows]`.
    Each(&'a Array),
    /// The same, where experts never fall.
    Sorted(&'a Array),
    /// Rows `[n, columns]`, each with as many as there are pairs for it: `[pairs, rows]`. Only for a stack that
    /// [`takes_groups`](Matrix::takes_groups).
    Grouped(&'a Groups),
}

impl Matrix {
    /// From floats.
    pub fn dense(weight: Array) -> Result<Matrix> {
        let transposed = weight.swap_axes(-1, -2)?;
        Ok(Matrix::Dense { weight, transposed })
    }

    /// From packed elements, scales and (if they are affine) biases.
    pub fn quantized(weight: Array, scales: Array, biases: Option<Array>, params: QuantParams) -> Matrix {
        Matrix::Quantized {
            weight,
            scales,
            biases,
            params,
            gpu: None,
            #[cfg(quire_host_op)]
            host: None,
        }
    }

    /// The same, multiplied by our own kernels if they take it. Evaluates it then.
    pub fn with_kernels(self, kernels: &Kernels) -> Result<Matrix> {
        #[cfg(quire_host_op)]
        if let (Kernels::Host(host), Matrix::Quantized { weight, scales, biases: Some(biases), params, .. }) =
            (kernels, &self)
            && kernels.take(*params)
        {
            let matrix = HostMatrix::new(weight, scales, biases, params.bits, params.group_size)?;
            let [weight, scales, biases] = [weight, scales, biases].map(Array::clone);
            let (biases, host) = (Some(biases), Some((host.clone(), matrix)));
            return Ok(Matrix::Quantized { weight, scales, biases, params: *params, gpu: None, host });
        }
        Ok(match (self, kernels.gpu()) {
            (Matrix::Quantized { weight, scales, biases, params, .. }, Some(own)) => Matrix::Quantized {
                weight,
                scales,
                biases,
                params,
                gpu: Some(own.clone()),
                #[cfg(quire_host_op)]
                host: None,
            },
            (other, _) => other,
        })
    }

    /// The kernel of ours for a GPU that multiplies rows of this type, and the matrix as it wants it.
    fn product(&self, dtype: Dtype) -> Option<(&QuantizedProduct, Packed<'_>)> {
        let Matrix::Quantized { weight, scales, biases: Some(biases), params, gpu: Some(gpu), .. } = self
        else {
            return None;
        };
        let packed = Packed { weight, scales, biases };
        let product = gpu.product((params.bits, params.group_size))?;
        (params.mode == QuantMode::Affine && product.takes(dtype, packed)).then_some((product, packed))
    }

    /// `x` `[n, columns]` times the transpose: `[n, rows]`.
    pub fn multiply(&self, x: &Array) -> Result<Array> {
        if let Some((product, packed)) = self.product(x.dtype()) {
            return product.multiply(x, packed);
        }
        Ok(match self {
            #[cfg(quire_host_op)]
            Matrix::Quantized { host: Some((kernels, matrix)), .. } => kernels.multiply(x, matrix, None)?,
            Matrix::Dense { transposed, .. } => ops::matmul(x, transposed)?,
            Matrix::Quantized { weight, scales, biases, params, .. } => {
                mlx::quantized_matmul(x, weight, scales, biases.as_ref(), packing(*params))?
            }
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

    /// Whether rows of this type can be multiplied [`Chosen::Grouped`].
    pub fn takes_groups(&self, dtype: Dtype) -> bool {
        self.product(dtype).is_some()
    }

    /// Of a stack: rows times the transposes of the matrices that are chosen for them.
    pub fn gather(&self, x: &Array, chosen: &Chosen<'_>) -> Result<Array> {
        let (experts, sorted) = match (chosen, self.product(x.dtype())) {
            (Chosen::Grouped(groups), Some((product, packed))) => return product.grouped(x, packed, groups),
            (Chosen::Grouped(_), None) => return Err(Error::internal("a stack that takes no groups")),
            (Chosen::Each(experts), Some((product, packed))) => return product.gather(x, packed, experts),
            (Chosen::Each(experts), None) => (*experts, false),
            (Chosen::Sorted(experts), _) => (*experts, true),
        };
        Ok(match self {
            Matrix::Dense { transposed, .. } => ops::gather_mm(x, transposed, None, experts, sorted)?,
            Matrix::Quantized { weight, scales, biases, params, .. } => {
                let biases = biases.as_ref();
                mlx::gather_qmm(x, weight, scales, biases, packing(*params), experts, sorted)?
            }
        })
    }

    /// The matrix, or a stack as one matrix with all rows below each other, as our own CPU kernels want it;
    /// `None` if they do not take it. Evaluates it.
    #[cfg(quire_host_op)]
    pub(super) fn on_host(&self, kernels: &Kernels) -> Result<Option<HostMatrix>> {
        let Matrix::Quantized { weight, scales, biases: Some(biases), params, .. } = self else {
            return Ok(None);
        };
        if !kernels.take(*params) {
            return Ok(None);
        }
        let below = |part: &Array| part.reshape(&[-1, part.dim(-1)]);
        let (weight, scales, biases) = (below(weight)?, below(scales)?, below(biases)?);
        HostMatrix::new(&weight, &scales, &biases, params.bits, params.group_size).map(Some)
    }

    /// Rows `indices` `[n]`, as floats `[n, columns]` of this type.
    pub fn take_rows(&self, indices: &Array, dtype: Dtype) -> Result<Array> {
        Ok(match self {
            Matrix::Dense { weight, .. } => weight.take_axis(indices, 0)?.as_dtype(dtype)?,
            #[cfg(quire_host_op)]
            Matrix::Quantized { host: Some((kernels, matrix)), .. } => kernels.take_rows(indices, matrix)?,
            Matrix::Quantized { weight, scales, biases, params, .. } => {
                let (weight, scales) = (weight.take_axis(indices, 0)?, scales.take_axis(indices, 0)?);
                let biases = biases.as_ref().map(|biases| biases.take_axis(indices, 0)).transpose()?;
                mlx::dequantize(&weight, &scales, biases.as_ref(), packing(*params), dtype)?
            }
        })
    }

    /// Every array it holds memory with.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Matrix::Dense { weight, .. } => vec![weight],
            Matrix::Quantized { weight, scales, biases, .. } => {
                [weight, scales].into_iter().chain(biases).collect()
            }
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
                Ok(match (part(0)?, part(1)?) {
                    (Some(weight), Some(scales)) => {
                        Some(Matrix::quantized(weight, scales, part(2)?, *params))
                    }
                    _ => None,
                })
            }
        }
    }
}

/// The same for MLX.
pub(crate) fn packing(params: QuantParams) -> Packing {
    // Checked to be small when they were read.
    Packing { group_size: params.group_size as i32, bits: params.bits as i32, mode: params.mode.c_name() }
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
