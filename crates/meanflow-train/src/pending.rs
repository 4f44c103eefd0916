//! The numbers of a step, which may lie on the device until somebody wants to know them.

use meanflow_core::times::TimeDraw;
use meanflow_torch::{Tensor, host};

use crate::{Bins, TrainError};

/// The numbers of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// The weighted loss that is minimised.
    pub loss: f64,
    /// Mean of `‖u − v_t‖²` over the batch.
    pub unweighted: f64,
    /// The same by quarters of t and r.
    pub bins: Bins,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// The learning rate.
    pub rate: f64,
    /// Whether loss and gradient were finite; when not, nothing was changed.
    pub finite: bool,
    /// Steps left out in a row until now, this one included.
    pub skipped_in_row: u32,
}

/// A step whose numbers have not been read.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) step: u64,
    pub(crate) rate: f64,
    pub(crate) times: TimeDraw,
    pub(crate) numbers: Numbers,
}

/// What a step leaves on the device.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// The losses of the parts of the batch and the norm of the gradient, `[parts + 1]`.
    judged: Tensor,
    /// `‖u − v_t‖²` of the rows, part after part, `[B]`.
    rows: Tensor,
}

impl Numbers {
    /// The loss of every part, times its share of the batch, with the prediction errors of its rows; the norm of the
    /// gradient.
    pub(crate) fn new(parts: Vec<(Tensor, Tensor)>, norm: Tensor) -> Self {
        let (mut judged, rows): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        judged.push(norm);
        Self {
            judged: Tensor::stack(&judged, 0),
            rows: Tensor::cat(&rows, 0),
        }
    }

    /// The same numbers in memory of their own.
    pub(crate) fn copy(&self) -> Self {
        Self {
            judged: self.judged.copy(),
            rows: self.rows.copy(),
        }
    }

    /// The norm of the gradient, a scalar on the device.
    pub(crate) fn norm(&self) -> Tensor {
        self.judged.select(0, -1)
    }

    /// Whether loss or gradient are not finite, a boolean on the device.
    pub(crate) fn bad(&self) -> Tensor {
        self.judged.isfinite().all().logical_not()
    }
}

/// The reports of these steps in their order, read in one transfer.
pub(crate) fn read(steps: &[Pending]) -> Result<Vec<StepReport>, TrainError> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = steps.iter().map(|step| &step.numbers);
    let tensors: Vec<&Tensor> = numbers.flat_map(|one| [&one.judged, &one.rows]).collect();
    let all = host::read(&Tensor::cat(&tensors, 0))?;
    let mut rest = all.as_slice();
    let mut take = |tensor: &Tensor| {
        let (taken, left) = rest.split_at(tensor.numel());
        rest = left;
        taken
    };
    let reports = steps.iter().map(|step| {
        let judged = take(&step.numbers.judged);
        step.report(judged, take(&step.numbers.rows))
    });
    Ok(reports.collect())
}

impl Pending {
    fn report(&self, judged: &[f64], rows: &[f64]) -> StepReport {
        let (norm, losses) = judged.split_last().expect("a step has a gradient");
        let rows = undealt(rows, losses.len());
        let loss = losses.iter().sum::<f64>();
        StepReport {
            step: self.step,
            loss,
            unweighted: rows.iter().sum::<f64>() / rows.len() as f64,
            bins: Bins::new(&self.times, &rows),
            gradient_norm: *norm,
            rate: self.rate,
            finite: loss.is_finite() && norm.is_finite(),
            skipped_in_row: 0,
        }
    }
}

/// The order before [`meanflow_torch::Batch::split`] dealt the rows out to so many parts.
fn undealt(rows: &[f64], parts: usize) -> Vec<f64> {
    let mut ordered = vec![0.0; rows.len()];
    let places = (0..parts).flat_map(|part| (part..rows.len()).step_by(parts));
    for (place, value) in places.zip(rows) {
        ordered[place] = *value;
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_were_dealt_out_find_their_places() {
        assert_eq!(
            undealt(&[0.0, 3.0, 6.0, 1.0, 4.0, 2.0, 5.0], 3),
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        );
        assert_eq!(undealt(&[5.0, 6.0], 1), [5.0, 6.0]);
    }

    #[test]
    fn one_number_that_is_not_finite_is_enough() {
        let scalar = |x: f32| Tensor::from(x);
        let rows = || Tensor::from_slice(&[1.0_f32]);
        for (loss, norm, bad) in [(1.0, 1.0, 0), (f32::NAN, 1.0, 1), (1.0, f32::INFINITY, 1)] {
            let parts = vec![(scalar(2.0), rows()), (scalar(loss), rows())];
            let numbers = Numbers::new(parts, scalar(norm));
            assert_eq!(numbers.bad().int64_value(&[]), bad);
            assert_eq!(numbers.norm().double_value(&[]), f64::from(norm));
        }
    }
}
