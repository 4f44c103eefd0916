//! Which samples a step sees: a function of (seed, step), so that a run resumes from its step number alone.

use std::num::NonZeroUsize;

use meanflow_core::random::{Purpose, RngStream};

/// The endless stream of sample indices: one permutation of `0..len` after the other, cut into batches.
///
/// Epoch k is the permutation drawn from the stream (seed, [`Purpose::Order`], k). Batches run across the border of
/// two epochs: every sample is seen exactly once an epoch, every batch is full, and a batch may be longer than the data.
///
/// ```
/// use std::num::NonZeroUsize;
/// use meanflow_data::EpochOrder;
///
/// let number = |n| NonZeroUsize::new(n).unwrap();
/// let mut order = EpochOrder::new(number(10), number(5), 0);
/// // Two batches of five are an epoch of ten.
/// let mut seen = [order.batch_at(0), order.batch_at(1)].concat();
/// seen.sort_unstable();
/// assert_eq!(seen, (0..10).collect::<Vec<_>>());
/// ```
#[derive(Clone, Debug)]
pub struct EpochOrder {
    len: NonZeroUsize,
    batch: NonZeroUsize,
    seed: u64,
    /// The epoch drawn last and its permutation: a cache, without influence on any result.
    drawn: Option<(u64, Vec<usize>)>,
}

impl EpochOrder {
    /// The order of `len` samples in batches of `batch`.
    pub fn new(len: NonZeroUsize, batch: NonZeroUsize, seed: u64) -> Self {
        Self {
            len,
            batch,
            seed,
            drawn: None,
        }
    }

    /// The batch of a step, counted from 0: positions `step · batch ..` of the stream.
    ///
    /// Steps may be asked for in any order; going on to the next one costs no shuffle within an epoch.
    ///
    /// # Panics
    /// When the position does not fit in 64 bits, which no training reaches.
    pub fn batch_at(&mut self, step: u64) -> Vec<usize> {
        let (len, batch) = (self.len.get(), self.batch.get());
        let start = step
            .checked_mul(batch as u64)
            .expect("a position below 2⁶⁴");
        let (mut epoch, mut place) = (start / len as u64, (start % len as u64) as usize);
        let mut indices = Vec::with_capacity(batch);
        while indices.len() < batch {
            let end = len.min(place + batch - indices.len());
            indices.extend_from_slice(&self.epoch(epoch)[place..end]);
            (epoch, place) = (epoch + 1, 0);
        }
        indices
    }

    /// The permutation of an epoch.
    fn epoch(&mut self, epoch: u64) -> &[usize] {
        let drawn = self
            .drawn
            .take()
            .filter(|(drawn, _)| *drawn == epoch)
            .unwrap_or_else(|| {
                let mut indices: Vec<usize> = (0..self.len.get()).collect();
                RngStream::new(self.seed, Purpose::Order, epoch).shuffle(&mut indices);
                (epoch, indices)
            });
        &self.drawn.insert(drawn).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(len: usize, batch: usize, seed: u64) -> EpochOrder {
        let size = |size| NonZeroUsize::new(size).unwrap();
        EpochOrder::new(size(len), size(batch), seed)
    }

    /// Sizes with the nasty cases: one sample, batches that divide the data, miss it by one, or hold it many times.
    fn sizes() -> impl Strategy<Value = (usize, usize)> {
        (1_usize..300).prop_flat_map(|len| {
            let batch = prop_oneof![
                1_usize..64,
                Just(len),
                Just(len + 1),
                Just((len - 1).max(1)),
                Just(3 * len + 1),
            ];
            (Just(len), batch)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn every_epoch_is_a_permutation((len, batch) in sizes(), seed: u64) {
            let steps = (3 * len).div_ceil(batch) as u64;
            let mut order = order(len, batch, seed);
            let stream: Vec<_> = (0..steps).flat_map(|step| order.batch_at(step)).collect();
            prop_assert_eq!(stream.len(), steps as usize * batch);
            for epoch in stream.chunks_exact(len) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                prop_assert!(sorted.into_iter().eq(0..len));
            }
        }

        #[test]
        fn resuming_anywhere_gives_the_uninterrupted_stream(
            (len, batch) in sizes(), seed: u64, resume in 0_u64..40, near_end: bool,
        ) {
            let first = if near_end { u64::MAX / batch as u64 - 50 } else { 0 };
            let mut whole = order(len, batch, seed);
            let stream: Vec<_> = (first..first + 50).map(|step| whole.batch_at(step)).collect();
            let mut resumed = order(len, batch, seed);
            for step in resume..50 {
                prop_assert_eq!(&resumed.batch_at(first + step), &stream[step as usize]);
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let mut first = order(100, 100, 1);
        assert_ne!(first.batch_at(0), first.batch_at(1));
        assert_ne!(first.batch_at(0), order(100, 100, 2).batch_at(0));
    }
}
