//! Rules of convolutional networks.
//!
//! Shapes: `B` rows, `C` channels, pictures `[B, C, H, W]`.

use tch::{Tensor, no_grad};

use super::{Dual, head};
use meanflow_libtorch::{done, operations};

impl Dual {
    /// Convolution of stride 1 in the weight's dtype; weight `[out, C, n, n]`, bias `[out]`, zeros around the
    /// picture.
    pub fn conv2d(&self, weight: &Tensor, bias: &Tensor, padding: i64) -> Self {
        let apply = |x: &Tensor, bias: Option<&Tensor>| {
            x.conv2d(weight, bias, [1, 1], [padding, padding], [1, 1], 1)
        };
        let x = self.to_kind(weight.kind());
        x.with_rule(apply(&x.primal, Some(bias)), |dx, _| apply(dx, None))
    }

    /// Convolution of stride 2 with zeros right of and below the picture only; weight `[out, C, 3, 3]`, bias `[out]`; half
    /// the height and width where they are even.
    pub fn conv2d_stride2(&self, weight: &Tensor, bias: &Tensor) -> Self {
        let apply = |x: &Tensor, bias: Option<&Tensor>| {
            let padded = x.constant_pad_nd([0, 1, 0, 1]);
            padded.conv2d(weight, bias, [2, 2], [0, 0], [1, 1], 1)
        };
        self.with_rule(apply(&self.primal, Some(bias)), |dx, _| apply(dx, None))
    }

    /// Twice the height and width: every pixel becomes four.
    pub fn upsample_nearest(&self) -> Self {
        self.map_linear(|x| {
            let size = x.size();
            x.upsample_nearest2d([2 * size[2], 2 * size[3]], None, None)
        })
    }

    /// Half the height and width: every channel filtered by `filter [C, 1, n, n]`, every second pixel kept.
    pub fn halve(&self, filter: &Tensor) -> Self {
        let [channels, .., side] = filter.size()[..] else {
            unreachable!("a filter is [C, 1, n, n]")
        };
        let pad = (side - 1) / 2;
        self.map_linear(|x| {
            x.conv2d(
                filter,
                None::<&Tensor>,
                [2, 2],
                [pad, pad],
                [1, 1],
                channels,
            )
        })
    }

    /// Twice the height and width, the adjoint of [`halve`](Self::halve) times 4; `filter [C, 1, n, n]`.
    pub fn double(&self, filter: &Tensor) -> Self {
        let [channels, .., side] = filter.size()[..] else {
            unreachable!("a filter is [C, 1, n, n]")
        };
        let (pad, filter) = ((side - 1) / 2, filter * 4.0);
        self.map_linear(|x| {
            x.conv_transpose2d(
                &filter,
                None::<&Tensor>,
                [2, 2],
                [pad, pad],
                [0, 0],
                channels,
                [1, 1],
            )
        })
    }

    /// Group norm over `groups` of channels, then `weight · x + bias` a channel; `weight` and `bias` `[C]`.
    pub fn group_norm(&self, groups: i64, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Self {
        let x = self.primal.contiguous();
        let size = x.size();
        let pixels = size[2..].iter().product();
        let (primal, mean, rstd) = x.native_group_norm(
            Some(weight),
            Some(bias),
            size[0],
            size[1],
            pixels,
            groups,
            epsilon,
        );
        let tangent = self.tangent.as_ref().map(|dx| {
            no_grad(|| {
                let [x, mean, rstd] = [&x, &mean, &rstd].map(|all| head(all, dx));
                // The Jacobian without the affine part is symmetric: the backward kernel is the forward derivative.
                let dx = dx.contiguous();
                let mut dy = done(operations::group_norm_backward(
                    &dx, &x, &mean, &rstd, groups,
                ));
                dy.g_mul_(&weight.detach().reshape([-1, 1, 1]))
            })
        });
        Self { primal, tangent }
    }

    /// A number added to every channel; `shift [B, C]`.
    pub fn add_channel_bias(&self, shift: &Self) -> Self {
        let pixel = |shift: &Tensor| shift.unsqueeze(-1).unsqueeze(-1);
        let tangent = match (&self.tangent, &shift.tangent) {
            (Some(dx), Some(ds)) => Some(no_grad(|| dx + pixel(ds))),
            (Some(dx), None) => Some(dx.shallow_clone()),
            (None, Some(ds)) => Some(no_grad(|| {
                let mut size = self.primal.size();
                size[0] = ds.size()[0];
                pixel(ds).expand(size, false).contiguous()
            })),
            (None, None) => None,
        };
        Self {
            primal: &self.primal + pixel(&shift.primal),
            tangent,
        }
    }
}
