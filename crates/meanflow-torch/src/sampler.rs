//! Samples in one evaluation, or in a few: (M15) over a decreasing grid of times.

use meanflow_core::identity;
use meanflow_core::random::{Purpose, Stream};
use tch::{Device, Tensor, no_grad};

use crate::tensor::Rows;
use crate::{Model, TorchError};

/// What to draw.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// One sample a seed.
    pub seeds: &'a [u64],
    /// The class of every sample, for a conditional model; none for samples without class.
    pub labels: Option<&'a [i64]>,
    /// The times visited, decreasing from 1 to 0: one evaluation between two neighbours.
    pub grid: &'a [f64],
    /// Rows an evaluation. libtorch chooses its kernels by shape, so it is part of what fixes the bits.
    pub micro_batch: usize,
}

/// `steps + 1` equally spaced times from 1 down to 0.
pub fn uniform_grid(steps: usize) -> Vec<f64> {
    (0..=steps)
        .map(|step| 1.0 - step as f64 / steps as f64)
        .collect()
}

/// The noise `e` of every seed, `[seeds, …]` in f32 on the CPU: a function of the seed and the shape alone.
pub fn noise(seeds: &[u64], shape: &[i64]) -> Tensor {
    let size = shape.iter().product::<i64>() as usize;
    let mut values = vec![0.0_f32; seeds.len() * size];
    for (seed, row) in seeds.iter().zip(values.chunks_mut(size)) {
        Stream::new(*seed, Purpose::Latent, 0).fill_normal(row);
    }
    let mut full = vec![seeds.len() as i64];
    full.extend(shape);
    Tensor::from_slice(&values).reshape(full)
}

/// Draws samples, `[seeds, …]` in f32 on the CPU, in the model's space.
///
/// A sample depends on its seed, its class, the grid and the weights alone: every evaluation has `micro_batch` rows, the
/// last one padded, so that neither the number of seeds nor their order changes a bit.
///
/// # Errors
/// If the grid does not decrease from 1 to 0, or the labels are not one known class a seed.
pub fn sample(model: &Model, request: &Request) -> Result<Tensor, TorchError> {
    check(model, request)?;
    let rows = request.micro_batch;
    let mut drawn = Vec::new();
    for start in (0..request.seeds.len()).step_by(rows) {
        let end = request.seeds.len().min(start + rows);
        let seeds = padded(&request.seeds[start..end], rows);
        let labels = request
            .labels
            .map(|labels| padded(&labels[start..end], rows));
        let e = noise(&seeds, &model.config().shape)
            .to_kind(model.kind())
            .to_device(model.device());
        let z = no_grad(|| trajectory(model, &e, labels.as_deref(), request.grid));
        let z = z.to_kind(tch::Kind::Float).to_device(Device::Cpu);
        drawn.push(z.narrow(0, 0, (end - start) as i64));
    }
    Ok(Tensor::cat(&drawn, 0))
}

/// The samples that given noise `e [B, …]` becomes, in its type and on its device.
///
/// # Errors
/// As [`sample`].
pub fn from_noise(
    model: &Model,
    e: &Tensor,
    labels: Option<&[i64]>,
    grid: &[f64],
) -> Result<Tensor, TorchError> {
    check_grid(grid)?;
    check_labels(model, labels, e.size()[0] as usize)?;
    Ok(no_grad(|| trajectory(model, e, labels, grid)))
}

/// From the prior `b₁ e` to data.
fn trajectory(model: &Model, e: &Tensor, labels: Option<&[i64]>, grid: &[f64]) -> Tensor {
    let rows = e.size()[0] as usize;
    let mut z = Rows(e * model.config().schedule.prior_scale());
    for times in grid.windows(2) {
        let (t, r) = (vec![times[0]; rows], vec![times[1]; rows]);
        let u = Rows(model.average_velocity(&z.0, &r, &t, labels));
        z = identity::jump(&z, &u, &vec![times[0] - times[1]; rows]);
    }
    z.0
}

/// `values` with its last one repeated up to `length`.
fn padded<T: Copy>(values: &[T], length: usize) -> Vec<T> {
    let mut padded = values.to_vec();
    if let Some(last) = values.last() {
        padded.resize(length, *last);
    }
    padded
}

fn check(model: &Model, request: &Request) -> Result<(), TorchError> {
    check_grid(request.grid)?;
    if request.seeds.is_empty() || request.micro_batch == 0 {
        let got = format!(
            "{} seeds, {} rows",
            request.seeds.len(),
            request.micro_batch
        );
        return Err(TorchError::Argument {
            what: "seeds",
            expected: "at least one seed and one row".into(),
            got,
        });
    }
    check_labels(model, request.labels, request.seeds.len())
}

fn check_grid(grid: &[f64]) -> Result<(), TorchError> {
    let decreasing = grid.windows(2).all(|times| times[0] > times[1]);
    if decreasing && grid.len() >= 2 && grid[0] == 1.0 && grid[grid.len() - 1] == 0.0 {
        return Ok(());
    }
    let expected = "times that decrease from 1 to 0".into();
    Err(TorchError::Argument {
        what: "grid",
        expected,
        got: format!("{grid:?}"),
    })
}

fn check_labels(model: &Model, labels: Option<&[i64]>, rows: usize) -> Result<(), TorchError> {
    let Some(labels) = labels else {
        return Ok(());
    };
    let classes = model.config().classes;
    let known = labels.iter().all(|label| (0..=classes).contains(label));
    if classes > 0 && known && labels.len() == rows {
        return Ok(());
    }
    let expected = match classes {
        0 => "none, the model is unconditional".into(),
        _ => format!("{rows} classes of 0..={classes}, {classes} for none"),
    };
    Err(TorchError::Argument {
        what: "labels",
        expected,
        got: format!("{labels:?}"),
    })
}
