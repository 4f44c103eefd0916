//! The parts of encoder and decoder.
//!
//! Legend: `B` samples, `C` channels, pictures `[B, C, H, W]`.

use super::VaeConfig;
use crate::Dual;
use crate::layers::{Convolution, GroupNorm, Linear};
use crate::model::parameters::VarBuilder;

/// Two convolutions, each after a norm and SiLU, added to the input.
#[derive(Debug)]
pub(super) struct Residual {
    norms: [GroupNorm; 2],
    convolutions: [Convolution; 2],
    shortcut: Option<Convolution>,
}

impl Residual {
    /// Declares `norm1`, `conv1`, `norm2`, `conv2`, and `conv_shortcut` where the number of channels changes.
    pub(super) fn new(vars: &mut VarBuilder, inputs: i64, outputs: i64, groups: i64) -> Self {
        let norm1 = GroupNorm::in_groups(&mut vars.sub("norm1"), inputs, groups);
        let conv1 = Convolution::new(&mut vars.sub("conv1"), inputs, outputs, 3, 1.0);
        let norm2 = GroupNorm::in_groups(&mut vars.sub("norm2"), outputs, groups);
        let conv2 = Convolution::new(&mut vars.sub("conv2"), outputs, outputs, 3, 1.0);
        let mut shortcut =
            || Convolution::new(&mut vars.sub("conv_shortcut"), inputs, outputs, 1, 1.0);
        Self {
            norms: [norm1, norm2],
            convolutions: [conv1, conv2],
            shortcut: (inputs != outputs).then(&mut shortcut),
        }
    }

    /// `[B, inputs, H, W]` to `[B, outputs, H, W]`.
    pub(super) fn forward(&self, x: &Dual) -> Dual {
        let [norm1, norm2] = &self.norms;
        let [conv1, conv2] = &self.convolutions;
        let hidden = conv1.forward(&norm1.forward(x).silu());
        let hidden = conv2.forward(&norm2.forward(&hidden).silu());
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x).add(&hidden),
            None => x.add(&hidden),
        }
    }
}

/// The lowest resolution: a residual block, attention, a residual block.
#[derive(Debug)]
pub(super) struct Middle {
    residuals: [Residual; 2],
    attention: Option<Attention>,
}

impl Middle {
    /// Declares `resnets.{0,1}` and `attentions.0`.
    pub(super) fn new(vars: &mut VarBuilder, config: &VaeConfig, channels: i64) -> Self {
        let groups = config.norm_num_groups;
        let mut residual = |index: i64| {
            Residual::new(
                &mut vars.sub(format!("resnets.{index}")),
                channels,
                channels,
                groups,
            )
        };
        let residuals = [residual(0), residual(1)];
        let attention = config
            .attention
            .then(|| Attention::new(&mut vars.sub("attentions.0"), channels, groups));
        Self {
            residuals,
            attention,
        }
    }

    /// `[B, C, H, W]` to the same.
    pub(super) fn forward(&self, x: &Dual) -> Dual {
        let [first, second] = &self.residuals;
        let x = first.forward(x);
        let x = match &self.attention {
            Some(attention) => attention.forward(&x),
            None => x,
        };
        second.forward(&x)
    }
}

/// Attention of one head between the pixels, added to the input.
#[derive(Debug)]
struct Attention {
    norm: GroupNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    projection: Linear,
}

impl Attention {
    /// Declares `group_norm`, `to_q`, `to_k`, `to_v` and `to_out.0`.
    fn new(vars: &mut VarBuilder, channels: i64, groups: i64) -> Self {
        let norm = GroupNorm::in_groups(&mut vars.sub("group_norm"), channels, groups);
        let mut linear = |name: &str| Linear::xavier(&mut vars.sub(name), channels, channels);
        Self {
            norm,
            query: linear("to_q"),
            key: linear("to_k"),
            value: linear("to_v"),
            projection: linear("to_out.0"),
        }
    }

    /// `[B, C, H, W]` to the same.
    fn forward(&self, x: &Dual) -> Dual {
        // [B, H·W, C].
        let pixels = self
            .norm
            .forward(x)
            .map_linear(|x| x.flatten(2, 3).transpose(1, 2));
        let heads = |linear: &Linear| linear.forward(&pixels).map_linear(|x| x.unsqueeze(1));
        let (query, key, value) = (heads(&self.query), heads(&self.key), heads(&self.value));
        let attended = Dual::attention(&query, &key, &value).map_linear(|x| x.squeeze_dim(1));
        let size = x.primal().size();
        let projected = self.projection.forward(&attended).map_linear(|x| {
            let picture = x.transpose(1, 2);
            picture.reshape([-1, size[1], size[2], size[3]])
        });
        x.add(&projected)
    }
}
