//! The weights of Inception by their names in the published PyTorch state dictionaries, batch norm folded in.

use std::collections::BTreeMap;
use std::path::Path;

use meanflow_torch::TorchError;
use tch::{Device, Kind, Tensor};

use super::blocks::{Block, Branch, Layer};

/// Of the batch norms, as published.
const EPSILON: f64 = 1e-3;

/// A convolution with the batch norm after it folded into weight and bias.
#[derive(Debug)]
pub(super) struct Convolution {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) stride: i64,
    pub(super) padding: [i64; 2],
}

/// Tensors by name, taken one after another; what is missing, wrong or left over is remembered.
pub(super) struct Source {
    tensors: BTreeMap<String, Tensor>,
    device: Device,
    problems: Vec<String>,
}

impl Source {
    pub(super) fn new(tensors: BTreeMap<String, Tensor>, device: Device) -> Self {
        Self {
            tensors,
            device,
            problems: Vec::new(),
        }
    }

    /// A tensor of f32 or f64 on the CPU; zeros in place of a missing or wrong one.
    pub(super) fn take(&mut self, name: &str, shape: &[i64]) -> Tensor {
        let problem = match self.tensors.remove(name) {
            Some(tensor) if tensor.size() == shape && is_float(&tensor) => {
                return tensor.to_device(Device::Cpu);
            }
            Some(tensor) => {
                let (size, kind) = (tensor.size(), tensor.kind());
                format!("{name}: expected shape {shape:?} of floats, got {size:?} of {kind:?}")
            }
            None => format!("missing: {name} {shape:?}"),
        };
        self.problems.push(problem);
        Tensor::zeros(shape, (Kind::Float, Device::Cpu))
    }

    /// Every layer of a block that sees `inputs` channels, and the number of channels it gives.
    pub(super) fn block(&mut self, block: &Block<Layer>, inputs: i64) -> (Block<Convolution>, i64) {
        let name = block.name;
        let mut outputs = 0;
        let branches = block.branches.iter().map(|branch| {
            let mut width = inputs;
            let chain = branch.chain.iter().map(|layer| {
                let convolution = self.convolution(name, layer, width);
                width = layer.outputs;
                convolution
            });
            let chain = chain.collect();
            let fork = branch
                .fork
                .iter()
                .map(|layer| self.convolution(name, layer, width));
            let fork: Vec<_> = fork.collect();
            let forked: i64 = branch.fork.iter().map(|layer| layer.outputs).sum();
            outputs += if fork.is_empty() { width } else { forked };
            let pool = branch.pool;
            Branch { pool, chain, fork }
        });
        let branches = branches.collect();
        (Block { name, branches }, outputs)
    }

    /// `γ (W∗x − μ)/√(σ² + ε) + β` as one convolution.
    fn convolution(&mut self, block: &str, layer: &Layer, inputs: i64) -> Convolution {
        let dot = if block.is_empty() { "" } else { "." };
        let name = format!("{block}{dot}{}", layer.name);
        let [height, width] = layer.kernel;
        let outputs = layer.outputs;
        let weight = self.take(
            &format!("{name}.conv.weight"),
            &[outputs, inputs, height, width],
        );
        let mut norm = |part: &str| {
            let tensor = self.take(&format!("{name}.bn.{part}"), &[outputs]);
            tensor.to_kind(Kind::Double)
        };
        let (gamma, beta) = (norm("weight"), norm("bias"));
        let (mean, variance) = (norm("running_mean"), norm("running_var"));
        let scale = gamma / (variance + EPSILON).sqrt();
        Convolution {
            weight: self.place(&weight) * self.place(&scale.reshape([outputs, 1, 1, 1])),
            bias: self.place(&(beta - mean * scale)),
            stride: layer.stride,
            padding: layer.padding,
        }
    }

    /// A tensor as it is computed with.
    pub(super) fn place(&self, tensor: &Tensor) -> Tensor {
        tensor.to_kind(Kind::Float).to_device(self.device)
    }

    /// Refuses a source that did not have exactly what was taken. Counters of batches, which only training reads, do not count.
    pub(super) fn finish(mut self, origin: &Path) -> Result<(), TorchError> {
        let left = self.tensors.keys();
        let left = left.filter(|name| !name.ends_with(".num_batches_tracked"));
        self.problems
            .extend(left.map(|name| format!("unexpected: {name}")));
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(TorchError::Weights {
            path: origin.to_owned(),
            problems: self.problems,
        })
    }
}

fn is_float(tensor: &Tensor) -> bool {
    [Kind::Float, Kind::Double].contains(&tensor.kind())
}
