//! The convolutional network of score-based models (Song et al. 2021; Karras et al. 2022) with two times.

mod block;
mod config;

use tch::Tensor;

use self::block::{Block, BlockShape};
pub use self::config::UnetConfig;
use super::Network;
use crate::dual::checkpoint::checkpointed;
use crate::layers::{Convolution, GroupNorm, LabelEmbedder, Linear, Resize, TimeEmbedding};
use crate::model::condition::Conditioning;
use crate::model::parameters::{Initializer, VarBuilder};
use crate::{Dual, Flops};

/// Residual blocks at falling and then rising resolution; every block of the way down is seen again on the way up.
///
/// Legend: `B` samples, `C` channels, `E` width of the embedding.
#[derive(Debug)]
pub struct Unet {
    /// Of the picture.
    pixels: i64,
    embedding: Embedding,
    first: Convolution,
    down: Vec<Block>,
    up: Vec<Block>,
    last_norm: GroupNorm,
    last: Convolution,
    checkpoint: bool,
}

impl Unet {
    /// Declares the parameters under the names of the official PyTorch code; `shape [C, H, W]`, `classes` 0 for an
    /// unconditional network.
    pub fn new(vars: &mut VarBuilder, config: &UnetConfig, shape: &[i64], classes: i64) -> Self {
        let embedding = Embedding::new(vars, config, classes);
        let (channels, height) = (shape[0], shape[1]);
        let first = Convolution::new(
            &mut vars.sub(format!("enc.{height}x{height}_conv")),
            channels,
            config.channels,
            3,
            1.0,
        );
        let mut dropping = 0..;
        let mut build = |vars: &mut VarBuilder, plan: Vec<(String, BlockShape)>| -> Vec<Block> {
            let blocks = plan.iter().zip(dropping.by_ref());
            blocks
                .map(|((name, shape), layer)| {
                    Block::new(&mut vars.sub(name).inner(), config, shape, layer)
                })
                .collect()
        };
        let (down, skips) = descent(config, height);
        let (up, last) = ascent(config, height, skips);
        let (down, up) = (build(vars, down), build(vars, up));
        let name = |what: &str| format!("dec.{height}x{height}_aux_{what}");
        Self {
            pixels: height * shape[2],
            embedding,
            first,
            down,
            up,
            last_norm: GroupNorm::new(&mut vars.sub(name("norm")), last),
            last: Convolution::new(&mut vars.sub(name("conv")), last, channels, 3, block::SMALL),
            checkpoint: vars.checkpoints_blocks(),
        }
    }
}

impl Network for Unet {
    fn forward(&self, z: &Dual, r: &Dual, t: &Dual, condition: &Conditioning) -> Dual {
        let embedding = self.embedding.forward(r, t, condition);
        let mut x = self.first.forward(z);
        let mut skips = vec![x.clone()];
        for block in &self.down {
            x = self.through(block, &x, &embedding, condition);
            skips.push(x.clone());
        }
        for block in &self.up {
            if block.sees_skip() {
                let skip = skips.pop().expect("as many blocks up as down");
                x = Dual::cat(&[&x, &skip], 1);
            }
            x = self.through(block, &x, &embedding, condition);
        }
        self.last.forward(&self.last_norm.forward(&x).silu())
    }

    fn flops(&self) -> Flops {
        let mut pixels = self.pixels;
        let blocks = self.down.iter().chain(&self.up).map(|block| {
            let work = block.flops(pixels);
            pixels = block.pixels(pixels);
            work
        });
        let blocks = blocks.sum::<Flops>();
        self.embedding.flops()
            + self.first.flops(self.pixels)
            + blocks
            + self.last.flops(self.pixels)
            // The last norm, SiLU and convolution keep what they take.
            + Flops::keep(3 * self.pixels * self.last_norm.channels())
    }
}

impl Unet {
    fn through(&self, block: &Block, x: &Dual, embedding: &Dual, condition: &Conditioning) -> Dual {
        let dropout = condition.dropout;
        let forward =
            move |block: &Block, [x, embedding]: [&Dual; 2]| block.forward(x, embedding, dropout);
        if self.checkpoint {
            checkpointed(block, [x, embedding], forward)
        } else {
            forward(block, [x, embedding])
        }
    }
}

/// The blocks on the way down, and the channels that each leaves for the way up.
fn descent(config: &UnetConfig, side: i64) -> (Vec<(String, BlockShape)>, Vec<i64>) {
    let mut blocks = Vec::new();
    let mut channels = config.channels;
    let mut skips = vec![channels];
    for (level, multiplier) in config.multipliers.iter().enumerate() {
        let side = side >> level;
        if level > 0 {
            let shape = BlockShape::resizing(channels, Resize::Halve);
            blocks.push((format!("enc.{side}x{side}_down"), shape));
            skips.push(channels);
        }
        for index in 0..config.blocks {
            let shape = BlockShape {
                inputs: channels,
                outputs: config.channels * multiplier,
                resize: Resize::Keep,
                attention: config.attention.contains(&side),
                skip: 0,
            };
            channels = shape.outputs;
            blocks.push((format!("enc.{side}x{side}_block{index}"), shape));
            skips.push(channels);
        }
    }
    (blocks, skips)
}

