//! How likely a model finds given samples: the density that the flow of its instantaneous velocity carries (M25).

use std::f64::consts::{LN_2, TAU};

use meanflow_core::random::{Purpose, RngStream};
use meanflow_core::solver::{integrate, integrate_adaptive};
use meanflow_core::{Norm, SolverError, State};
use meanflow_libtorch::LibtorchError;
use tch::{Device, Kind, Tensor, no_grad};

use super::editing::{check_rows, chosen, picked};
use super::plan::{Plan, sent};
use super::{Drawn, Ode, Solver, rows_of};
use crate::model::condition::Conditioning;
use crate::tensor::{Rows, per_row};
use crate::{Dual, Model, TorchError};

/// The width of a byte in model space, where 0 is −1 and 255 is 1.
pub const BYTE: f64 = 1.0 / 127.5;

/// How the divergence of the velocity is found: the trace of its Jacobian.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TraceMethod {
    /// From as many directional derivatives as a sample has dimensions.
    Exact,
    /// Hutchinson's estimate (M26), without bias: from `w·Jw` of `probes` vectors `w` of random signs, the same along the whole
    /// trajectory.
    Hutchinson {
        /// Directional derivatives a sample.
        probes: usize,
    },
}

/// How likelihoods are computed.
#[derive(Clone, Copy, Debug)]
pub struct Likelihood<'a> {
    /// One seed a sample, which decides its random signs.
    pub seeds: &'a [u64],
    /// The class that every sample is given, for a conditional model; none for samples without class.
    pub labels: Option<&'a [i64]>,
    /// The times visited, decreasing from 1 to 0; the flow runs from 0 to 1.
    pub grid: &'a [f64],
    /// Directional derivatives an evaluation, about.
    pub batch_size: usize,
    /// How the flow is solved.
    pub ode: Ode,
    /// How its divergence is found.
    pub trace: TraceMethod,
}

/// Log-likelihoods with what they took.
#[derive(Debug)]
pub struct LogLikelihoods {
    /// `log p(x)` of the density in model space, in nats, `[B]`.
    pub nats: Vec<f64>,
    /// The standard error of each that comes from random signs, `[B]`: 0 for an exact trace, no number for a single probe.
    pub standard_errors: Vec<f64>,
    /// Evaluations of the velocity for every sample, each with all its directional derivatives, `[B]`.
    pub nfe: Vec<usize>,
}

/// `log p(x)` of samples `x [B, …]` by the flow from data to noise (M25).
///
/// The density is that of the flow-matching ODE of the network, `v(z, t) = u(z, t, t)` (M9), whose samples are those of
/// [`super::sample_by`] with [`Solver::Ode`]; jumps have a density of their own, which is the same where the network is exact. It is
/// a density: data that lie on fewer dimensions, such as bytes, have none, and [`dequantised`] gives them one.
///
/// The error of the solver falls with the order of its method. A value depends on its sample, its seed, its class, the times, method
/// and trace, and the weights alone.
///
/// # Errors
/// As [`super::sample_by`], unless there is one seed a row, and for Hutchinson's estimate without a probe.
pub fn log_likelihood(
    model: &Model,
    x: &Tensor,
    request: &Likelihood,
) -> Result<LogLikelihoods, TorchError> {
    check_rows(model, "samples", x, request.seeds.len())?;
    let dims = model.config().shape.iter().product::<i64>();
    let directions = request.trace.directions(dims)?;
    let plan = Plan {
        count: request.seeds.len(),
        labels: request.labels,
        grid: request.grid,
        // A sample has as many rows as directions.
        batch_size: request.batch_size.div_ceil(directions),
        solver: Solver::Ode(request.ode),
    };
    let rising: Vec<f64> = request.grid.iter().rev().copied().collect();
    let (x, shape, asked) = (x.shallow_clone(), model.config().shape.clone(), *request);
    let inputs = move |indices: &[usize]| {
        let seeds = picked(asked.seeds, indices);
        (chosen(&x, indices), asked.trace.probes(&seeds, &shape))
    };
    let drawn = plan.map(model, inputs, |model, (x, probes), labels| {
        let x = sent(model, &x);
        let divergence = Divergence {
            model,
            labels,
            probes: probes.map(|probes| sent(model, &probes)),
            rows: request.batch_size as i64,
        };
        divergence.solve(&x, request.ode, &rising)
    })?;
    of_columns(
        drawn,
        dims,
        model.config().schedule.prior_scale(),
        request.trace,
    )
}

