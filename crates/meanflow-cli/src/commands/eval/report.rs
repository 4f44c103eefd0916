//! What is said of a model: every figure, and all that it depends on.

use std::collections::BTreeMap;

use meanflow_data::Source;
use meanflow_eval::{Extractor, Laws, Probe, nearest};
use meanflow_torch::sampler::{Solver, noise, uniform_grid};
use meanflow_torch::{Kind, Tensor};
use serde::Serialize;
use serde_json::Value;

use super::Eval;
use super::figures::Gathered;
use super::pictures::{CHUNK, bytes_of};
use super::protocol::{Identity, protocol};
use super::reference::{Data, Reference};
use super::subject::{Drawer, Subject};
use crate::progress::Count;

/// Everything; `report.json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) protocol: Value,
    /// One for each way of drawing.
    pub(super) ways: Vec<Way>,
    pub(super) memorisation: Option<Memorisation>,
    pub(super) laws: Option<Laws>,
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

/// How near samples are to the data, beside how near the data is to itself: distances of features, medians.
#[derive(Debug, Serialize)]
pub(super) struct Memorisation {
    pub(super) sample_to_data: f64,
    pub(super) data_to_data: f64,
    /// The picture of the data that is nearest to each of the first samples.
    pub(super) nearest: Vec<i64>,
    pub(super) distances: Vec<f64>,
}

/// Samples that are kept for pictures and neighbours.
const FIRST: usize = 100;
/// Samples of the reference at most, where a number is not asked for.
const MOST_SAMPLES: usize = 50_000;
/// Rows of the probe of the laws.
const PROBE: usize = 200;
/// Times of the laws: 0, 0.1, …, 1.
const TIMES: usize = 11;

impl Report {
    pub(super) fn new(
        args: &Eval,
        subject: &Subject,
        features: &dyn Extractor,
        identity: &Identity,
        reference: &Reference,
    ) -> anyhow::Result<Self> {
        let ways = match subject {
            Subject::Model(drawer) => ways(args, drawer, features, reference)?,
            Subject::Pictures(_, source) => vec![as_drawn(args, &**source, features, reference)?],
        };
        let data = reference.data.as_ref();
        let memorisation = match (data, ways.first()) {
            (Some(data), Some(way)) => Some(Memorisation::of(data, &way.first, features)?),
            _ => None,
        };
        let laws = match (data, subject) {
            (Some(data), Subject::Model(drawer)) => Some(laws(data, drawer)?),
            _ => None,
        };
        Ok(Self {
            protocol: protocol(
                args,
                subject,
                features,
                identity,
                reference,
                samples(args, reference),
            ),
            ways,
            memorisation,
            laws,
        })
    }

