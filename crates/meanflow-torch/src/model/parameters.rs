//! The named parameters of a network, in the order in which it declares them.

use std::ops::Range;
use std::path::Path;

use meanflow_core::random::{Purpose, RngStream};
use tch::{Device, Kind, Tensor, no_grad};

use crate::model::compute::{Compute, Dtype, Factor};
use crate::{TorchError, host};

/// An ordered list of named tensors.
#[derive(Debug)]
pub struct Parameters {
    entries: Vec<(String, Tensor)>,
}

impl Parameters {
    /// Given tensors under their names, which take gradients from now on.
    pub fn of(tensors: Vec<(String, Tensor)>) -> Self {
        let entries = tensors.into_iter();
        Self {
            entries: entries
                .map(|(name, tensor)| (name, tensor.set_requires_grad(true)))
                .collect(),
        }
    }

    /// Names and tensors in the order of declaration.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.entries
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensors in the order of declaration.
    pub fn tensors(&self) -> Vec<&Tensor> {
        self.entries.iter().map(|(_, tensor)| tensor).collect()
    }

    /// Names with handles to the tensors, as [`crate::weights::save`] and [`crate::weights::load_strict`] take them.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        self.entries
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect()
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, tensor)| tensor)
    }

    /// How many numbers there are in all tensors together.
    pub fn count(&self) -> usize {
        self.entries.iter().map(|(_, tensor)| tensor.numel()).sum()
    }

    /// The largest magnitude among all numbers, a scalar on their device: NaN where one of them is, 0 without any. Nothing
    /// waits for the device.
    pub fn largest_magnitude(&self) -> Tensor {
        let tensors = self.entries.iter().map(|(_, tensor)| tensor.detach());
        let (least, greatest): (Vec<_>, Vec<_>) = tensors
            .filter(|tensor| tensor.numel() > 0)
            .map(|tensor| tensor.aminmax(None, false))
            .unzip();
        if least.is_empty() {
            return Tensor::from(0.0_f32);
        }
        let least = Tensor::stack(&least, 0).amin([0], false);
        let greatest = Tensor::stack(&greatest, 0).amax([0], false);
        greatest.maximum(&-least)
    }

    /// Forgets the gradients.
    pub fn zero_grad(&self) {
        for (_, tensor) in &self.entries {
            tensor.shallow_clone().zero_grad();
        }
    }

    /// Says that they have other values than before, where nothing else says so: after a replay of a
    /// [`CudaGraph`](crate::CudaGraph) that changes them.
    pub fn changed(&self) {
        meanflow_libtorch::changed(&self.tensors());
    }

    /// Refuses parameters that were read from the file `path` and are not all finite.
    pub(crate) fn refuse_not_finite(&self, path: &Path) -> Result<(), TorchError> {
        let named = self.iter();
        let flags: Vec<Tensor> = named.map(|(_, tensor)| tensor.isfinite().all()).collect();
        if flags.is_empty() {
            return Ok(());
        }
        let flags = host::read(&Tensor::stack(&flags, 0))?;
        let bad: Vec<&str> = self
            .iter()
            .zip(flags)
            .filter_map(|((name, _), finite)| (finite == 0.0).then_some(name))
            .collect();
        let Some(first) = bad.first() else {
            return Ok(());
        };
        Err(TorchError::File {
            path: path.to_owned(),
            problem: format!(
                "not usable: {} of {} tensors hold NaN or infinity, the first is {first}",
                bad.len(),
                self.entries.len()
            ),
        })
    }

    /// Handles to the parameters in this range.
    pub(crate) fn part(&self, range: &Range<usize>) -> Self {
        let handle = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.shallow_clone());
        Self {
            entries: self.entries[range.clone()].iter().map(handle).collect(),
        }
    }

    /// The same numbers in the same memory, with gradients of their own.
    pub(crate) fn alias(&self) -> Self {
        let alias = |(name, tensor): &(String, Tensor)| {
            let alias = tensor.detach().set_requires_grad(tensor.requires_grad());
            (name.clone(), alias)
        };
        Self {
            entries: self.entries.iter().map(alias).collect(),
        }
    }

    /// A deep copy that takes no gradients.
    pub fn frozen_copy(&self) -> Self {
        let copy =
            |(name, tensor): &(String, Tensor)| (name.clone(), no_grad(|| tensor.detach().copy()));
        Self {
            entries: self.entries.iter().map(copy).collect(),
        }
    }
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug)]
pub enum Initializer {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform in ±√(6 / (fan in + fan out)) (Glorot and Bengio 2010), times a gain.
    Xavier {
        /// Inputs of one output.
        fan_in: i64,
        /// Outputs of one input.
        fan_out: i64,
        /// Multiplies the values.
        gain: f64,
    },
}

