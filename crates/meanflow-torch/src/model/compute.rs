//! How a network is computed, apart from what it computes.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, with_grad};

/// The dtype of the matrix products inside a network.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// That of the parameters.
    #[default]
    F32,
    /// bfloat16, which keeps 8 bits of a number: faster where the processor has units for it.
    ///
    /// It is for the products inside the blocks of a network. Parameters, residuals, norms, the embeddings of the times, the
    /// maps from and to samples and the sums of tangents keep the kind of the parameters. What stays within a branch is
    /// bfloat16 on a CUDA device; on the CPU attention and the results of affine maps keep the kind of the parameters, too.
    Bf16,
}

impl Dtype {
    /// The kind of a product of parameters of kind `master`.
    pub(crate) fn kind(self, master: Kind) -> Kind {
        match self {
            Self::F32 => master,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

/// How a network is computed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Compute {
    /// The dtype of its matrix products.
    pub dtype: Dtype,
    /// Whether blocks keep their inputs only and are computed again for their gradient: less memory, the same gradients,
    /// one more forward pass.
    pub activation_checkpointing: bool,
}

/// A parameter of a matrix product in the dtype of the product.
///
/// The copy is on the tape, so that gradients reach the parameter, and is made anew only when the parameter has changed:
/// once a training step.
#[derive(Debug)]
pub struct Factor {
    parameter: Tensor,
    kind: Kind,
    copy: RefCell<Option<Rounded>>,
}

#[derive(Debug)]
struct Rounded {
    tensor: Tensor,
    version: i64,
}

impl Factor {
    /// The factor of `parameter` in products of kind `kind`.
    pub(crate) fn new(parameter: Tensor, kind: Kind) -> Self {
        let copy = RefCell::new(None);
        Self {
            parameter,
            kind,
            copy,
        }
    }

    /// The kind of what stays within a branch, between one product and the next: that of the product on a CUDA device. On the
    /// CPU, whose kernels between products are in the kind of the parameters, it is that.
    pub(crate) fn branch_kind(&self) -> Kind {
        match self.parameter.device() {
            Device::Cuda(_) => self.kind,
            _ => self.parameter.kind(),
        }
    }

    /// The parameter itself.
    pub(crate) fn parameter(&self) -> &Tensor {
        &self.parameter
    }

    /// The parameter's shape.
    pub(crate) fn size(&self) -> Vec<i64> {
        self.parameter.size()
    }

    /// The parameter in the kind of the product.
    pub(crate) fn value(&self) -> Tensor {
        if self.parameter.kind() == self.kind {
            return self.parameter.shallow_clone();
        }
        let version = self.parameter.internal_version();
        let mut copy = self.copy.borrow_mut();
        let fresh = copy.take().filter(|copy| copy.version == version);
        let fresh = fresh.unwrap_or_else(|| Rounded {
            // Also where a pass without a tape comes first: a later pass of the same step takes gradients.
            tensor: with_grad(|| self.parameter.to_kind(self.kind)),
            version,
        });
        copy.insert(fresh).tensor.shallow_clone()
    }
}

impl Clone for Factor {
    /// Another handle to the same parameter, and to the copy there is.
    fn clone(&self) -> Self {
        let copy = self.copy.borrow();
        let copy = copy.as_ref().map(|copy| Rounded {
            tensor: copy.tensor.shallow_clone(),
            version: copy.version,
        });
        Self {
            parameter: self.parameter.shallow_clone(),
            kind: self.kind,
            copy: RefCell::new(copy),
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::no_grad;

    use super::*;

    fn parameter() -> Tensor {
        Tensor::from_slice(&[1.0_f32, 2.0, 1.003]).set_requires_grad(true)
    }

    #[test]
    fn a_copy_is_made_once_for_every_value() {
        let parameter = parameter();
        let factor = Factor::new(parameter.shallow_clone(), Kind::BFloat16);
        let first = factor.value();
        assert_eq!(first.kind(), Kind::BFloat16);
        assert_eq!(factor.value().data_ptr(), first.data_ptr());
        assert_eq!(factor.clone().value().data_ptr(), first.data_ptr());
        let _ = no_grad(|| parameter.shallow_clone().g_add_scalar_(1.0));
        let second = factor.value();
        assert_ne!(second.data_ptr(), first.data_ptr());
        assert_eq!(second.double_value(&[0]), 2.0);
    }

    #[test]
    fn gradients_reach_the_parameter_from_every_use() {
        let parameter = parameter();
        let factor = Factor::new(parameter.shallow_clone(), Kind::BFloat16);
        // A pass without a tape, then two backward passes through the same copy.
        let _ = no_grad(|| factor.value());
        for _ in 0..2 {
            factor.value().sum(Kind::Float).backward();
        }
        let twice = Tensor::full([3], 2.0, (Kind::Float, Device::Cpu));
        assert_eq!(parameter.grad(), twice);
    }

    #[test]
    fn without_another_kind_there_is_no_copy() {
        let parameter = parameter();
        let factor = Factor::new(parameter.shallow_clone(), Dtype::F32.kind(Kind::Float));
        assert_eq!(factor.value().data_ptr(), parameter.data_ptr());
    }
}
