//! Samples drawn in evaluations of one shape, which the threads of a CPU share.

use meanflow_libtorch::host;
use tch::{Device, Kind, Tensor};

use super::{Drawn, Ode, Solver, check_labels, grid};
use crate::{Model, Sharing, TorchError, Workers};

/// Samples to be drawn in evaluations of one shape.
pub(super) struct Plan<'a> {
    /// How many.
    pub(super) count: usize,
    /// The class of every sample, for a conditional model.
    pub(super) labels: Option<&'a [i64]>,
    /// The times visited, decreasing from 1 to 0.
    pub(super) grid: &'a [f64],
    /// Rows an evaluation.
    pub(super) batch_size: usize,
    /// The way from one time to the next.
    pub(super) solver: Solver,
}

impl Plan<'_> {
    /// As [`Plan::map`], in f32.
    ///
    /// # Errors
    /// As [`Plan::map`].
    pub(super) fn draw<I>(
        &self,
        model: &Model,
        inputs: impl Fn(&[usize]) -> I + Send,
        compute: impl Fn(&Model, I, Option<&[i64]>) -> Result<Drawn, TorchError> + Sync,
    ) -> Result<Drawn, TorchError> {
        self.map(model, inputs, |model, input, labels| {
            let mut drawn = compute(model, input, labels)?;
            drawn.samples = drawn.samples.to_kind(Kind::Float);
            Ok(drawn)
        })
    }

    /// What `compute` makes of the inputs that `inputs` gives for the indices of samples, with the labels of these samples: on the CPU,
    /// in the order of the samples. On a CPU threads share the evaluations.
    ///
    /// The last evaluation is padded with the last sample, so that all have the same number of rows.
    ///
    /// # Errors
    /// Without a sample or a row, for labels that do not fit, and those of `compute`.
    pub(super) fn map<I>(
        &self,
        model: &Model,
        inputs: impl Fn(&[usize]) -> I + Send,
        compute: impl Fn(&Model, I, Option<&[i64]>) -> Result<Drawn, TorchError> + Sync,
    ) -> Result<Drawn, TorchError> {
        self.check(model)?;
        let rows = match self.solver {
            Solver::Ode(Ode::Adaptive(_)) => 1,
            _ => self.batch_size,
        };
        let starts = (0..self.count).step_by(rows);
        let sharing = match model.device() {
            Device::Cpu => Sharing::of_this_thread(starts.len()),
            _ => Sharing::new(1, starts.len()),
        };
        let workers = Workers::new(sharing)?;
        let mut replicas: Vec<Model> = (0..sharing.workers).map(|_| model.replica()).collect();
        let last = self.count - 1;
        let chunks = starts.map(move |start| {
            let rows = start..start + rows;
            let indices: Vec<usize> = rows.map(|index| index.min(last)).collect();
            let input = inputs(&indices);
            (indices, input)
        });
        // Nothing waits for the device, which computes while the host makes the input of the next evaluation.
        let drawn = workers.map(&mut replicas, chunks, |model, _, (indices, input)| {
            compute(model, input, self.labels(&indices).as_deref())
        })?;
        Ok(joined(drawn, rows, self.count))
    }

    /// The labels of these samples.
    fn labels(&self, indices: &[usize]) -> Option<Vec<i64>> {
        let labels = self.labels?;
        Some(indices.iter().map(|index| labels[*index]).collect())
    }

    fn check(&self, model: &Model) -> Result<(), TorchError> {
        grid::check(self.grid)?;
        if self.count == 0 || self.batch_size == 0 {
            let got = format!("{} seeds, {} rows", self.count, self.batch_size);
            return Err(TorchError::Argument {
                what: "seeds",
                expected: "at least one seed and one row".into(),
                got,
            });
        }
        check_labels(model, self.labels, self.count)
    }
}

/// Rows from the host, in the type and on the device of a model.
pub(super) fn sent(model: &Model, rows: &Tensor) -> Tensor {
    host::send(&rows.to_kind(model.kind()), model.device())
}

/// The first `count` samples of evaluations of so many rows, on the CPU.
fn joined(drawn: Vec<Drawn>, rows: usize, count: usize) -> Drawn {
    let mut samples: Vec<Tensor> = Vec::with_capacity(drawn.len());
    let mut nfe = Vec::with_capacity(count);
    for chunk in drawn {
        let fresh = rows.min(count - nfe.len());
        let rows = chunk.samples.narrow(0, 0, fresh as i64);
        samples.push(rows.to_device(Device::Cpu));
        nfe.extend_from_slice(&chunk.nfe[..fresh]);
    }
    Drawn {
        samples: Tensor::cat(&samples, 0),
        nfe,
    }
}
