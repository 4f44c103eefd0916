//! `meanflow likelihood`.

use std::str::FromStr;
use std::time::Instant;

use meanflow_torch::sampler::{
    Likelihood as Request, LogLikelihoods, TraceMethod, bits_per_dimension, dequantised,
    log_likelihood, uniform_grid,
};
use meanflow_train::Samples;
use serde_json::{Value, json};

use super::source::{ModelAndPictures, Opened};
use crate::options::Class;
use crate::output::{is_json, say};
use crate::progress::Count;
use crate::route::OdeRoute;

/// Dimensions up to which the trace is exact without a word.
const FEW: i64 = 128;
/// Random signs above that.
const PROBES: usize = 8;

/// How likely a model finds pictures: the density of its flow-matching ODE, in nats and in bits a dimension.
///
/// Pictures of bytes get uniform noise of the width of a byte first, so that they have a density; bits a dimension are then those of the
/// bytes, at least on average. Latents and points are taken as they are.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow likelihood runs/digits digits --indices 0-359\n  \
meanflow likelihood runs/mnist data/mnist --indices 0-99 \\\n    --trace hutchinson:16 --ode rk4:32 --json"
)]
pub(crate) struct Likelihood {
    #[command(flatten)]
    source: ModelAndPictures,
    /// exact, or hutchinson:N for an estimate by N random signs [default: exact up to 128 dimensions, else hutchinson:8]
    #[arg(long, value_name = "TRACE")]
    trace: Option<TraceRoute>,
    /// How the ODE is solved: euler:N, heun:N, rk4:N or adaptive:TOLERANCE
    #[arg(long, value_name = "METHOD", default_value = "rk4:16")]
    ode: OdeRoute,
    /// data (that of the picture), none, or classes by name or number: picture n has the one at place n mod their count [default: data, where pictures have classes]
    #[arg(long, value_name = "CLASS")]
    class: Option<Class>,
    /// Decides the noise and the random signs
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u32,
}

/// How the trace is found, as it was typed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct TraceRoute(TraceMethod);

impl FromStr for TraceRoute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let probes = text
            .strip_prefix("hutchinson:")
            .and_then(|probes| probes.parse().ok());
        match (text, probes) {
            ("exact", _) => Ok(Self(TraceMethod::Exact)),
            (_, Some(probes @ 1..=65_536)) => Ok(Self(TraceMethod::Hutchinson { probes })),
            _ => Err(format!(
                "expected exact, or hutchinson:N for N random signs from 1 to 65536, got {text:?}"
            )),
        }
    }
}

pub(crate) fn run(args: &Likelihood) -> anyhow::Result<u8> {
    let opened = args.source.open()?;
    let rows: Vec<(usize, u64)> = (0..opened.len())
        .map(|place| (place, place as u64))
        .collect();
    let labels = opened.labels(args.class.as_ref(), &rows)?;
    let dims = opened.model.config().shape.iter().product::<i64>();
    let trace = match args.trace {
        Some(TraceRoute(trace)) => trace,
        None if dims <= FEW => TraceMethod::Exact,
        None => TraceMethod::Hutchinson { probes: PROBES },
    };
    let start = Instant::now();
    let found = measure(args, &opened, labels.as_deref(), trace)?;
    let report = Report {
        args,
        opened: &opened,
        trace,
        dims: dims as usize,
        seconds: start.elapsed().as_secs_f64(),
    };
    report.say(&found);
    Ok(0)
}

/// The log-likelihoods of all pictures, a few at a time.
fn measure(
    args: &Likelihood,
    opened: &Opened,
    labels: Option<&[i64]>,
    trace: TraceMethod,
) -> anyhow::Result<LogLikelihoods> {
    let OdeRoute { steps, ode, .. } = &args.ode;
    let grid = uniform_grid(*steps);
    let block = Samples::rows_an_evaluation(&opened.model);
    let progress = Count::named("pictures", opened.len());
    let mut all = LogLikelihoods {
        nats: Vec::new(),
        standard_errors: Vec::new(),
        nfe: Vec::new(),
    };
    for first in (0..opened.len()).step_by(block) {
        let places = first..(first + block).min(opened.len());
        // Of a picture's place in its data, so that a choice of pictures changes none of their values.
        let seed = |place: usize| (u64::from(args.seed) << 32) | opened.indices[place] as u64;
        let seeds: Vec<u64> = places.clone().map(seed).collect();
        let mut x = opened.rows(places.clone());
        if opened.are_pictures {
            x = dequantised(&x, &seeds)?;
        }
        let request = Request {
            seeds: &seeds,
            labels: labels.map(|labels| &labels[places.clone()]),
            grid: &grid,
            batch_size: block,
            ode: *ode,
            trace,
        };
        let found = log_likelihood(&opened.model, &x, &request)?;
        all.nats.extend(found.nats);
        all.standard_errors.extend(found.standard_errors);
        all.nfe.extend(found.nfe);
        progress.add(places.len());
    }
    progress.finish();
    Ok(all)
}

