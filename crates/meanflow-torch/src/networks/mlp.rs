//! A residual perceptron for points in a few dimensions.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Network, limits, within};
use crate::dual::checkpoint::checkpointed;
use crate::layers::{LabelEmbedder, Linear, TimeEmbedding, TimestepEmbedder};
use crate::model::condition::Conditioning;
use crate::model::parameters::VarBuilder;
use crate::{Dual, Flops, TorchError};

/// The size of a [`Mlp`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MlpConfig {
    /// Width `D` of the hidden layers.
    pub width: i64,
    /// Number of residual layers.
    pub depth: i64,
    /// Which functions of (r, t) the network sees.
    pub embedding: TimeEmbedding,
}

impl MlpConfig {
    pub(super) fn validate(&self, shape: &[i64]) -> Result<(), TorchError> {
        if shape.len() != 1 {
            let expected = "a point [dimensions] for a perceptron".into();
            return Err(TorchError::Shape {
                what: "sample".into(),
                expected,
                got: shape.to_vec(),
            });
        }
        within("width", self.width, limits::WIDTH)?;
        within("depth", self.depth, limits::DEPTH)
    }
}

/// Angular frequencies of the coordinates that the first layer sees beside the coordinates themselves: without them a
/// perceptron learns edges very slowly (Tancik et al. 2020). Each wave is divided by its frequency: none is steeper
/// than a coordinate.
const FREQUENCIES: [f64; 4] = [1.0, 2.0, 4.0, 8.0];

/// Residual layers `x + W₂ SiLU(W₁ x + W₃ c)` under a condition `c` of the times and the label.
#[derive(Debug)]
pub struct Mlp {
    frequencies: Tensor,
    first: Linear,
    times: TimestepEmbedder,
    labels: Option<LabelEmbedder>,
    layers: Vec<[Linear; 3]>,
    last: Linear,
    checkpoint: bool,
}

impl Mlp {
    /// Declares the parameters; `shape [dimensions]`, `classes` 0 for an unconditional network.
    pub fn new(vars: &mut VarBuilder, config: &MlpConfig, shape: &[i64], classes: i64) -> Self {
        let width = config.width;
        let layer = |vars: &mut VarBuilder| {
            ["expand", "contract", "condition"]
                .map(|name| Linear::xavier(&mut vars.sub(name), width, width))
        };
        let waves = FREQUENCIES.len() as i64;
        Self {
            frequencies: vars.constant(&FREQUENCIES, &[waves]),
            first: Linear::xavier(&mut vars.sub("first"), shape[0] * (1 + 2 * waves), width),
            times: TimestepEmbedder::new(vars, config.embedding, width),
            labels: (classes > 0)
                .then(|| LabelEmbedder::new(&mut vars.sub("y_embedder"), classes, width)),
            layers: (0..config.depth)
                .map(|index| layer(&mut vars.sub("layers").sub(index).inner()))
                .collect(),
            last: Linear::xavier(&mut vars.sub("last"), width, shape[0]),
            checkpoint: vars.checkpoints_blocks(),
        }
    }
}

impl Network for Mlp {
    fn forward(&self, z: &Dual, r: &Dual, t: &Dual, condition: &Conditioning) -> Dual {
        let mut embedded = self.times.forward(r, t);
        if let (Some(table), Some(labels)) = (&self.labels, &condition.labels) {
            embedded = embedded.add_constant(&table.forward(labels));
        }
        let embedded = embedded.silu();
        // [B, dimensions, 2F] as [B, dimensions · 2F]
        let waves = z
            .sinusoid(&self.frequencies)
            .map_linear(|x| (x / self.frequencies.tile([2])).flatten(1, -1));
        let mut x = self.first.forward(&Dual::cat(&[z, &waves], -1));
        for layer in &self.layers {
            x = if self.checkpoint {
                checkpointed(layer, [&x, &embedded], residual)
            } else {
                residual(layer, [&x, &embedded])
            };
        }
        self.last.forward(&x.silu())
    }
    fn flops(&self) -> Flops {
        let width = self.first.outputs();
        // The condition is kept once, and so are its inputs; a SiLU keeps what it takes.
        let layer = |[expand, contract, shift]: &[Linear; 3]| {
            let shift = Flops {
                kept: 0,
                ..shift.flops(1)
            };
            (expand.flops(1) + Flops::keep(width) + contract.flops(1)).as_factors()
                + shift
                + Flops::copy_factors(width)
        };
        self.first.flops(1)
            + self.times.flops()
            + Flops::keep(2 * width)
            + self.layers.iter().map(layer).sum()
            + Flops::keep(width)
            + self.last.flops(1)
    }
}

fn residual([expand, contract, shift]: &[Linear; 3], [x, embedded]: [&Dual; 2]) -> Dual {
    let hidden = expand.forward(x).add(&shift.forward(embedded)).silu();
    x.add(&contract.forward(&hidden).to_kind(x.kind()))
}
