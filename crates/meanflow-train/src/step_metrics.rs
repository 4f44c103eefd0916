//! The metrics of a step, which lie on the device until they are read.

use meanflow_core::times::TimeDraw;
use meanflow_torch::{Differentiated, Kind, Tensor, host, in_batch_order};

use crate::{Bins, TrainError};

/// The metrics of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepMetrics {
    /// Steps done, this one included.
    pub step: u64,
    /// The weighted loss that is minimised.
    pub loss: f64,
    /// The mean of `‖u − v_t‖²` over the batch.
    pub v_loss: f64,
    /// The same of each row.
    pub v_loss_by_row: Vec<f64>,
    /// `‖du/dt‖` of the rows with `r < t`, in their order.
    pub dudt_norm_by_row: Vec<f64>,
    /// The mean by quarters of t and r.
    pub v_loss_by_tr: Bins,
    /// The norm of the gradient before clipping.
    pub grad_norm: f64,
    /// The learning rate.
    pub lr: f64,
    /// Whether loss and gradient were finite; if not, the step has changed no weight.
    pub is_finite: bool,
    /// The largest magnitude among the weights after the step, not finite where the update itself has overflowed.
    pub largest_weight: f64,
    /// Steps left out in a row until now, this one included.
    pub skipped_in_row: u32,
}

/// The part of the metrics of a step that is known before it is computed.
#[derive(Debug)]
pub(crate) struct StepPlan {
    pub(crate) step: u64,
    pub(crate) lr: f64,
    pub(crate) times: TimeDraw,
}

/// The part of the metrics of a step that is computed, on the device.
#[derive(Debug)]
pub(crate) struct DeviceMetrics {
    /// The loss of every microbatch times its share of the batch, `[M]`.
    losses: Tensor,
    /// The norm of the gradient before clipping, `[]`.
    pub(crate) grad_norm: Tensor,
    /// `‖u − v_t‖²` and `‖du/dt‖` of the rows, microbatch after microbatch, `[B, 2]`.
    rows: Tensor,
    /// Whether losses and norm are finite and, once the weights were moved, these as well: a boolean, `[]`.
    pub(crate) is_finite: Tensor,
    /// The largest magnitude among the weights after the step, `[]`.
    largest_weight: Tensor,
}

impl DeviceMetrics {
    /// Those of a step with this backward pass.
    pub(crate) fn new(differentiated: Differentiated) -> Self {
        let Differentiated { losses, grad_norm } = differentiated;
        let (losses, rows): (Vec<_>, Vec<_>) = losses.into_iter().unzip();
        let losses = Tensor::stack(&losses, 0);
        let is_finite = losses.isfinite().all().logical_and(&grad_norm.isfinite());
        Self {
            largest_weight: grad_norm.zeros_like(),
            losses,
            grad_norm,
            rows: Tensor::cat(&rows, 0),
            is_finite,
        }
    }

    /// Takes note of the largest magnitude among the weights that the step has left: averages must not follow where it is
    /// not finite.
    pub(crate) fn moved(&mut self, largest_weight: Tensor) {
        self.is_finite = self.is_finite.logical_and(&largest_weight.isfinite());
        self.largest_weight = largest_weight;
    }

    /// The same in memory of its own.
    pub(crate) fn copy(&self) -> Self {
        Self {
            losses: self.losses.copy(),
            grad_norm: self.grad_norm.copy(),
            rows: self.rows.copy(),
            is_finite: self.is_finite.copy(),
            largest_weight: self.largest_weight.copy(),
        }
    }

    /// The factor that scales the gradient down to the norm `limit`, a scalar of f64 on the device; 1 where it is shorter.
    pub(crate) fn clip_factor(&self, limit: f64) -> Tensor {
        let norm = self.grad_norm.to_kind(Kind::Double);
        (norm.full_like(limit) / norm).clamp_max(1.0)
    }

    /// The metrics of these steps in their order, read in one transfer.
    pub(crate) fn to_host(steps: &[(StepPlan, Self)]) -> Result<Vec<StepMetrics>, TrainError> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let of_step = |one: &Self| {
            let [norm, largest] =
                [&one.grad_norm, &one.largest_weight].map(|number| number.reshape([1]));
            // All of the first monitor, then all of the second.
            let rows = one.rows.tr().flatten(0, -1);
            Tensor::cat(&[&one.losses, &norm, &largest, &rows], 0)
        };
        let all: Vec<Tensor> = steps.iter().map(|(_, one)| of_step(one)).collect();
        let numbers = host::read(&Tensor::cat(&all, 0))?;
        let mut rest = numbers.as_slice();
        let metrics = steps.iter().zip(&all).map(|((plan, one), all)| {
            let (numbers, left) = rest.split_at(all.numel());
            rest = left;
            plan.metrics(numbers, one.losses.numel())
        });
        Ok(metrics.collect())
    }
}

