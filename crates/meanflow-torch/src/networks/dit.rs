//! The diffusion transformer (Peebles and Xie 2023) with two times, as MeanFlow uses it.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Network, limits, multiple, within};
use crate::dual::checkpoint::checkpointed;
use crate::layers::{
    Block, EPSILON, LabelEmbedder, Linear, PatchGrid, TimeEmbedding, TimestepEmbedder, modulation,
    modulation_flops, sincos_pos_embed,
};
use crate::model::condition::Conditioning;
use crate::model::parameters::{Initializer, VarBuilder};
use crate::{Dual, Flops, TorchError};

/// The size of a [`Dit`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DitConfig {
    /// Side of a patch in pixels.
    pub patch: i64,
    /// Width `D` of a token.
    pub width: i64,
    /// Number of blocks.
    pub depth: i64,
    /// Attention heads a block.
    pub heads: i64,
    /// Hidden width of the perceptron over `D`.
    pub mlp_ratio: f64,
    /// Which functions of (r, t) the network sees.
    pub embedding: TimeEmbedding,
}

impl DitConfig {
    pub(super) fn validate(&self, shape: &[i64]) -> Result<(), TorchError> {
        let [_, height, width] = *shape else {
            let expected = "a picture [channels, height, width] for a transformer".into();
            return Err(TorchError::Shape {
                what: "sample".into(),
                expected,
                got: shape.to_vec(),
            });
        };
        for (key, value, limit) in [
            ("patch", self.patch, limits::WIDTH),
            ("width", self.width, limits::WIDTH),
            ("depth", self.depth, limits::DEPTH),
            ("heads", self.heads, limits::WIDTH),
        ] {
            within(key, value, limit)?;
        }
        multiple("width", self.width, self.heads, "the heads")?;
        multiple("width", self.width, 4, "sine and cosine of two coordinates")?;
        for side in [height, width] {
            if side % self.patch != 0 {
                let expected = format!("a divisor of the picture's sides {height} and {width}");
                return Err(TorchError::Config {
                    key: "patch",
                    expected,
                    got: self.patch.to_string(),
                });
            }
        }
        let tokens = (height / self.patch) * (width / self.patch);
        within("tokens × width", tokens * self.width, limits::POSITIONS)?;
        let ratios = ..=limits::RATIO as f64;
        if !(ratios.contains(&self.mlp_ratio) && self.hidden() >= 1) {
            let (expected, got) = (
                format!(
                    "a ratio of at most {} that leaves a hidden unit",
                    limits::RATIO
                ),
                self.mlp_ratio.to_string(),
            );
            return Err(TorchError::Config {
                key: "mlp_ratio",
                expected,
                got,
            });
        }
        Ok(())
    }

    fn hidden(&self) -> i64 {
        (self.width as f64 * self.mlp_ratio) as i64
    }
}

/// Patches, positions, blocks of attention conditioned by adaLN-zero, and a linear map back to pixels.
///
/// Legend: `B` samples, `N` tokens, `D` width.
#[derive(Debug)]
pub struct Dit {
    grid: PatchGrid,
    patches: Linear,
    positions: Tensor,
    times: TimestepEmbedder,
    labels: Option<LabelEmbedder>,
    blocks: Vec<Block>,
    last_modulation: Linear,
    last: Linear,
    checkpoint: bool,
}

impl Dit {
    /// Declares the parameters under the names of the reference implementation of DiT, `h_embedder` and `r_embedder`
    /// beside `t_embedder`; `shape [C, H, W]`, `classes` 0 for an unconditional network.
    pub fn new(vars: &mut VarBuilder, config: &DitConfig, shape: &[i64], classes: i64) -> Self {
        let DitConfig {
            patch,
            width,
            heads,
            ..
        } = *config;
        let grid = PatchGrid {
            channels: shape[0],
            rows: shape[1] / patch,
            columns: shape[2] / patch,
            patch,
        };
        let mut last = vars.sub("final_layer");
        let last_modulation = Linear::new(
            &mut last.sub("adaLN_modulation.1"),
            width,
            2 * width,
            Initializer::Zeros,
        );
        let last = Linear::new(
            &mut last.sub("linear"),
            width,
            grid.patch_size(),
            Initializer::Zeros,
        );
        Self {
            grid,
            patches: Linear::patches(&mut vars.sub("x_embedder.proj"), &grid, width),
            positions: vars.constant(&sincos_pos_embed(&grid, width), &[1, grid.tokens(), width]),
            times: TimestepEmbedder::new(vars, config.embedding, width),
            labels: (classes > 0)
                .then(|| LabelEmbedder::new(&mut vars.sub("y_embedder"), classes, width)),
            blocks: (0..config.depth)
                .map(|index| {
                    Block::new(
                        &mut vars.sub("blocks").sub(index).inner(),
                        width,
                        heads,
                        config.hidden(),
                    )
                })
                .collect(),
            last_modulation,
            last,
            checkpoint: vars.checkpoints_blocks(),
        }
    }

    /// `SiLU(emb(r, t) + emb(label))`, `[B, D]`: every modulation starts with this SiLU, taken once.
    fn condition(&self, r: &Dual, t: &Dual, labels: Option<&Tensor>) -> Dual {
        let times = self.times.forward(r, t);
        let sum = match (&self.labels, labels) {
            (Some(table), Some(labels)) => times.add_constant(&table.forward(labels)),
            _ => times,
        };
        sum.silu()
    }
}

impl Network for Dit {
    fn forward(&self, z: &Dual, r: &Dual, t: &Dual, condition: &Conditioning) -> Dual {
        let condition = self.condition(r, t, condition.labels.as_ref());
        let mut x = self
            .patches
            .forward(&self.grid.patchify(z))
            .add_constant(&self.positions);
        for block in &self.blocks {
            x = if self.checkpoint {
                checkpointed(block, [&x, &condition], |block, [x, c]| block.forward(x, c))
            } else {
                block.forward(&x, &condition)
            };
        }
        let [shift, scale] = modulation(&self.last_modulation, &condition);
        let normal = x.norm_modulate(&shift, &scale, EPSILON, self.last.kind());
        self.grid.unpatchify(&self.last.forward(&normal))
    }

    fn flops(&self) -> Flops {
        let tokens = self.grid.tokens();
        let width = self.patches.outputs();
        let blocks = self.blocks.iter().map(|block| block.flops(tokens));
        self.patches.flops(tokens)
            + self.times.flops()
            // The condition before and after its SiLU.
            + Flops::keep(2 * width)
            + blocks.sum()
            + modulation_flops(&self.last_modulation)
            + self.last.flops(tokens)
            // The last norm keeps what it takes.
            + Flops::keep(tokens * width)
    }
}