/// The blocks on the way up, and the channels of the last.
fn ascent(config: &UnetConfig, side: i64, mut skips: Vec<i64>) -> (Vec<(String, BlockShape)>, i64) {
    let mut blocks = Vec::new();
    let lowest = config.multipliers.len() - 1;
    let mut channels = skips.last().copied().unwrap_or(config.channels);
    for (level, multiplier) in config.multipliers.iter().enumerate().rev() {
        let side = side >> level;
        if level == lowest {
            for (index, attention) in [(0, true), (1, false)] {
                let shape = BlockShape {
                    attention,
                    ..BlockShape::resizing(channels, Resize::Keep)
                };
                blocks.push((format!("dec.{side}x{side}_in{index}"), shape));
            }
        } else {
            let shape = BlockShape::resizing(channels, Resize::Double);
            blocks.push((format!("dec.{side}x{side}_up"), shape));
        }
        for index in 0..=config.blocks {
            let skip = skips
                .pop()
                .expect("one more block a level than on the way down");
            let shape = BlockShape {
                inputs: channels + skip,
                outputs: config.channels * multiplier,
                resize: Resize::Keep,
                attention: index == config.blocks && config.attention.contains(&side),
                skip,
            };
            channels = shape.outputs;
            blocks.push((format!("dec.{side}x{side}_block{index}"), shape));
        }
    }
    (blocks, channels)
}

/// Times side by side, class and augmentation added, then two layers.
#[derive(Debug)]
struct Embedding {
    times: TimeEmbedding,
    frequencies: Tensor,
    augment: Option<Tensor>,
    labels: Option<LabelEmbedder>,
    layers: [Linear; 2],
}

impl Embedding {
    /// The longest period over 2π.
    const MAX_PERIOD: f64 = 10_000.0;

    fn new(vars: &mut VarBuilder, config: &UnetConfig, classes: i64) -> Self {
        let (inputs, width) = (config.time_channels(), config.embedding_width());
        let half = config.channels * config.noise_ratio / 2;
        let frequencies: Vec<f64> = (0..half)
            .map(|k| Self::MAX_PERIOD.powf(-(k as f64) / (half - 1) as f64))
            .collect();
        let init = Initializer::Xavier {
            fan_in: config.augment,
            fan_out: inputs,
            gain: 1.0,
        };
        Self {
            times: config.embedding,
            frequencies: vars.constant(&frequencies, &[half]),
            augment: (config.augment > 0).then(|| {
                vars.sub("map_augment")
                    .parameter("weight", &[inputs, config.augment], init)
            }),
            labels: (classes > 0)
                .then(|| LabelEmbedder::new(&mut vars.sub("y_embedder"), classes, inputs)),
            layers: [
                Linear::xavier(&mut vars.sub("map_layer0"), inputs, width),
                Linear::xavier(&mut vars.sub("map_layer1"), width, width),
            ],
        }
    }

    /// Two SiLUs keep what they take.
    fn flops(&self) -> Flops {
        let [first, second] = &self.layers;
        let told = self.augment.as_ref();
        let told = told.map_or(0, |weight| weight.numel() as i64);
        first.flops(1) + second.flops(1) + Flops::map(told) + Flops::keep(2 * second.outputs())
    }

    /// Times `[B]` to `[B, E]`.
    fn forward(&self, r: &Dual, t: &Dual, condition: &Conditioning) -> Dual {
        let times: Vec<Dual> = (self.times.times(r, t).iter())
            .map(|time| sine_first(&time.sinusoid(&self.frequencies)))
            .collect();
        let mut x = Dual::cat(&times, 1);
        if let (Some(weight), Some(augment)) = (&self.augment, &condition.augment) {
            x = x.add_constant(&augment.linear(weight, None::<&Tensor>));
        }
        if let (Some(table), Some(labels)) = (&self.labels, &condition.labels) {
            x = x.add_constant(&table.forward(labels));
        }
        let [first, second] = &self.layers;
        second.forward(&first.forward(&x).silu()).silu()
    }
}

/// `[cos, sin]` to `[sin, cos]`, `[B, 2F]`.
fn sine_first(waves: &Dual) -> Dual {
    waves.map_linear(|x| {
        let (rows, width) = x.size2().expect("[B, 2F]");
        x.view([rows, 2, width / 2])
            .flip([1])
            .reshape([rows, width])
    })
}
