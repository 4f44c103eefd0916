//! What a model is asked to do.

use meanflow_core::solver::{EULER, HEUN, RK4, Tableau};
use meanflow_data::{Picture, Pictures};
use meanflow_torch::sampler::{Ode, Solver, uniform_grid};
use meanflow_train::Samples;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::paths;
use super::served::Served;
use crate::api_error::ApiError;

/// How a sample is made of noise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sampler {
    /// Steps from noise to data.
    pub(crate) steps: usize,
    /// What a step is.
    pub(crate) method: Method,
}

/// A jump of the average velocity, or a step of a solver of the flow-matching ODE.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    #[default]
    Jump,
    Euler,
    Heun,
    Rk4,
}

impl Sampler {
    /// Evaluations of the network for one sample.
    pub(crate) fn nfe(self) -> usize {
        let stages = self
            .method
            .tableau()
            .map_or(1, |tableau| tableau.weights.len());
        self.steps.saturating_mul(stages)
    }

    /// What a picture says of it.
    pub(crate) fn settings(self) -> Value {
        json!({"steps": self.steps, "method": self.method})
    }

    pub(super) fn solver(self) -> Solver {
        match self.method.tableau() {
            Some(tableau) => Solver::Ode(Ode::Fixed(tableau)),
            None => Solver::Jump,
        }
    }
}

impl Method {
    fn tableau(self) -> Option<&'static Tableau> {
        match self {
            Self::Jump => None,
            Self::Euler => Some(&EULER),
            Self::Heun => Some(&HEUN),
            Self::Rk4 => Some(&RK4),
        }
    }
}

/// What a model is asked to do.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A sample of each seed. Several jobs of this kind share evaluations.
    Draw {
        seeds: Vec<u64>,
        labels: Option<Vec<i64>>,
        sampler: Sampler,
    },
    /// Samples between those of two seeds.
    Between {
        seeds: [u64; 2],
        count: usize,
        class: Option<i64>,
        sampler: Sampler,
    },
    /// What lies between noise and data: see [`Served::paths`].
    Paths {
        seed: u64,
        class: Option<i64>,
        times: usize,
    },
    /// Pictures like a given one: see [`Served::vary`].
    Vary {
        picture: Vec<f32>,
        class: Option<i64>,
        strength: f64,
        seeds: Vec<u64>,
        steps: usize,
    },
    /// A given picture, drawn anew where the mask is true: see [`Served::inpaint`].
    Inpaint {
        picture: Vec<f32>,
        /// Of every pixel, row by row.
        mask: Vec<bool>,
        class: Option<i64>,
        seeds: Vec<u64>,
        steps: usize,
    },
}

impl Work {
    /// Evaluations of the network for one sample.
    pub(super) fn nfe(&self) -> usize {
        match self {
            Self::Draw { sampler, .. } | Self::Between { sampler, .. } => sampler.nfe(),
            Self::Paths { times, .. } => 2 * paths::SUBSTEPS * (times - 1),
            Self::Vary { steps, .. } | Self::Inpaint { steps, .. } => *steps,
        }
    }

    /// The sampler and the number of samples of a job that can share evaluations with others.
    pub(super) fn shared(&self) -> Option<(Sampler, usize)> {
        match self {
            Self::Draw { seeds, sampler, .. } => Some((*sampler, seeds.len())),
            _ => None,
        }
    }
}

/// Samples, and what they took.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) samples: Samples,
    /// The pictures of latents.
    pub(crate) decoded: Option<Vec<Picture>>,
    /// How far the noise that was found for a given picture misses it, as a root mean square over pixels.
    pub(crate) residual: Option<f64>,
    /// Evaluations of the network for one sample.
    pub(crate) nfe: usize,
    /// Seconds of the work, those of all jobs that shared it.
    pub(crate) seconds: f64,
    /// Samples that were made in that time.
    pub(crate) shared_by: usize,
    /// Seconds that it waited for the models.
    pub(crate) waited: f64,
}

impl Served {
    /// The samples of a job that shares nothing.
    pub(super) fn alone(&self, work: &Work) -> Result<Made, ApiError> {
        let (samples, residual) = match work {
            Work::Draw {
                seeds,
                labels,
                sampler,
            } => {
                let grid = uniform_grid(sampler.steps);
                let labels = labels.as_deref();
                let drawn = Samples::draw_by(&self.model, seeds, labels, &grid, sampler.solver())?;
                (drawn.0, None)
            }
            Work::Between {
                seeds,
                count,
                class,
                sampler,
            } => {
                let grid = uniform_grid(sampler.steps);
                let sampler = (&grid[..], sampler.solver());
                let drawn = Samples::between(&self.model, *seeds, *count, *class, sampler)?;
                (drawn.0, None)
            }
            Work::Paths { seed, class, times } => (self.paths(*seed, *class, *times)?, None),
            Work::Vary {
                picture,
                class,
                strength,
                seeds,
                steps,
            } => {
                let (samples, residual) = self.vary(picture, *class, (*strength, seeds), *steps)?;
                (samples, Some(residual))
            }
            Work::Inpaint {
                picture,
                mask,
                class,
                seeds,
                steps,
            } => (self.inpaint((picture, mask), *class, seeds, *steps)?, None),
        };
        self.made(samples, residual)
    }

    fn made(&self, samples: Samples, residual: Option<f64>) -> Result<Made, ApiError> {
        let decoder = self.decoder.as_ref();
        let decoded = decoder
            .map(|decoder| decoder.decode(&samples))
            .transpose()?;
        Ok(Made {
            samples,
            decoded,
            residual,
        })
    }
}

/// What a model made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) samples: Samples,
    /// The pictures of latents.
    pub(super) decoded: Option<Pictures>,
    pub(super) residual: Option<f64>,
}