/// Where declared parameters come from.
enum ParameterSource<'a> {
    /// New ones, drawn from the seed.
    Seed(u64),
    /// Not set yet: a file is going to fill them.
    Blank,
    /// Of no memory: only their shapes matter.
    Shapes,
    /// Those of a network of the same configuration.
    Existing(&'a Parameters),
}

/// Collects the parameters while a network is put together.
pub(crate) struct Declaration<'a> {
    source: ParameterSource<'a>,
    kind: Kind,
    device: Device,
    compute: Compute,
    entries: Vec<(String, Tensor)>,
}

impl<'a> Declaration<'a> {
    /// Parameters drawn from `seed`: the same for every device and platform.
    pub(crate) fn drawn(seed: u64, kind: Kind, device: Device) -> Self {
        Self {
            source: ParameterSource::Seed(seed),
            kind,
            device,
            compute: Compute::default(),
            entries: Vec::new(),
        }
    }

    /// Parameters that are about to be read from a file.
    pub(crate) fn blank(kind: Kind, device: Device) -> Self {
        Self {
            source: ParameterSource::Blank,
            kind,
            device,
            compute: Compute::default(),
            entries: Vec::new(),
        }
    }

    /// Parameters that only have shapes, for counting.
    pub(crate) fn shapes() -> Self {
        Self {
            source: ParameterSource::Shapes,
            kind: Kind::Float,
            device: Device::Cpu,
            compute: Compute::default(),
            entries: Vec::new(),
        }
    }

    /// The tensors of `parameters`, bound to a second network.
    pub(crate) fn bound(parameters: &'a Parameters, kind: Kind, device: Device) -> Self {
        Self {
            source: ParameterSource::Existing(parameters),
            kind,
            device,
            compute: Compute::default(),
            entries: Vec::new(),
        }
    }

    /// The same parameters for a network that is computed like this.
    pub(crate) fn computed(self, compute: Compute) -> Self {
        Self { compute, ..self }
    }

    /// How the network is computed.
    pub(crate) fn compute(&self) -> Compute {
        self.compute
    }

    /// The root of the names.
    pub(crate) fn root<'b>(&'b mut self) -> VarBuilder<'a, 'b> {
        VarBuilder {
            declaration: self,
            prefix: String::new(),
            inner: false,
        }
    }

    pub(crate) fn finish(self) -> Parameters {
        Parameters {
            entries: self.entries,
        }
    }

    fn declare(&mut self, name: String, shape: &[i64], init: Initializer) -> Tensor {
        let tensor = match &self.source {
            ParameterSource::Seed(seed) => {
                let mut stream = RngStream::new(*seed, Purpose::Init, self.entries.len() as u64);
                draw(&mut stream, shape, init)
                    .to_kind(self.kind)
                    .to_device(self.device)
                    .set_requires_grad(true)
            }
            ParameterSource::Blank => {
                Tensor::empty(shape, (self.kind, self.device)).set_requires_grad(true)
            }
            ParameterSource::Shapes => {
                Tensor::zeros([], (self.kind, self.device)).expand(shape, false)
            }
            ParameterSource::Existing(parameters) => parameters
                .get(&name)
                .expect("the same configuration declares the same names")
                .shallow_clone(),
        };
        self.entries.push((name, tensor.shallow_clone()));
        tensor
    }
}

