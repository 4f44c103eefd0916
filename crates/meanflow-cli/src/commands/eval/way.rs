//! Ways of drawing samples, and the figures of each.

use std::collections::BTreeMap;
use std::ops::Range;

use meanflow_data::Source;
use meanflow_eval::Extractor;
use meanflow_torch::Tensor;
use meanflow_torch::sampler::{Solver, uniform_grid};
use serde::Serialize;

use super::Eval;
use super::pictures::{CHUNK, bytes_of};
use super::reference::Measured;
use super::shard::Shard;
use super::subject::{Drawer, Subject};
use super::tally::{Drawn, Tally, Wanted};
use crate::progress::Count;

/// How samples come.
pub(super) struct Route<'a> {
    pub(super) name: String,
    /// Samples of a repetition: its number, and which of them.
    draw: Box<dyn Fn(u64, Range<u64>) -> anyhow::Result<Drawn> + 'a>,
}

/// Samples drawn in one way, several times.
#[derive(Debug, Serialize)]
pub(super) struct Way {
    pub(super) name: String,
    /// Network evaluations a sample, on average.
    pub(super) evaluations: Option<f64>,
    pub(super) figures: BTreeMap<&'static str, Figure>,
    /// Of the first repetition: for each class, in how many samples a classifier finds it, of how many that were asked to have it.
    pub(super) classes: Option<Vec<[u64; 2]>>,
    /// The first samples.
    #[serde(skip)]
    pub(super) first: Tensor,
}

/// A figure over the repetitions.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    pub(super) mean: f64,
    /// 95 % by Student's distribution, of several repetitions.
    pub(super) interval: Option<[f64; 2]>,
    pub(super) values: Vec<f64>,
}

/// All routes of a subject; `labels` are the classes of the reference, `samples` those of a repetition.
pub(super) fn routes<'a>(
    args: &'a Eval,
    subject: &'a Subject,
    labels: &'a [i64],
    samples: u64,
) -> Vec<Route<'a>> {
    let drawer = match subject {
        Subject::Model(drawer) => drawer,
        Subject::Pictures(_, source) => return vec![as_drawn(&**source)],
    };
    let route = |name, grid: Vec<f64>, solver| Route {
        name,
        draw: Box::new(move |repeat, range| {
            let first = args.seed + repeat * samples;
            let seeds: Vec<u64> = range.map(|sample| first + sample).collect();
            drawn_by(drawer, args, labels, &seeds, (&grid, solver))
        }),
    };
    let jumps = args.steps.iter().map(|steps| {
        let name = format!("{steps} jump{}", if steps.get() == 1 { "" } else { "s" });
        route(name, uniform_grid(steps.get()), Solver::Jump)
    });
    let ode = args.ode.as_ref().map(|ode| {
        let name = format!("ODE {}", ode.text);
        route(name, uniform_grid(ode.steps), Solver::Ode(ode.ode))
    });
    jumps.chain(ode).collect()
}

fn drawn_by(
    drawer: &Drawer,
    args: &Eval,
    labels: &[i64],
    seeds: &[u64],
    how: (&[f64], Solver),
) -> anyhow::Result<Drawn> {
    let asked = drawer.labels(args.labels, seeds, labels)?;
    let (pictures, evaluations) = drawer.draw(seeds, asked.as_deref(), how)?;
    Ok(Drawn {
        pictures,
        asked,
        evaluations: evaluations.iter().sum::<usize>() as u64,
    })
}

/// Pictures that were drawn before.
fn as_drawn(source: &dyn Source) -> Route<'_> {
    Route {
        name: "as drawn".to_owned(),
        draw: Box::new(|_, range| {
            let (start, end) = (range.start as usize, range.end as usize);
            let labels = source.labels().get(start..end);
            Ok(Drawn {
                pictures: bytes_of(source, start, end)?,
                asked: labels.filter(|_| source.classes() > 0).map(<[i64]>::to_vec),
                evaluations: 0,
            })
        }),
    }
}

/// Draws a shard of every repetition of every route.
pub(super) fn draw(
    routes: &[Route<'_>],
    shard: Shard,
    wanted: &Wanted<'_>,
    extractor: &dyn Extractor,
) -> anyhow::Result<Vec<Vec<Tally>>> {
    let (samples, repeats) = (shard.samples(wanted.samples), wanted.repeats);
    let all = routes.len() as u64 * repeats * (samples.end - samples.start);
    let progress = Count::new(all as usize);
    let repetition = |route: &Route<'_>, repeat| {
        let mut tally = Tally::default();
        for start in samples.clone().step_by(CHUNK) {
            let end = samples.end.min(start + CHUNK as u64);
            let drawn = (route.draw)(repeat, start..end)?;
            let features = extractor.extract(&drawn.pictures)?;
            tally.push(wanted, start, &drawn, &features)?;
            progress.add((end - start) as usize);
        }
        Ok(tally)
    };
    let tallies = routes
        .iter()
        .map(|route| {
            (0..repeats)
                .map(|repeat| repetition(route, repeat))
                .collect()
        })
        .collect();
    progress.finish();
    tallies
}

impl Way {
    /// The figures of a route's repetitions.
    pub(super) fn of(
        name: String,
        repetitions: &[Tally],
        wanted: &Wanted<'_>,
        reference: &Measured,
    ) -> anyhow::Result<Self> {
        let mut all: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        let (mut drawn, mut evaluations) = (0, 0);
        for tally in repetitions {
            for (name, value) in tally.figures(wanted, reference)? {
                all.entry(name).or_default().push(value);
            }
            let [samples, work] = tally.work();
            drawn += samples;
            evaluations += work;
        }
        let figure = |(name, values)| (name, Figure::of(values));
        Ok(Self {
            name,
            evaluations: (evaluations > 0).then(|| evaluations as f64 / drawn as f64),
            figures: all.into_iter().map(figure).collect(),
            classes: repetitions.first().and_then(Tally::classes),
            first: repetitions.first().unwrap_or(&Tally::default()).first(),
        })
    }
}

impl Figure {
    fn of(values: Vec<f64>) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>();
        let half = student(values.len()) * (squares / (count - 1.0) / count).sqrt();
        let interval = (values.len() > 1).then_some([mean - half, mean + half]);
        Self {
            mean,
            interval,
            values,
        }
    }

    /// `18.8 ± 1.3`.
    pub(super) fn shown(&self) -> String {
        let decimals = match self.mean.abs() {
            size if size >= 100.0 => 1,
            size if size >= 1.0 => 2,
            _ => 4,
        };
        let mean = format!("{:.decimals$}", self.mean);
        let half = self.interval.map(|[low, high]| (high - low) / 2.0);
        half.map_or(mean.clone(), |half| format!("{mean} ± {half:.decimals$}"))
    }
}

/// The 97.5 % quantile of Student's distribution for so many values.
fn student(values: usize) -> f64 {
    const QUANTILES: [f64; 9] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
    ];
    let known = values.checked_sub(2).and_then(|index| QUANTILES.get(index));
    known.copied().unwrap_or(2.262)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_students() {
        // Mean 2, standard deviation 1, three values: 2 ± 4.303/√3.
        let figure = Figure::of(vec![1.0, 2.0, 3.0]);
        let [low, high] = figure.interval.unwrap();
        assert!((high - low - 2.0 * 4.303 / 3.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(figure.mean, 2.0);
        assert_eq!(figure.shown(), "2.00 ± 2.48");
        assert!(Figure::of(vec![5.0]).interval.is_none());
        assert_eq!(student(10), 2.262);
        assert_eq!(student(100), 2.262);
    }
}
