//! The way from noise to a sample, as it is typed.

use std::num::NonZeroUsize;
use std::str::FromStr;

use meanflow_core::Tolerance;
use meanflow_core::solver::{EULER, HEUN, RK4, Tableau};
use meanflow_torch::sampler::{Ode, Solver, cosine_grid, uniform_grid};

/// Steps, accepted or not, after which an adaptive solver gives up.
const MOST_STEPS: usize = 100_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Route {
    /// Jumps over equal intervals: as many network evaluations
    #[arg(long, value_name = "N", default_value = "1", conflicts_with_all = ["grid", "ode"])]
    pub(crate) steps: NonZeroUsize,
    /// Jumps over other intervals: times from 1 to 0 such as 1,0.6,0.2,0, or cosine:N for N, shortest at both ends
    #[arg(long, value_name = "TIMES", conflicts_with = "ode")]
    pub(crate) grid: Option<Grid>,
    /// Flow matching by the same network instead of jumps: euler:N, heun:N, rk4:N or adaptive:TOLERANCE
    #[arg(long, value_name = "METHOD")]
    pub(crate) ode: Option<OdeRoute>,
}

impl Route {
    /// The times to visit and the way from one to the next.
    pub(crate) fn resolve(&self) -> (Vec<f64>, Solver) {
        match (&self.ode, &self.grid) {
            (Some(OdeRoute { steps, ode, .. }), _) => (uniform_grid(*steps), Solver::Ode(*ode)),
            (None, Some(Grid(times))) => (times.clone(), Solver::Jump),
            (None, None) => (uniform_grid(self.steps.get()), Solver::Jump),
        }
    }
}

/// Times from 1 to 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid(pub(crate) Vec<f64>);

impl FromStr for Grid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(steps) = text.strip_prefix("cosine:") {
            return Ok(Self(cosine_grid(count(steps)?)));
        }
        let times: Option<Vec<f64>> = text
            .split(',')
            .map(|time| time.trim().parse().ok())
            .collect();
        times
            .filter(|times| {
                let falls = times.windows(2).all(|pair| pair[0] > pair[1]);
                falls && times.len() > 1 && times[0] == 1.0 && times.last() == Some(&0.0)
            })
            .map(Self)
            .ok_or_else(|| {
                "expected times that fall from 1 to 0, such as 1,0.6,0.2,0, or cosine:N".to_owned()
            })
    }
}

/// A solver of the ODE and its number of steps; an adaptive one begins with one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OdeRoute {
    /// As it was typed.
    pub(crate) text: String,
    pub(crate) steps: usize,
    pub(crate) ode: Ode,
}

impl FromStr for OdeRoute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (method, number) = text.split_once(':').unwrap_or((text, ""));
        if method == "adaptive" {
            let ode = Ode::Adaptive(tolerance(number)?);
            let text = text.to_owned();
            return Ok(Self {
                text,
                steps: 1,
                ode,
            });
        }
        let methods: [&'static Tableau; 3] = [&EULER, &HEUN, &RK4];
        let known = methods.into_iter().find(|known| known.name == method);
        let method = known.ok_or_else(|| {
            format!("expected euler:N, heun:N, rk4:N or adaptive:TOLERANCE, got {text:?}")
        })?;
        Ok(Self {
            text: text.to_owned(),
            steps: count(number)?,
            ode: Ode::Fixed(method),
        })
    }
}

fn count(text: &str) -> Result<usize, String> {
    let steps = text.parse::<usize>().ok();
    steps
        .filter(|steps| (1..=1_000_000).contains(steps))
        .ok_or_else(|| format!("expected a number of steps from 1 to 1000000, got {text:?}"))
}

/// The same number absolute and relative: samples have about unit size.
fn tolerance(text: &str) -> Result<Tolerance, String> {
    let number = text.parse::<f64>().ok();
    let number = number
        .filter(|number| number.is_finite() && *number > 0.0)
        .ok_or_else(|| format!("expected a tolerance above 0 such as 1e-4, got {text:?}"))?;
    Ok(Tolerance {
        abs: number,
        rel: number,
        max_steps: MOST_STEPS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_read() {
        assert_eq!("1, 0.6,0.2,0".parse(), Ok(Grid(vec![1.0, 0.6, 0.2, 0.0])));
        assert_eq!("cosine:1".parse(), Ok(Grid(vec![1.0, 0.0])));
        assert_eq!("cosine:4".parse::<Grid>().map(|grid| grid.0.len()), Ok(5));
        for text in [
            "",
            "1",
            "0,1",
            "1,0.5",
            "1,1,0",
            "1,nan,0",
            "1,x,0",
            "cosine:0",
            "cosine:",
            "cosine:-1",
        ] {
            assert!(text.parse::<Grid>().is_err(), "{text}");
        }
    }

    #[test]
    fn methods_are_read() {
        let heun = OdeRoute {
            text: "heun:5".to_owned(),
            steps: 5,
            ode: Ode::Fixed(&HEUN),
        };
        assert_eq!("heun:5".parse(), Ok(heun));
        let adaptive = Tolerance {
            abs: 1e-4,
            rel: 1e-4,
            max_steps: MOST_STEPS,
        };
        let adaptive = OdeRoute {
            text: "adaptive:1e-4".to_owned(),
            steps: 1,
            ode: Ode::Adaptive(adaptive),
        };
        assert_eq!("adaptive:1e-4".parse(), Ok(adaptive));
        for text in [
            "",
            "heun",
            "heun:0",
            "heun:x",
            "euler:1e9",
            "midpoint:3",
            "adaptive",
            "adaptive:0",
            "adaptive:nan",
        ] {
            assert!(text.parse::<OdeRoute>().is_err(), "{text}");
        }
    }
}
