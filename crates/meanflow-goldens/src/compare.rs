//! How far two tensors are apart, and how far they may be.

use std::fmt;

use tch::{Device, Kind, Tensor};

/// The largest errors that rounding explains.
///
/// They are about ten times what the official code itself shows between f32 and f64, and between two implementations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Of `‖a − b‖₂ / ‖b‖₂`; infinite where it does not matter.
    pub relative: f64,
    /// Of `max |a − b|`; infinite where it does not matter.
    pub max: f64,
}

impl Tolerance {
    /// Copies: labels, masks.
    pub const EXACT: Self = Self::new(0.0, 0.0);
    /// Velocities and samples of a transformer.
    pub const OUTPUT: Self = Self::new(5e-6, 5e-5);
    /// Derivatives of a transformer.
    pub const DERIVATIVE: Self = Self::new(1e-5, 2e-4);
    /// The scalar loss.
    pub const LOSS: Self = Self::new(2e-6, f64::INFINITY);
    /// The losses of the rows, which square the velocities: twice their error.
    pub const LOSSES: Self = Self::new(1e-5, f64::INFINITY);
    /// The gradient of one parameter.
    pub const GRADIENT: Self = Self::new(3e-5, f64::INFINITY);
    /// The gradients of all parameters as one vector.
    pub const GRADIENTS: Self = Self::new(1e-5, f64::INFINITY);
    /// Velocities and samples of a U-Net, whose official attention computes its softmax in f32 in any case.
    pub const UNET_OUTPUT: Self = Self::new(1e-5, 5e-5);
    /// Derivatives of a U-Net.
    pub const UNET_DERIVATIVE: Self = Self::new(2e-5, 2e-4);
    /// The losses of the rows of a U-Net.
    pub const UNET_LOSSES: Self = Self::new(2e-5, f64::INFINITY);
    /// The gradient of one parameter of a U-Net.
    pub const UNET_GRADIENT: Self = Self::new(1e-4, f64::INFINITY);
    /// The gradients of all parameters of a U-Net as one vector.
    pub const UNET_GRADIENTS: Self = Self::new(2e-5, f64::INFINITY);
    /// Moments and pictures of a VAE; diffusers itself is 6e-7 off in f32 on the small golden.
    pub const VAE: Self = Self::new(1e-5, 2e-4);
    /// Parameters after steps of an optimiser, and their averages.
    pub const PARAMETER: Self = Self::new(f64::INFINITY, 1e-6);
    /// Moments of the gradients, of any size.
    pub const MOMENT: Self = Self::new(1e-6, f64::INFINITY);

    /// Bounds of the relative and of the largest error.
    pub const fn new(relative: f64, max: f64) -> Self {
        Self { relative, max }
    }

    /// With more relative error.
    pub(crate) fn widened(self, relative: f64) -> Self {
        Self::new(self.relative + relative, self.max)
    }
}

/// One tensor of ours beside the official one.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Its name in the file.
    pub tensor: String,
    /// `max |a − b|`.
    pub max_error: f64,
    /// `‖a − b‖₂ / ‖b‖₂`.
    pub relative_error: f64,
    /// What is allowed.
    pub tolerance: Tolerance,
}

impl Comparison {
    /// `ours` against `official`, of one shape.
    pub(crate) fn new(
        tensor: &str,
        ours: &Tensor,
        official: &Tensor,
        tolerance: Tolerance,
    ) -> Self {
        let wide = |x: &Tensor| x.detach().to_device(Device::Cpu).to_kind(Kind::Double);
        let (ours, official) = (wide(ours), wide(official));
        let error = ours - &official;
        let (norm, size) = (
            error.norm().double_value(&[]),
            official.norm().double_value(&[]),
        );
        Self {
            tensor: tensor.to_owned(),
            max_error: error.abs().max().double_value(&[]),
            relative_error: if norm == 0.0 { 0.0 } else { norm / size },
            tolerance,
        }
    }

    /// Whether both errors are within tolerance; NaN never is.
    pub fn passes(&self) -> bool {
        self.relative_error <= self.tolerance.relative && self.max_error <= self.tolerance.max
    }
}

/// Every comparison of a golden file.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The name of the golden.
    pub name: String,
    /// One line a tensor.
    pub comparisons: Vec<Comparison>,
    /// Results in the file that nothing here computes.
    pub unchecked: Vec<String>,
}

impl Report {
    /// Whether every comparison is within tolerance, and there is one.
    pub fn passes(&self) -> bool {
        !self.comparisons.is_empty() && self.comparisons.iter().all(Comparison::passes)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .comparisons
            .iter()
            .map(|line| line.tensor.len())
            .max()
            .unwrap_or(6);
        writeln!(f, "{}", self.name)?;
        writeln!(
            f,
            "{:width$}  {:>9}  {:>9}  {:>9}  {:>9}",
            "tensor", "max", "allowed", "relative", "allowed"
        )?;
        for line in &self.comparisons {
            let Tolerance { relative, max } = line.tolerance;
            writeln!(
                f,
                "{:width$}  {:>9.1e}  {max:>9.0e}  {:>9.1e}  {relative:>9.0e}  {}",
                line.tensor,
                line.max_error,
                line.relative_error,
                if line.passes() { "pass" } else { "FAIL" },
            )?;
        }
        for name in &self.unchecked {
            writeln!(f, "{name}: not computed here")?;
        }
        Ok(())
    }
}
