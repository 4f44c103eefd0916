//! Inception Score: sure about each picture, undecided about all of them.

use tch::{Kind, Tensor};

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
    if splits == 0 {
        let (what, needed, got) = ("parts of the Inception Score", 1, 0);
        return Err(EvalError::TooFew { what, needed, got });
    }
    matrix::at_least("Inception Score", splits, &logits)?;
    let log_probabilities = logits.log_softmax(1, Kind::Double);
    let (count, splits) = (logits.size()[0], splits as i64);
    let scores = (0..splits).map(|split| {
        let (start, end) = (split * count / splits, (split + 1) * count / splits);
        score(&log_probabilities.narrow(0, start, end - start))
    });
    Ok(Spread::of(scores.collect()))
}

fn score(log_probabilities: &Tensor) -> f64 {
    let probabilities = log_probabilities.exp();
    let marginal = probabilities.mean_dim(0, true, None::<Kind>);
    // A class that nobody has is 0 · (−∞ − −∞) otherwise.
    let log_marginal = marginal.clamp_min(f64::MIN_POSITIVE).log();
    let divergence = (probabilities * (log_probabilities - log_marginal)).sum_dim_intlist(
        1,
        false,
        None::<Kind>,
    );
    divergence.mean(Kind::Double).double_value(&[]).exp()
}