/// What is said of a measurement.
struct Report<'a> {
    args: &'a Likelihood,
    opened: &'a Opened,
    trace: TraceMethod,
    dims: usize,
    seconds: f64,
}

/// A mean over pictures with its standard error, if there are several.
struct Mean {
    mean: f64,
    standard_error: Option<f64>,
}

impl Mean {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let standard_error = (values.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt());
        Self {
            mean,
            standard_error,
        }
    }

    fn json(&self) -> Value {
        json!({ "mean": self.mean, "standard_error": self.standard_error })
    }

    fn text(&self) -> String {
        let error = self
            .standard_error
            .map_or_else(String::new, |error| format!(" ± {error:.3}"));
        format!("{:.3}{error}", self.mean)
    }
}

impl Report<'_> {
    fn say(&self, found: &LogLikelihoods) {
        let nats = Mean::of(&found.nats);
        let bits = |nats: &f64| bits_per_dimension(*nats, self.dims);
        let bits = self
            .opened
            .are_pictures
            .then(|| Mean::of(&found.nats.iter().map(bits).collect::<Vec<_>>()));
        let nfe = found.nfe.iter().sum::<usize>() as f64 / found.nfe.len() as f64;
        let (method, count, shape) = (
            &self.args.ode.text,
            self.opened.len(),
            &self.opened.model.config().shape,
        );
        if is_json() {
            let errors = matches!(self.trace, TraceMethod::Hutchinson { .. })
                .then_some(&found.standard_errors);
            let report = json!({
                "pictures": count, "indices": self.opened.indices, "shape": shape, "nats": nats.json(),
                "bits_per_dimension": bits.map(|bits| bits.json()), "dequantised": self.opened.are_pictures,
                "trace": self.trace_name(), "ode": method, "nfe": nfe, "seconds": self.seconds,
                "each": { "nats": found.nats, "standard_error": errors },
            });
            say(format_args!("{report:#}"));
            return;
        }
        let what = if self.opened.are_pictures {
            "pictures"
        } else {
            "samples"
        };
        let bits = bits.map_or_else(String::new, |bits| {
            format!(", {} bits a dimension", bits.text())
        });
        let seconds = self.seconds;
        say(format_args!(
            "{count} {what} of shape {shape:?}: log p = {} nats{bits} (mean ± standard error)\n{}, {method}, {nfe:.0} evaluations each, {seconds:.1} s",
            nats.text(),
            self.trace_text(found)
        ));
    }

    fn trace_name(&self) -> String {
        match self.trace {
            TraceMethod::Exact => "exact".to_owned(),
            TraceMethod::Hutchinson { probes } => format!("hutchinson:{probes}"),
        }
    }

    fn trace_text(&self, found: &LogLikelihoods) -> String {
        match self.trace {
            TraceMethod::Exact => format!("exact trace of {} dimensions", self.dims),
            TraceMethod::Hutchinson { probes: 1 } => {
                "trace by 1 random sign a dimension, whose error is unknown".to_owned()
            }
            TraceMethod::Hutchinson { probes } => {
                let error = Mean::of(&found.standard_errors).mean;
                format!(
                    "trace by {probes} vectors of random signs, which leaves a picture's value uncertain by {error:.3} nats (standard error, mean)"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_read() {
        assert_eq!("exact".parse(), Ok(TraceRoute(TraceMethod::Exact)));
        let eight = TraceMethod::Hutchinson { probes: 8 };
        assert_eq!("hutchinson:8".parse(), Ok(TraceRoute(eight)));
        for text in [
            "",
            "hutchinson",
            "hutchinson:0",
            "hutchinson:x",
            "hutchinson:70000",
            "skilling:3",
        ] {
            assert!(text.parse::<TraceRoute>().is_err(), "{text}");
        }
    }
}