/// A place in the tree of names.
pub struct VarBuilder<'a, 'b> {
    declaration: &'b mut Declaration<'a>,
    prefix: String,
    inner: bool,
}

impl<'a> VarBuilder<'a, '_> {
    /// The place `name` below this one.
    pub fn sub(&mut self, name: impl std::fmt::Display) -> VarBuilder<'a, '_> {
        let prefix = format!("{}{name}.", self.prefix);
        VarBuilder {
            declaration: self.declaration,
            prefix,
            inner: self.inner,
        }
    }

    /// The same place, the products of which may be computed in another dtype than that of the parameters: the inside
    /// of a block.
    pub fn inner(self) -> Self {
        Self {
            inner: true,
            ..self
        }
    }

    /// Whether blocks are computed again for their gradient.
    pub fn checkpoints_blocks(&self) -> bool {
        self.declaration.compute.activation_checkpointing
    }

    /// Declares a parameter of a matrix product.
    pub fn factor(&mut self, name: &str, shape: &[i64], init: Initializer) -> Factor {
        let dtype = if self.inner {
            self.declaration.compute.dtype
        } else {
            Dtype::F32
        };
        let kind = dtype.kind(self.declaration.kind);
        Factor::new(self.parameter(name, shape, init), kind)
    }

    /// Declares a parameter.
    pub fn parameter(&mut self, name: &str, shape: &[i64], init: Initializer) -> Tensor {
        self.declaration
            .declare(format!("{}{name}", self.prefix), shape, init)
    }

    /// A constant that is no parameter, on the network's device and in its type.
    pub fn constant(&self, values: &[f64], shape: &[i64]) -> Tensor {
        Tensor::from_slice(values)
            .reshape(shape)
            .to_kind(self.declaration.kind)
            .to_device(self.declaration.device)
    }
}

fn draw(stream: &mut RngStream, shape: &[i64], init: Initializer) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let mut values = vec![0.0_f32; count];
    match init {
        Initializer::Zeros => {}
        Initializer::Ones => values.fill(1.0),
        Initializer::Normal(deviation) => {
            stream.fill_normal(&mut values);
            values
                .iter_mut()
                .for_each(|value| *value *= deviation as f32);
        }
        Initializer::Xavier {
            fan_in,
            fan_out,
            gain,
        } => {
            let bound = gain * (6.0 / (fan_in + fan_out) as f64).sqrt();
            stream.fill_uniform(&mut values);
            values
                .iter_mut()
                .for_each(|value| *value = ((2.0 * f64::from(*value) - 1.0) * bound) as f32);
        }
    }
    Tensor::from_slice(&values).reshape(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(tensors: Vec<Tensor>) -> Parameters {
        let name = |(index, tensor): (usize, Tensor)| (index.to_string(), tensor);
        Parameters {
            entries: tensors.into_iter().enumerate().map(name).collect(),
        }
    }

    /// Wherever it stands: libtorch reduces long tensors in vectors and by several threads.
    #[test]
    fn the_largest_magnitude_is_exact_and_never_loses_what_is_not_finite() {
        for length in [1, 7, 100_003] {
            for place in [0, length / 2, length - 1] {
                for value in [-3e38, 2.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    let long = Tensor::full([length], -1.0, (Kind::Float, Device::Cpu));
                    let _ = long.get(place).fill_(value);
                    let short = Tensor::from_slice(&[0.5_f32]);
                    let all = parameters(vec![Tensor::from_slice::<f32>(&[]), long, short]);
                    let got = all.largest_magnitude().double_value(&[]);
                    let expected = f64::from(value.abs() as f32);
                    assert!(got == expected || got.is_nan() && value.is_nan(), "{got}");
                }
            }
        }
        let none = parameters(Vec::new()).largest_magnitude();
        assert_eq!(none.double_value(&[]), 0.0);
    }
}