/// Pictures with noise that is uniform over the width of a byte (M27), `[B, …]` in f32 on the CPU; one seed a picture.
///
/// The mean of `log p` over this noise bounds the logarithm of what a model gives to the bytes from below.
///
/// # Errors
/// Unless there is one seed a picture.
pub fn dequantised(x: &Tensor, seeds: &[u64]) -> Result<Tensor, TorchError> {
    if x.size().first() != Some(&(seeds.len() as i64)) {
        return Err(TorchError::Shape {
            what: "pictures to dequantise".into(),
            expected: format!("[{}, …], a picture for each seed", seeds.len()),
            got: x.size(),
        });
    }
    let noise = rows_of(seeds, &x.size()[1..], |seed, row| {
        RngStream::new(seed, Purpose::Dequantise, 0).fill_uniform(row);
    });
    let x = x.to_device(Device::Cpu).to_kind(Kind::Float);
    Ok(x + (noise - 0.5) * BYTE)
}

/// Bits a dimension for pictures of bytes, from `log p` in model space (M27): as many as an ideal code takes, on average.
///
/// With nothing known every byte takes 8; the density is then uniform over 256 widths of a byte.
pub fn bits_per_dimension(nats: f64, dims: usize) -> f64 {
    -(nats / dims as f64 + BYTE.ln()) / LN_2
}

impl TraceMethod {
    /// Directional derivatives of a sample of so many dimensions.
    fn directions(self, dims: i64) -> Result<usize, TorchError> {
        match self {
            Self::Exact => Ok(dims as usize),
            Self::Hutchinson { probes: 0 } => Err(TorchError::Argument {
                what: "probes",
                expected: "at least 1".into(),
                got: "0".into(),
            }),
            Self::Hutchinson { probes } => Ok(probes),
        }
    }

    /// The random signs of these seeds, `[B, probes, …]`; none for an exact trace.
    fn probes(self, seeds: &[u64], shape: &[i64]) -> Option<Tensor> {
        let Self::Hutchinson { probes } = self else {
            return None;
        };
        let signs = (0..probes as u64).map(|probe| {
            let uniform = rows_of(seeds, shape, |seed, row| {
                RngStream::new(seed, Purpose::Probes, probe).fill_uniform(row);
            });
            (uniform - 0.5).sign()
        });
        Some(Tensor::stack(&signs.collect::<Vec<_>>(), 1))
    }
}

/// States with the divergence of the velocity along their way.
#[derive(Clone)]
struct Flow {
    /// `z_t`, `[B, …]`.
    z: Rows,
    /// The integral of the divergence until `t`, one for each probe or one alone, `[B, probes]` in f64.
    divergence: Rows,
}

impl State for Flow {
    fn rows(&self) -> usize {
        self.z.rows()
    }

    fn combine(terms: &[(&[f64], &Self)]) -> Self {
        let part = |of: fn(&Self) -> &Rows| {
            let parts: Vec<(&[f64], &Rows)> =
                terms.iter().map(|(c, flow)| (*c, of(flow))).collect();
            Rows::combine(&parts)
        };
        Self {
            z: part(|flow| &flow.z),
            divergence: part(|flow| &flow.divergence),
        }
    }
}

/// The divergence counts, as nats a dimension, like one more dimension.
impl Norm for Flow {
    fn mean_squares(&self) -> Vec<f64> {
        let dims = self.z.0.numel() as f64 / self.z.rows() as f64;
        let pairs = self
            .z
            .mean_squares()
            .into_iter()
            .zip(self.divergence.mean_squares());
        pairs
            .map(|(z, divergence)| z + divergence / (dims * dims))
            .collect()
    }
}

/// The velocity of a model with its divergence.
struct Divergence<'a> {
    model: &'a Model,
    labels: Option<&'a [i64]>,
    /// Random signs, `[B, probes, …]`; none for an exact trace.
    probes: Option<Tensor>,
    /// Directional derivatives at a time.
    rows: i64,
}