impl StepPlan {
    /// The metrics of the step with these numbers: the losses of the microbatches, the norm, the largest weight,
    /// `‖u − v_t‖²` of the rows, `‖du/dt‖` of the rows.
    fn metrics(&self, numbers: &[f64], microbatches: usize) -> StepMetrics {
        let (losses, rest) = numbers.split_at(microbatches);
        let (norm, rest) = rest.split_first().expect("a step has a gradient");
        let (largest_weight, rows) = rest.split_first().expect("a model has weights");
        let (v_loss, dudt_norm) = rows.split_at(rows.len() / 2);
        let rows = in_batch_order(v_loss, microbatches);
        let mut dudt_norm = in_batch_order(dudt_norm, microbatches);
        dudt_norm.truncate(self.times.jumps);
        let loss = losses.iter().sum::<f64>();
        StepMetrics {
            step: self.step,
            loss,
            v_loss: rows.iter().sum::<f64>() / rows.len() as f64,
            v_loss_by_tr: Bins::new(&self.times, &rows),
            v_loss_by_row: rows,
            dudt_norm_by_row: dudt_norm,
            grad_norm: *norm,
            lr: self.lr,
            is_finite: loss.is_finite() && norm.is_finite(),
            largest_weight: *largest_weight,
            skipped_in_row: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use meanflow_core::interval::Interval;

    use super::*;

    fn metrics(losses: [f32; 2], norm: f32) -> DeviceMetrics {
        let rows = [
            &[[0.0_f32, 7.0], [2.0, 9.0], [4.0, 0.0]][..],
            &[[1.0, 8.0], [3.0, 0.0]],
        ];
        let rows = rows.map(Tensor::from_slice2);
        let microbatches = losses.map(Tensor::from).into_iter().zip(rows);
        DeviceMetrics::new(Differentiated {
            losses: microbatches.collect(),
            grad_norm: Tensor::from(norm),
        })
    }

    fn plan(step: u64) -> StepPlan {
        let intervals = (0..5).map(|row| Interval::new(0.0, f64::from(row) / 5.0));
        StepPlan {
            step,
            lr: 0.5,
            times: TimeDraw {
                intervals: intervals.collect::<Result<_, _>>().unwrap(),
                jumps: 3,
            },
        }
    }

    #[test]
    fn one_number_that_is_not_finite_is_enough() {
        for (loss, norm, finite) in [(1.0, 1.0, 1), (f32::NAN, 1.0, 0), (1.0, f32::INFINITY, 0)] {
            let one = metrics([2.0, loss], norm);
            assert_eq!(one.is_finite.int64_value(&[]), finite);
            let read = DeviceMetrics::to_host(&[(plan(1), one)]).unwrap();
            assert_eq!(read[0].is_finite, finite == 1);
        }
    }

    #[test]
    fn steps_that_are_read_together_keep_their_numbers() {
        let steps = [
            (plan(1), metrics([2.0, 1.0], 3.0)),
            (plan(2), metrics([4.0, 1.0], 5.0)),
        ];
        let read = DeviceMetrics::to_host(&steps).unwrap();
        assert_eq!(read.iter().map(|one| one.step).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            read.iter().map(|one| one.loss).collect::<Vec<_>>(),
            [3.0, 5.0]
        );
        assert_eq!(
            read.iter().map(|one| one.grad_norm).collect::<Vec<_>>(),
            [3.0, 5.0]
        );
        assert_eq!(read[0].v_loss, 2.0);
        assert_eq!(read[0].v_loss_by_row, [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(read[0].dudt_norm_by_row, [7.0, 8.0, 9.0]);
        // Rows 0 and 1 have t = 0 and 0.2, the last one 0.8; their numbers were those of two microbatches.
        assert_eq!(read[0].v_loss_by_tr.get(0, 0), Some(0.5));
        assert_eq!(read[0].v_loss_by_tr.get(3, 0), Some(4.0));
    }

    #[test]
    fn only_a_gradient_that_is_too_long_is_clipped() {
        for (norm, factor) in [(0.5, 1.0), (1.0, 1.0), (4.0, 0.25), (0.0, 1.0)] {
            let clipped = metrics([1.0, 1.0], norm).clip_factor(1.0);
            assert_eq!(clipped.double_value(&[]), factor);
        }
    }
}
