//! From pictures down to latents, and up again.

use super::VaeConfig;
use super::block::{Middle, Residual};
use crate::Dual;
use crate::layers::{Convolution, GroupNorm, HalvingConvolution};
use crate::model::parameters::VarBuilder;

/// Residual blocks of one resolution, then the way to the next, if there is one.
#[derive(Debug)]
struct Level<R> {
    residuals: Vec<Residual>,
    resize: Option<R>,
}

impl<R> Level<R> {
    /// Declares `resnets.{0,…}` with so many `layers`.
    fn new(
        vars: &mut VarBuilder,
        (inputs, outputs): (i64, i64),
        layers: i64,
        groups: i64,
        resize: Option<R>,
    ) -> Self {
        let residual = |index: i64| {
            let inputs = if index == 0 { inputs } else { outputs };
            let mut vars = vars.sub(format!("resnets.{index}"));
            Residual::new(&mut vars, inputs, outputs, groups)
        };
        Self {
            residuals: (0..layers).map(residual).collect(),
            resize,
        }
    }

    fn forward(&self, x: &Dual, resize: impl Fn(&R, &Dual) -> Dual) -> Dual {
        let blocks = self.residuals.iter();
        let x = blocks.fold(x.clone(), |x, block| block.forward(&x));
        match &self.resize {
            Some(by) => resize(by, &x),
            None => x,
        }
    }
}

/// What both ways end with.
#[derive(Debug)]
struct Tail {
    norm: GroupNorm,
    convolution: Convolution,
}

impl Tail {
    /// Declares `conv_norm_out` and `conv_out`.
    fn new(vars: &mut VarBuilder, inputs: i64, outputs: i64, groups: i64) -> Self {
        Self {
            norm: GroupNorm::in_groups(&mut vars.sub("conv_norm_out"), inputs, groups),
            convolution: Convolution::new(&mut vars.sub("conv_out"), inputs, outputs, 3, 1.0),
        }
    }

    fn forward(&self, x: &Dual) -> Dual {
        self.convolution.forward(&self.norm.forward(x).silu())
    }
}

/// Pictures `[B, in_channels, H, W]` to means and logarithms of variances `[B, 2·latent_channels, h, w]`.
#[derive(Debug)]
pub(super) struct Encoder {
    first: Convolution,
    levels: Vec<Level<HalvingConvolution>>,
    middle: Middle,
    tail: Tail,
}

impl Encoder {
    /// Declares `conv_in`, `down_blocks.{0,…}`, `mid_block`, `conv_norm_out` and `conv_out`.
    pub(super) fn new(vars: &mut VarBuilder, config: &VaeConfig) -> Self {
        let (widths, groups) = (&config.block_out_channels, config.norm_num_groups);
        let last = widths[widths.len() - 1];
        let first = Convolution::new(
            &mut vars.sub("conv_in"),
            config.in_channels,
            widths[0],
            3,
            1.0,
        );
        let mut inputs = widths[0];
        let mut levels = Vec::new();
        for (index, &outputs) in widths.iter().enumerate() {
            let mut vars = vars.sub(format!("down_blocks.{index}"));
            let halve = (index + 1 < widths.len())
                .then(|| HalvingConvolution::new(&mut vars.sub("downsamplers.0.conv"), outputs));
            let (ends, layers) = ((inputs, outputs), config.layers_per_block);
            levels.push(Level::new(&mut vars, ends, layers, groups, halve));
            inputs = outputs;
        }
        Self {
            first,
            levels,
            middle: Middle::new(&mut vars.sub("mid_block"), config, last),
            tail: Tail::new(vars, last, 2 * config.latent_channels, groups),
        }
    }

    pub(super) fn forward(&self, pictures: &Dual) -> Dual {
        let levels = self.levels.iter();
        let x = levels.fold(self.first.forward(pictures), |x, level| {
            level.forward(&x, HalvingConvolution::forward)
        });
        self.tail.forward(&self.middle.forward(&x))
    }
}

/// Latents `[B, latent_channels, h, w]` to pictures `[B, out_channels, H, W]`.
#[derive(Debug)]
pub(super) struct Decoder {
    first: Convolution,
    middle: Middle,
    levels: Vec<Level<Convolution>>,
    tail: Tail,
}

impl Decoder {
    /// Declares `conv_in`, `mid_block`, `up_blocks.{0,…}`, `conv_norm_out` and `conv_out`.
    pub(super) fn new(vars: &mut VarBuilder, config: &VaeConfig) -> Self {
        let (widths, groups) = (&config.block_out_channels, config.norm_num_groups);
        let lowest = widths[widths.len() - 1];
        let first = Convolution::new(
            &mut vars.sub("conv_in"),
            config.latent_channels,
            lowest,
            3,
            1.0,
        );
        let middle = Middle::new(&mut vars.sub("mid_block"), config, lowest);
        let mut inputs = lowest;
        let mut levels = Vec::new();
        for (index, &outputs) in widths.iter().rev().enumerate() {
            let mut vars = vars.sub(format!("up_blocks.{index}"));
            let double = (index + 1 < widths.len()).then(|| {
                let mut vars = vars.sub("upsamplers.0.conv");
                Convolution::new(&mut vars, outputs, outputs, 3, 1.0)
            });
            let (ends, layers) = ((inputs, outputs), config.layers_per_block + 1);
            levels.push(Level::new(&mut vars, ends, layers, groups, double));
            inputs = outputs;
        }
        Self {
            first,
            middle,
            levels,
            tail: Tail::new(vars, inputs, config.out_channels, groups),
        }
    }

    pub(super) fn forward(&self, latents: &Dual) -> Dual {
        let x = self.middle.forward(&self.first.forward(latents));
        let levels = self.levels.iter();
        let x = levels.fold(x, |x, level| {
            level.forward(&x, |convolution, x| {
                convolution.forward(&x.upsample_nearest())
            })
        });
        self.tail.forward(&x)
    }
}
