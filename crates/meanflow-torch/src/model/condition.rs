//! What a network is told besides a state and its times.

use meanflow_core::random::{Purpose, RngStream};
use meanflow_libtorch::{done, operations};
use tch::{Tensor, no_grad};

/// The class and the augmentation of every row, and whether units are dropped.
#[derive(Debug, Default)]
pub struct Conditioning {
    /// The class of every row, `[B]` (int64), for a network with classes.
    pub labels: Option<Tensor>,
    /// How the picture of every row was augmented, `[B, numbers]`; none: not at all.
    pub augment: Option<Tensor>,
    /// Which units are dropped; none: none, as outside training.
    pub dropout: Option<Dropout>,
}

impl Conditioning {
    /// Rows with these classes, nothing else.
    pub fn of_labels(labels: Option<Tensor>) -> Self {
        Self {
            labels,
            ..Self::default()
        }
    }

    /// The condition of the first `count` rows; they drop the units that they drop in the whole batch.
    pub(crate) fn first(&self, count: i64) -> Self {
        let first = |x: &Tensor| x.narrow(0, 0, count);
        Self {
            labels: self.labels.as_ref().map(first),
            augment: self.augment.as_ref().map(first),
            dropout: self.dropout,
        }
    }
}

/// The dropped units of one step: the same for every pass with the same seed, whichever rows it computes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dropout {
    /// Decides which.
    pub seed: u64,
    /// Rows `B` of the whole batch.
    pub rows: i64,
}

impl Dropout {
    /// `0` for a dropped unit and `1 / (1 − rate)` for another, for the rows of `like [k, …]`; `layer` counts the layers
    /// that drop.
    pub fn mask(self, layer: u64, rate: f64, like: &Tensor) -> Tensor {
        let mut size = like.size();
        let rows = std::mem::replace(&mut size[0], self.rows);
        let seed = RngStream::new(self.seed, Purpose::Dropout, layer).below(u64::MAX);
        no_grad(|| {
            let mask = Tensor::empty(&size, (like.kind(), like.device()));
            done(operations::fill_bernoulli(&mask, 1.0 - rate, seed));
            let mut mask = mask.narrow(0, 0, rows);
            mask.g_mul_scalar_(1.0 / (1.0 - rate))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn mask(seed: u64, layer: u64, rows: i64, of: i64) -> Tensor {
        let like = Tensor::zeros([rows, 50, 10], (Kind::Double, Device::Cpu));
        Dropout { seed, rows: of }.mask(layer, 0.2, &like)
    }

    #[test]
    fn a_mask_keeps_the_mean() {
        let mask = mask(1, 0, 40, 40);
        let kept = mask.gt(0.0).to_kind(Kind::Double);
        assert_eq!(mask, &kept * 1.25, "0 or 1 / (1 − 0.2)");
        // Four standard deviations of 20,000 draws.
        let share = kept.mean(None::<Kind>).double_value(&[]);
        assert!(
            (share - 0.8).abs() < 4.0 * (0.16_f64 / 20_000.0).sqrt(),
            "{share}"
        );
    }

    #[test]
    fn a_mask_is_a_function_of_seed_layer_and_row() {
        let all = mask(1, 0, 8, 8);
        assert_eq!(all, mask(1, 0, 8, 8));
        assert_eq!(all.narrow(0, 0, 3), mask(1, 0, 3, 8));
        assert_ne!(all, mask(2, 0, 8, 8));
        assert_ne!(all, mask(1, 1, 8, 8));
    }
}
