//! A value over repetitions, with the interval that its spread allows.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The mean of a value over repetitions with other seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The 95 % interval of the mean by Student's distribution; `None` of a single repetition.
    pub interval: Option<[f64; 2]>,
    /// The value of every repetition.
    pub values: Vec<f64>,
}

impl Estimate {
    /// Of one value for each repetition.
    pub fn of(values: Vec<f64>) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let interval = students_quantile(values.len()).map(|quantile| {
            let half = quantile * (squares / (count - 1.0) / count).sqrt();
            [mean - half, mean + half]
        });
        Self {
            mean,
            interval,
            values,
        }
    }

    /// Half of the interval's width.
    pub fn half_width(&self) -> Option<f64> {
        self.interval.map(|[low, high]| (high - low) / 2.0)
    }
}

/// The 97.5 % quantile of Student's distribution with one degree of freedom less than there are values.
fn students_quantile(values: usize) -> Option<f64> {
    let freedom = values.checked_sub(1).filter(|&freedom| freedom > 0)?;
    let distribution = StudentsT::new(0.0, 1.0, freedom as f64).ok()?;
    Some(distribution.inverse_cdf(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_tables() {
        for (values, expected) in [
            (2, 12.706),
            (3, 4.303),
            (10, 2.262),
            (30, 2.045),
            (100, 1.984),
        ] {
            let found = students_quantile(values).unwrap();
            // Tables have three decimals.
            assert!((found - expected).abs() < 5.1e-4, "{values}: {found}");
        }
        assert_eq!(students_quantile(1), None);
    }

    #[test]
    fn an_interval_is_students() {
        // Mean 2, standard deviation 1, three values: 2 ± 4.303/√3; the closed form for two degrees is 0.95 √(2/(1 − 0.95²)).
        let estimate = Estimate::of(vec![1.0, 2.0, 3.0]);
        let quantile = 0.95 * (2.0_f64 / (1.0 - 0.95 * 0.95)).sqrt();
        let half = estimate.half_width().unwrap();
        // The quantile is found by iteration.
        assert!((half - quantile / 3.0_f64.sqrt()).abs() < 1e-9, "{half}");
        assert_eq!(estimate.mean, 2.0);
        assert!(Estimate::of(vec![5.0]).interval.is_none());
    }
}