    /// The figures for a terminal.
    pub(super) fn table(&self) -> String {
        let names: Vec<&str> = self
            .ways
            .first()
            .map_or(Vec::new(), |way| way.figures.keys().copied().collect());
        let mut text = format!("{:<12} {:>11}", "way", "evaluations");
        for name in &names {
            text += &format!(" {name:>17}");
        }
        for way in &self.ways {
            let evaluations = way
                .evaluations
                .map_or("–".to_owned(), |mean| format!("{mean:.4}"));
            text += &format!("\n{:<12} {evaluations:>11}", way.name);
            for name in &names {
                let shown = way.figures.get(name).map_or("–".to_owned(), Figure::shown);
                text += &format!(" {shown:>17}");
            }
        }
        text
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

fn samples(args: &Eval, reference: &Reference) -> usize {
    let asked = args.samples.map(usize::from);
    asked.unwrap_or_else(|| {
        reference
            .len()
            .map_or(MOST_SAMPLES, |len| len.min(MOST_SAMPLES))
    })
}

fn ways(
    args: &Eval,
    drawer: &Drawer,
    features: &dyn Extractor,
    reference: &Reference,
) -> anyhow::Result<Vec<Way>> {
    let jumps = args.steps.iter().map(|steps| {
        let name = format!("{steps} jump{}", if steps.get() == 1 { "" } else { "s" });
        (name, uniform_grid(steps.get()), Solver::Jump)
    });
    let ode = args.ode.as_ref().map(|route| {
        (
            format!("ODE {}", route.text),
            uniform_grid(route.steps),
            Solver::Ode(route.ode),
        )
    });
    let repeats = args.repeats.get();
    let progress = Count::new(
        (args.steps.len() + usize::from(ode.is_some())) * repeats * samples(args, reference),
    );
    let ways = jumps.chain(ode).map(|(name, grid, solver)| {
        let draw = |seeds: &[u64], labels: Option<&[i64]>| {
            let drawn = drawer.draw(seeds, labels, (&grid, solver))?;
            progress.add(seeds.len());
            Ok(drawn)
        };
        way(name, args, drawer, features, reference, draw)
    });
    let ways = ways.collect();
    progress.finish();
    ways
}

/// All repetitions of one way.
fn way(
    name: String,
    args: &Eval,
    drawer: &Drawer,
    features: &dyn Extractor,
    reference: &Reference,
    draw: impl Fn(&[u64], Option<&[i64]>) -> anyhow::Result<(Tensor, Vec<usize>)>,
) -> anyhow::Result<Way> {
    let count = samples(args, reference) as u64;
    let mut all: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    let (mut first, mut classes) = (None, None);
    let (mut evaluations, mut drawn) = (0, 0);
    for repeat in 0..args.repeats.get() as u64 {
        let start = args.seed + repeat * count;
        let seeds: Vec<u64> = (start..start + count).collect();
        let labels = drawer.labels(args.labels, &seeds, reference.labels())?;
        let mut gathered = Gathered::new(&args.metrics);
        for (index, seeds) in seeds.chunks(CHUNK).enumerate() {
            let labels = labels
                .as_deref()
                .map(|all| &all[index * CHUNK..index * CHUNK + seeds.len()]);
            let (pictures, counts) = draw(seeds, labels)?;
            evaluations += counts.iter().sum::<usize>();
            drawn += counts.len();
            first
                .get_or_insert_with(|| pictures.narrow(0, 0, FIRST.min(seeds.len()) as i64).copy());
            gathered.push(features.extract(&pictures)?)?;
        }
        for (name, value) in gathered.figures(reference)? {
            all.entry(name).or_default().push(value);
        }
        if let Some(counts) = gathered.found(labels.as_deref(), drawer.model.config().classes) {
            all.entry("class_accuracy")
                .or_default()
                .push(share(&counts));
            classes.get_or_insert(counts);
        }
    }
    Ok(Way {
        name,
        evaluations: Some(evaluations as f64 / drawn as f64),
        figures: all
            .into_iter()
            .map(|(name, values)| (name, Figure::of(values)))
            .collect(),
        classes,
        first: first
            .unwrap_or_else(|| Tensor::zeros([0], (Kind::Uint8, meanflow_torch::Device::Cpu))),
    })
}

/// Pictures that were drawn before.
fn as_drawn(
    args: &Eval,
    source: &dyn Source,
    features: &dyn Extractor,
    reference: &Reference,
) -> anyhow::Result<Way> {
    let mut gathered = Gathered::new(&args.metrics);
    for start in (0..source.len()).step_by(CHUNK) {
        let end = source.len().min(start + CHUNK);
        gathered.push(features.extract(&bytes_of(source, start, end)?)?)?;
    }
    let mut figures = gathered.figures(reference)?;
    let labels = (source.classes() > 0).then(|| source.labels());
    let classes = gathered.found(labels, source.classes() as i64);
    if let Some(counts) = &classes {
        figures.insert("class_accuracy", share(counts));
    }
    Ok(Way {
        name: "as drawn".to_owned(),
        evaluations: None,
        figures: figures
            .into_iter()
            .map(|(name, value)| (name, Figure::of(vec![value])))
            .collect(),
        classes,
        first: bytes_of(source, 0, FIRST.min(source.len()))?,
    })
}

/// The share of all samples in which the class is found that was asked for.
fn share(counts: &[[u64; 2]]) -> f64 {
    let [found, asked] = [0, 1].map(|part| counts.iter().map(|pair| pair[part]).sum::<u64>());
    found as f64 / asked as f64
}

impl Memorisation {
    fn of(data: &Data, first: &Tensor, features: &dyn Extractor) -> anyhow::Result<Self> {
        let samples = features.extract(first)?.pooled;
        let found = nearest(&samples, &data.features, 1)?;
        let distances: Vec<f64> = found.distances.iter().map(|row| row[0]).collect();
        let rows = data.features.size()[0].min(1000);
        // The nearest to a picture of the data is itself.
        let among = nearest(&data.features.narrow(0, 0, rows), &data.features, 2)?;
        Ok(Self {
            sample_to_data: median(distances.clone()),
            data_to_data: median(among.distances.iter().map(|row| row[1]).collect()),
            nearest: found.indices.iter().map(|row| row[0]).collect(),
            distances,
        })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Residuals of the model on the first pictures of the data.
fn laws(data: &Data, drawer: &Drawer) -> anyhow::Result<Laws> {
    let model = &drawer.model;
    let rows = PROBE.min(data.source.len());
    let indices: Vec<usize> = (0..rows).collect();
    let examples = data.source.draw(&indices, 0, 0)?;
    let shape = &model.config().shape;
    let size: Vec<i64> = std::iter::once(rows as i64)
        .chain(shape.iter().copied())
        .collect();
    let there = |x: Tensor| x.to_kind(model.kind()).to_device(model.device());
    let seeds: Vec<u64> = (0..rows as u64).collect();
    let probe = Probe {
        data: &there(Tensor::from_slice(&examples.values).reshape(&size)),
        noise: &there(noise(&seeds, shape)),
        labels: (model.config().classes > 0 && !examples.labels.is_empty())
            .then_some(&examples.labels),
    };
    let times: Vec<f64> = (0..TIMES).map(|i| i as f64 / (TIMES - 1) as f64).collect();
    Ok(Laws::of(model, &probe, &times)?)
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
