//! The residual block of the U-Net.

use super::UnetConfig;
use crate::layers::{Convolution, GroupNorm, Linear, Resample, Resize};
use crate::model::condition::Dropout;
use crate::model::parameters::VarBuilder;
use crate::{Dual, Flops};

/// Gain of the weights that end a residual branch: a fresh block is nearly its skip connection.
pub(super) const SMALL: f64 = 1e-5;

/// What a block turns into what.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockShape {
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    pub(super) resize: Resize,
    pub(super) attention: bool,
    /// Of the inputs, those that come from the way down.
    pub(super) skip: i64,
}

impl BlockShape {
    /// As many channels out as in, without attention.
    pub(super) fn resizing(channels: i64, resize: Resize) -> Self {
        Self {
            inputs: channels,
            outputs: channels,
            resize,
            attention: false,
            skip: 0,
        }
    }
}

/// Two convolutions with the embedding added between them, then attention where there is any; after each, the sum with
/// the input over √2.
///
/// Legend: `B` samples, `C` channels, `E` width of the embedding.
#[derive(Clone, Debug)]
pub(super) struct Block {
    shape: BlockShape,
    dropout: f64,
    layer: u64,
    norms: [GroupNorm; 2],
    convolutions: [Convolution; 2],
    resample: Resample,
    shift: Linear,
    skip: Option<Convolution>,
    attention: Option<Attention>,
}

impl Block {
    /// Declares `norm0`, `conv0`, `affine`, `norm1`, `conv1`, and where needed `skip`, `norm2`, `qkv`, `proj`; `layer`
    /// counts the blocks.
    pub(super) fn new(
        vars: &mut VarBuilder,
        config: &UnetConfig,
        shape: &BlockShape,
        layer: u64,
    ) -> Self {
        let BlockShape {
            inputs,
            outputs,
            resize,
            attention,
            ..
        } = *shape;
        let norm0 = GroupNorm::new(&mut vars.sub("norm0"), inputs);
        let conv0 = Convolution::new(&mut vars.sub("conv0"), inputs, outputs, 3, 1.0);
        let width = config.embedding_width();
        let shift = Linear::xavier(&mut vars.sub("affine"), width, outputs);
        let norm1 = GroupNorm::new(&mut vars.sub("norm1"), outputs);
        let conv1 = Convolution::new(&mut vars.sub("conv1"), outputs, outputs, 3, SMALL);
        let changes = inputs != outputs || resize != Resize::Keep;
        Self {
            shape: *shape,
            dropout: config.dropout,
            layer,
            norms: [norm0, norm1],
            convolutions: [conv0, conv1],
            resample: Resample::new(vars, resize, &config.filter, inputs),
            shift,
            skip: changes.then(|| Convolution::new(&mut vars.sub("skip"), inputs, outputs, 1, 1.0)),
            attention: attention.then(|| Attention::new(vars, outputs)),
        }
    }

    /// Whether the block reads a result of the way down.
    pub(super) fn sees_skip(&self) -> bool {
        self.shape.skip > 0
    }

    /// `x [B, inputs, H, W]`, `embedding [B, E]`, to `[B, outputs, H', W']`.
    pub(super) fn forward(&self, x: &Dual, embedding: &Dual, dropout: Option<Dropout>) -> Dual {
        let [norm0, norm1] = &self.norms;
        let [conv0, conv1] = &self.convolutions;
        let hidden = self.resample.forward(&norm0.forward(x).silu());
        let hidden = conv0
            .forward(&hidden)
            .add_channel_bias(&self.shift.forward(embedding).to_kind(x.kind()));
        let hidden = self.drop(&norm1.forward(&hidden).silu(), dropout);
        let shortcut = match &self.skip {
            Some(skip) => skip.forward(&self.resample.forward(x)),
            None => x.clone(),
        };
        let y = conv1.forward(&hidden).add(&shortcut).scale(SHARE);
        match &self.attention {
            Some(attention) => attention.forward(&y),
            None => y,
        }
    }

