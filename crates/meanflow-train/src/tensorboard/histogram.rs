//! How numbers are spread, in buckets of equal width.

/// Buckets between the smallest and the largest number.
const BUCKETS: usize = 30;

/// The distribution of some numbers, in the fields of TensorBoard's `HistogramProto`.
#[derive(Debug, PartialEq)]
pub(super) struct Histogram {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sum: f64,
    /// The sum of the squares.
    pub(super) squares: f64,
    /// The upper end of every bucket; the first begins at `min`.
    pub(super) limits: Vec<f64>,
    /// How many numbers are in every bucket.
    pub(super) counts: Vec<f64>,
}

impl Histogram {
    /// Of the numbers that are finite; none where there is no such.
    pub(super) fn of(numbers: &[f64]) -> Option<Self> {
        let finite = || numbers.iter().copied().filter(|number| number.is_finite());
        let (min, max) = (finite().reduce(f64::min)?, finite().reduce(f64::max)?);
        let buckets = if min < max { BUCKETS } else { 1 };
        let width = (max - min) / buckets as f64;
        let mut counts = vec![0.0; buckets];
        for number in finite() {
            // 0/0 of a single bucket is no number, which is cast to 0.
            counts[(((number - min) / width) as usize).min(buckets - 1)] += 1.0;
        }
        let limit = |bucket: usize| {
            if bucket == buckets {
                max
            } else {
                min + width * bucket as f64
            }
        };
        Some(Self {
            min,
            max,
            sum: finite().sum(),
            squares: finite().map(|number| number * number).sum(),
            limits: (1..=buckets).map(limit).collect(),
            counts,
        })
    }

    /// How many numbers there are.
    pub(super) fn count(&self) -> f64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_number_is_in_the_bucket_that_holds_it(numbers in proptest::collection::vec(0.0..1e6_f64, 1..100)) {
            let histogram = Histogram::of(&numbers).unwrap();
            prop_assert_eq!(histogram.count(), numbers.len() as f64);
            prop_assert_eq!(histogram.limits.last(), Some(&histogram.max));
            prop_assert!(histogram.limits.is_sorted());
            // Below a limit are the numbers of the buckets up to it. Rounding may put a number on a limit to either side.
            let near = 1e-9 * histogram.max;
            let mut below = 0.0;
            for (limit, count) in histogram.limits.iter().zip(&histogram.counts) {
                below += count;
                let up_to = |end: f64| numbers.iter().filter(|number| **number <= end).count() as f64;
                prop_assert!(up_to(limit - near) <= below && below <= up_to(limit + near));
            }
        }
    }

    #[test]
    fn sums_are_those_of_the_finite_numbers() {
        let histogram = Histogram::of(&[1.0, f64::NAN, 3.0, f64::INFINITY]).unwrap();
        assert_eq!((histogram.min, histogram.max), (1.0, 3.0));
        assert_eq!((histogram.sum, histogram.squares), (4.0, 10.0));
        assert_eq!(Histogram::of(&[f64::NAN]), None);
        let equal = Histogram::of(&[2.0, 2.0]).unwrap();
        assert_eq!((equal.limits, equal.counts), (vec![2.0], vec![2.0]));
    }
}