impl Divergence<'_> {
    /// From data to noise over rising `times`: the noise and the integrals, side by side, `[B, dims + probes]` in f64.
    fn solve(&self, x: &Tensor, ode: Ode, times: &[f64]) -> Result<Drawn, TorchError> {
        let rows = x.size()[0];
        let columns = self.probes.as_ref().map_or(1, |probes| probes.size()[1]);
        let start = Flow {
            z: Rows(x.shallow_clone()),
            divergence: Rows(Tensor::zeros([rows, columns], (Kind::Double, x.device()))),
        };
        let (end, nfe) = match ode {
            Ode::Fixed(method) => {
                let end = no_grad(|| integrate(method, |flow, t| self.at(flow, t), start, times));
                (end, (times.len() - 1) * method.weights.len())
            }
            Ode::Adaptive(tolerance) => {
                let steps = times.windows(2);
                let solved = steps.map(|step| (step[0], step[1])).try_fold(
                    (start, 0),
                    |(flow, nfe), (from, to)| -> Result<_, SolverError> {
                        let field = |flow: &Flow, t| no_grad(|| self.at(flow, t));
                        let solution = integrate_adaptive(field, flow, from, to, tolerance)?;
                        Ok((solution.state, nfe + solution.nfe))
                    },
                );
                solved?
            }
        };
        let noise = end.z.0.flatten(1, -1).to_kind(Kind::Double);
        Ok(Drawn {
            samples: Tensor::cat(&[noise, end.divergence.0], 1),
            nfe: vec![nfe; rows as usize],
        })
    }

    /// `v(z, t) = u(z, t, t)` and its divergence.
    fn at(&self, flow: &Flow, t: f64) -> Flow {
        let z = &flow.z.0;
        let directions = self.directions(z);
        let count = directions.size()[1];
        let share = (self.rows / z.size()[0]).max(1);
        let (mut velocity, mut products) = (None, Vec::new());
        for first in (0..count).step_by(share as usize) {
            let some = directions.narrow(1, first, share.min(count - first));
            let (v, along) = self.along(z, t, &some);
            velocity.get_or_insert(v);
            products.push(along);
        }
        let products = Tensor::cat(&products, 1);
        let divergence = match self.probes {
            Some(_) => products,
            None => products.sum_dim_intlist(1, true, None::<Kind>),
        };
        Flow {
            z: Rows(velocity.expect("a sample has a dimension")),
            divergence: Rows(divergence),
        }
    }

    /// The random signs, or the unit vectors of all dimensions, `[B, directions, …]`.
    fn directions(&self, z: &Tensor) -> Tensor {
        if let Some(probes) = &self.probes {
            return probes.shallow_clone();
        }
        let shape = z.size();
        let dims = shape[1..].iter().product();
        let units = Tensor::eye(dims, (z.kind(), z.device()));
        let mut one = vec![1, dims];
        one.extend(&shape[1..]);
        let mut all = one.clone();
        all[0] = shape[0];
        units.reshape(one).expand(all, false)
    }

    /// The velocity, `[B, …]`, and `w·Jw` for some directions `w [B, k, …]`, `[B, k]` in f64.
    fn along(&self, z: &Tensor, t: f64, directions: &Tensor) -> (Tensor, Tensor) {
        let (rows, count) = (z.size()[0], directions.size()[1]);
        let all = (rows * count) as usize;
        let w = directions.flatten(0, 1);
        let z = z.repeat_interleave_self_int(count, 0, None);
        let labels = self.labels.map(|labels| {
            let each = labels.iter().flat_map(|label| vec![*label; count as usize]);
            each.collect::<Vec<i64>>()
        });
        let condition = Conditioning::of_labels(self.model.label_tensor(labels.as_deref(), all));
        let time = Dual::from(per_row(&vec![t; all], &z));
        let moving = Dual::new(z, w.shallow_clone()).expect("a direction for each row");
        let (v, jw) = self
            .model
            .forward(&moving, &time, &time, &condition)
            .into_parts();
        let jw = jw.unwrap_or_else(|| v.zeros_like());
        let products = (w * jw).to_kind(Kind::Double).flatten(1, -1);
        let products = products.sum_dim_intlist(1, false, None::<Kind>);
        let mut apart = v.size();
        apart.splice(0..1, [rows, count]);
        (
            v.reshape(apart).select(1, 0),
            products.reshape([rows, count]),
        )
    }
}

/// Log-likelihoods from noise and integrals side by side, `[B, dims + probes]`.
fn of_columns(
    drawn: Drawn,
    dims: i64,
    prior_scale: f64,
    trace: TraceMethod,
) -> Result<LogLikelihoods, TorchError> {
    let columns = &drawn.samples;
    let probes = columns.size()[1] - dims;
    let sum = |x: Tensor| x.sum_dim_intlist(1, false, None::<Kind>);
    let (squares, integrals) = (
        sum(columns.narrow(1, 0, dims).square()),
        columns.narrow(1, dims, probes),
    );
    let variance = prior_scale * prior_scale;
    let prior = (squares / variance + dims as f64 * (TAU * variance).ln()) * -0.5;
    let nats = prior + sum(integrals.shallow_clone()) / probes as f64;
    let standard_errors = match trace {
        TraceMethod::Exact => vec![0.0; drawn.nfe.len()],
        TraceMethod::Hutchinson { probes: 1 } => vec![f64::NAN; drawn.nfe.len()],
        TraceMethod::Hutchinson { .. } => {
            let spread = integrals.std_dim(&[1_i64][..], true, false);
            numbers(&(spread / (probes as f64).sqrt()))?
        }
    };
    Ok(LogLikelihoods {
        nats: numbers(&nats)?,
        standard_errors,
        nfe: drawn.nfe,
    })
}

/// The numbers of a vector.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>, TorchError> {
    let refused = |error: tch::TchError| LibtorchError::call("copy to the host", error);
    Ok(Vec::<f64>::try_from(tensor).map_err(refused)?)
}
