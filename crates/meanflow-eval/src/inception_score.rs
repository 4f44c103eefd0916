//! Inception Score: sure about each picture, undecided about all of them.

use tch::{Device, Kind, Tensor};

use crate::part::{Named, PartFile};
use crate::{EvalError, Spread, matrix};

/// `exp` of the mean Kullback–Leibler divergence of a picture's class probabilities from those of its part
/// (Salimans et al. 2016, arXiv:1606.03498), over `splits` parts of consecutive samples.
///
/// `logits` is `[N, K]`; the score lies between 1 and `K`. Part `i` holds the samples from `⌊iN/S⌋` to `⌊(i+1)N/S⌋`.
///
/// # Errors
/// [`EvalError::TooFew`] with fewer samples than parts, or no part; [`EvalError::Shape`]; [`EvalError::NotFinite`].
pub fn inception_score(logits: &Tensor, splits: u64) -> Result<Spread, EvalError> {
    let logits = matrix::checked("logits", logits)?;
    let [samples, classes] = [logits.size()[0], logits.size()[1]];
    let mut sums = ScoreSums::new(samples as u64, splits, classes)?;
    sums.update(0, &logits)?;
    sums.compute()
}

/// The sums that the score is made of, of samples that come in batches and shards, and are never all there.
///
/// The mean divergence of a part from its mean probabilities `p̄` is `(Σᵢ Σₖ pᵢₖ log pᵢₖ)/n − Σₖ p̄ₖ log p̄ₖ`, so `K + 1` numbers a part do,
/// in f64, however many samples come.
#[derive(Debug)]
pub struct ScoreSums {
    samples: u64,
    /// Samples seen of every part, `[S]`.
    seen: Tensor,
    /// `Σᵢ Σₖ pᵢₖ log pᵢₖ` of every part, `[S]`.
    certainty: Tensor,
    /// `Σᵢ pᵢₖ` of every part, `[S, K]`.
    probabilities: Tensor,
}

impl ScoreSums {
    /// Of no samples yet, of `samples` in all, in `splits` parts.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] with fewer samples than parts, or no part.
    pub fn new(samples: u64, splits: u64, classes: i64) -> Result<Self, EvalError> {
        let too_few = |what, needed, got| Err(EvalError::TooFew { what, needed, got });
        if splits == 0 {
            return too_few("parts of the Inception Score", 1, 0);
        }
        if samples < splits {
            return too_few("Inception Score", splits, samples);
        }
        let (splits, cpu) = (splits as i64, Device::Cpu);
        Ok(Self {
            samples,
            seen: Tensor::zeros([splits], (Kind::Int64, cpu)),
            certainty: Tensor::zeros([splits], (Kind::Double, cpu)),
            probabilities: Tensor::zeros([splits, classes], (Kind::Double, cpu)),
        })
    }

    /// Adds the samples from number `start` on, by their logits `[B, K]`.
    ///
    /// # Errors
    /// [`EvalError::Shape`] for another number of classes, or samples beyond the last; [`EvalError::NotFinite`].
    pub fn update(&mut self, start: u64, logits: &Tensor) -> Result<(), EvalError> {
        let logits = matrix::checked("logits", logits)?;
        let [count, classes] = [logits.size()[0], logits.size()[1]];
        let left = self.samples.saturating_sub(start) as i64;
        if classes != self.probabilities.size()[1] || count > left {
            return Err(EvalError::Shape {
                what: "logits",
                expected: format!("[at most {left}, {}]", self.probabilities.size()[1]),
                got: logits.size(),
            });
        }
        let log = logits.log_softmax(1, Kind::Double);
        let probabilities = log.exp();
        let certainty = (&probabilities * log).sum_dim_intlist(1, false, None::<Kind>);
        let parts: Vec<i64> = (0..count as u64).map(|i| self.part(start + i)).collect();
        let parts = Tensor::from_slice(&parts);
        let _ = self.seen.index_add_(0, &parts, &parts.ones_like());
        let _ = self.certainty.index_add_(0, &parts, &certainty);
        let _ = self.probabilities.index_add_(0, &parts, &probabilities);
        Ok(())
    }

    /// The part that a sample belongs to: the last `i` with `⌊iN/S⌋ ≤ sample`.
    fn part(&self, sample: u64) -> i64 {
        let (all, splits) = (u128::from(self.samples), self.seen.size()[0] as u128);
        (((u128::from(sample) + 1) * splits - 1) / all) as i64
    }

    /// Adds the samples that another shard has seen.
    ///
    /// # Errors
    /// [`EvalError::Shape`] for another number of parts or classes, or of samples in all.
    pub fn merge(&mut self, other: &Self) -> Result<(), EvalError> {
        let (size, got) = (self.probabilities.size(), other.probabilities.size());
        if size != got || self.samples != other.samples {
            return Err(EvalError::Shape {
                what: "sums of an Inception Score",
                expected: format!("{size:?} of {} samples", self.samples),
                got,
            });
        }
        self.seen += &other.seen;
        self.certainty += &other.certainty;
        self.probabilities += &other.probabilities;
        Ok(())
    }

    /// The score of every part.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] while samples are missing.
    pub fn compute(&self) -> Result<Spread, EvalError> {
        let got = self.seen.sum(Kind::Int64).int64_value(&[]) as u64;
        if got < self.samples {
            let (what, needed) = ("Inception Score", self.samples);
            return Err(EvalError::TooFew { what, needed, got });
        }
        let mean = &self.probabilities / self.seen.unsqueeze(1);
        // A class that nobody has is 0 · −∞ otherwise.
        let log = mean.clamp_min(f64::MIN_POSITIVE).log();
        let diversity = -(mean * log).sum_dim_intlist(1, false, None::<Kind>);
        let scores = (&self.certainty / &self.seen + diversity).exp();
        Ok(Spread::of(
            (0..scores.numel() as i64)
                .map(|part| scores.double_value(&[part]))
                .collect(),
        ))
    }

    /// As tensors of a [`PartFile`], under names that begin with `name`.
    pub fn state(&self, name: &str) -> Named {
        let named = |part: &str, tensor: &Tensor| (format!("{name}.{part}"), tensor.copy());
        vec![
            named("samples", &Tensor::from_slice(&[self.samples as i64])),
            named("seen", &self.seen),
            named("certainty", &self.certainty),
            named("probabilities", &self.probabilities),
        ]
    }

    /// Takes out of a file what [`ScoreSums::state`] put into it.
    ///
    /// # Errors
    /// [`EvalError::File`] if the tensors are not there, or do not fit each other.
    pub fn load(file: &mut PartFile, name: &str) -> Result<Self, EvalError> {
        let samples = file.take_counts(&format!("{name}.samples"), 1)?;
        let seen = file.take_counts(&format!("{name}.seen"), 1)?;
        let certainty = file.take_sums(&format!("{name}.certainty"), 1)?;
        let probabilities = file.take_sums(&format!("{name}.probabilities"), 2)?;
        let splits = seen.size()[0];
        if samples.numel() != 1 || certainty.size() != [splits] || probabilities.size()[0] != splits
        {
            let got = [
                samples.size(),
                seen.size(),
                certainty.size(),
                probabilities.size(),
            ];
            return Err(file.problem(format!(
                "{name}: expected samples [1], seen [S], certainty [S], probabilities [S, K], got {got:?}"
            )));
        }
        let samples = samples.int64_value(&[0]) as u64;
        Ok(Self {
            samples,
            seen,
            certainty,
            probabilities,
        })
    }
}
