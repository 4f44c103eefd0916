//! Where in (r, t) the network errs: `v_loss` by quarters of both times.

use meanflow_core::times::TimeDraw;
use serde::{Deserialize, Serialize};

/// Quarters of the unit interval.
const QUARTERS: usize = 4;

/// The mean of `‖u − v_t‖²` over the rows of a batch with `t` in quarter `i` and `r` in quarter `j`, at `[i][j]`; none
/// where the batch has no such row, as above the diagonal, where `r > t`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Bins([[Option<f64>; QUARTERS]; QUARTERS]);

impl Bins {
    /// The means of these losses, one a row of `times`.
    pub fn new(times: &TimeDraw, losses: &[f64]) -> Self {
        let (mut sums, mut counts) = ([[0.0; QUARTERS]; QUARTERS], [[0_u32; QUARTERS]; QUARTERS]);
        for (interval, loss) in times.intervals.iter().zip(losses) {
            let (i, j) = (quarter(interval.t()), quarter(interval.r()));
            sums[i][j] += loss;
            counts[i][j] += 1;
        }
        let mean =
            |i: usize, j: usize| (counts[i][j] > 0).then(|| sums[i][j] / f64::from(counts[i][j]));
        Self(std::array::from_fn(|i| std::array::from_fn(|j| mean(i, j))))
    }

    /// Every mean that there is, with the quarters of `t` and of `r`, counted from 0.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        let places = (0..QUARTERS).flat_map(|t| (0..QUARTERS).map(move |r| (t, r)));
        places.filter_map(|(t, r)| Some((t, r, self.get(t, r)?)))
    }

    /// The mean with `t` in quarter `t` and `r` in quarter `r`, counted from 0.
    pub fn get(&self, t: usize, r: usize) -> Option<f64> {
        *self.0.get(t)?.get(r)?
    }
}

fn quarter(time: f64) -> usize {
    ((time * QUARTERS as f64) as usize).min(QUARTERS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meanflow_core::interval::Interval;

    #[test]
    fn every_row_counts_in_its_bin() {
        let row = |r, t| Interval::new(r, t).unwrap();
        let intervals = vec![row(0.0, 1.0), row(0.1, 0.8), row(0.25, 0.3), row(1.0, 1.0)];
        let bins = Bins::new(
            &TimeDraw {
                intervals,
                jumps: 3,
            },
            &[1.0, 3.0, 5.0, 7.0],
        );
        assert_eq!(bins.get(3, 0), Some(2.0));
        assert_eq!(bins.get(1, 1), Some(5.0));
        assert_eq!(bins.get(3, 3), Some(7.0));
        assert_eq!(
            (bins.get(0, 0), bins.get(0, 3), bins.get(4, 0)),
            (None, None, None)
        );
        let json = serde_json::to_string(&bins).unwrap();
        assert_eq!(
            json,
            "[[null,null,null,null],[null,5.0,null,null],[null,null,null,null],[2.0,null,null,7.0]]"
        );
    }
}