    /// Of an input of so many pixels. Norms, SiLUs, the mask of dropout, filters and convolutions keep what they take.
    pub(super) fn flops(&self, pixels: i64) -> Flops {
        let BlockShape {
            inputs,
            outputs,
            resize,
            ..
        } = self.shape;
        let after = resize.pixels(pixels);
        let [conv0, conv1] = &self.convolutions;
        let dropout = i64::from(self.dropout > 0.0);
        let skip = self.skip.as_ref().map(|skip| {
            skip.flops(after)
                + match resize {
                    // The first norm has the same input.
                    Resize::Keep => Flops::copy_factors(after * inputs),
                    _ => Flops::keep_factors(after * inputs),
                }
        });
        let attention = self.attention.as_ref().map(|layer| layer.flops(after));
        Flops::keep(pixels * 2 * inputs + after * (2 + dropout) * outputs)
            + Flops::keep_factors(after * (inputs + outputs))
            + self.resample.flops(pixels) * 2
            + conv0.flops(after)
            + self.shift.flops(1)
            + conv1.flops(after)
            + [skip, attention].into_iter().flatten().sum()
    }

    /// How many pixels the result has.
    pub(super) fn pixels(&self, before: i64) -> i64 {
        self.shape.resize.pixels(before)
    }

    fn drop(&self, x: &Dual, dropout: Option<Dropout>) -> Dual {
        match dropout {
            Some(dropout) if self.dropout > 0.0 => {
                x.mul_const(&dropout.mask(self.layer, self.dropout, x.primal()))
            }
            _ => x.clone(),
        }
    }
}

/// `1/√2` keeps the variance of a sum of two.
const SHARE: f64 = std::f64::consts::FRAC_1_SQRT_2;

/// Attention of one head between the pixels of a picture.
#[derive(Clone, Debug)]
struct Attention {
    norm: GroupNorm,
    query_key_value: Convolution,
    projection: Convolution,
}

impl Attention {
    /// Published gain of the projection to queries, keys and values: `√0.2`.
    const GAIN: f64 = 0.447_213_595_499_957_9;

    fn new(vars: &mut VarBuilder, channels: i64) -> Self {
        Self {
            norm: GroupNorm::new(&mut vars.sub("norm2"), channels),
            query_key_value: Convolution::new(
                &mut vars.sub("qkv"),
                channels,
                3 * channels,
                1,
                Self::GAIN,
            ),
            projection: Convolution::new(&mut vars.sub("proj"), channels, channels, 1, SMALL),
        }
    }

    /// Beside the inputs of norm and maps, queries, keys and values are kept, and the result before it is put in order.
    fn flops(&self, pixels: i64) -> Flops {
        let channels = self.norm.channels();
        self.query_key_value.flops(pixels)
            + Flops::attention(pixels, channels)
            + self.projection.flops(pixels)
            + Flops::keep(pixels * channels)
            + Flops::keep_factors(6 * pixels * channels)
    }

    /// `[B, C, H, W]` to the same.
    fn forward(&self, x: &Dual) -> Dual {
        let projected = self.query_key_value.forward(&self.norm.forward(x));
        let projected = projected.to_kind(self.query_key_value.branch_kind());
        let [q, k, v] = [0, 1, 2].map(|part| {
            projected.map_linear(|x| {
                let (rows, channels, height, width) = x.size4().expect("[B, 3 C, H, W]");
                x.view([rows, 3, channels / 3, height * width])
                    .select(1, part)
                    .transpose(1, 2)
                    .unsqueeze(1)
            })
        });
        let size = x.primal().size();
        let attended = Dual::attention(&q, &k, &v).map_linear(|x| {
            x.squeeze_dim(1)
                .transpose(1, 2)
                .reshape([-1, size[1], size[2], size[3]])
        });
        self.projection.forward(&attended).add(x).scale(SHARE)
    }
}
