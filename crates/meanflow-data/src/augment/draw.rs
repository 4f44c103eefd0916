//! What happens to a picture, and what the network is told of it.

use std::f64::consts::PI;

use meanflow_core::random::RngStream;

use super::mirror;
use super::resample::{Affine, resample};

/// Numbers that tell a network of an augmentation.
pub const LABELS: usize = 6;

/// Standard deviation of the binary logarithm of a scale or stretch.
const SCALE_STD: f64 = 0.2;
/// Standard deviation of a shift, over the side of the picture.
const SHIFT_STD: f64 = 0.125;
/// Share of the stretches that are along a random direction rather than an axis.
const TURNED: f64 = 0.5;

/// How one picture is augmented: mirrored, then scaled, stretched and shifted about its centre.
///
/// Zeros are the identity: a picture that is only mirrored, or nothing at all, is not resampled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augmentation {
    /// Left becomes right.
    pub mirror: bool,
    /// The picture grows by 2^(0.2 · scale).
    pub scale: f64,
    /// The picture grows by 2^(0.2 · stretch) along a direction and shrinks as much across it.
    pub stretch: f64,
    /// That direction, as an angle from the x axis (right) towards the top of the picture.
    pub angle: f64,
    /// The picture moves by these multiples of an eighth of its width to the right and of its height down.
    pub shift: [f64; 2],
}

impl Augmentation {
    /// Draws one: mirrored with even odds; scaled, stretched and shifted with `probability` each, by normal amounts.
    ///
    /// Every draw takes the same number of words from the stream, whatever comes out.
    pub fn draw(probability: f64, stream: &mut RngStream) -> Self {
        let mirror = stream.uniform() < 0.5;
        let mut applied = || stream.uniform() < probability;
        let [scaled, stretched, shifted] = [applied(), applied(), applied()];
        let turned = stream.uniform() < TURNED;
        let angle = (2.0 * stream.uniform() - 1.0) * PI;
        let mut normal = |applied: bool| {
            let number = stream.normal();
            if applied { number } else { 0.0 }
        };
        Self {
            mirror,
            scale: normal(scaled),
            stretch: normal(stretched),
            angle: if turned { angle } else { 0.0 },
            shift: [normal(shifted), normal(shifted)],
        }
    }

    /// What the network is told: mirrored or not, scale, stretch times cosine and sine of its direction, both shifts;
    /// 0 for all that was not done.
    pub fn labels(self) -> [f32; LABELS] {
        let (sin, cos) = libm::sincos(self.angle);
        let mirror = if self.mirror { 1.0 } else { 0.0 };
        let [right, down] = self.shift;
        [
            mirror,
            self.scale,
            self.stretch * cos,
            self.stretch * sin,
            right,
            down,
        ]
        .map(|number| number as f32)
    }

    /// Augments a picture.
    ///
    /// # Shapes
    /// `picture` is `[C, H, W]` with `shape = [C, H, W]`.
    pub fn apply(self, picture: &mut [f32], shape: [usize; 3]) {
        if self.mirror {
            mirror(picture, shape[2]);
        }
        let origins = self.origins(shape);
        if origins != Affine::IDENTITY {
            let resampled = resample(picture, shape, origins);
            picture.copy_from_slice(&resampled);
        }
    }

    /// Where the value at a place of the augmented picture comes from: all but the mirror undone, the last first.
    fn origins(self, [_, height, width]: [usize; 3]) -> Affine {
        let [right, down] = self.shift;
        let shift = Affine::shift(
            -right * SHIFT_STD * width as f64,
            -down * SHIFT_STD * height as f64,
        );
        let grow = libm::exp2(SCALE_STD * self.stretch);
        let (turn, back) = (Affine::turn(self.angle), Affine::turn(-self.angle));
        let stretch = back.after(Affine::scale(1.0 / grow, grow)).after(turn);
        let stretch = if self.stretch == 0.0 {
            Affine::IDENTITY
        } else {
            stretch
        };
        let shrink = libm::exp2(-SCALE_STD * self.scale);
        Affine::scale(shrink, shrink).after(stretch).after(shift)
    }
}
