//! A figure that is a mean over parts of the samples.

/// Values of the parts, their mean and their population standard deviation.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// One value a part.
    pub values: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, divided by their number, as the reference implementations do.
    pub std: f64,
}

impl Spread {
    /// Of at least one part.
    pub(crate) fn of(values: Vec<f64>) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|value| (value - mean).powi(2));
        let std = (squares.sum::<f64>() / count).sqrt();
        Self { values, mean, std }
    }
}
