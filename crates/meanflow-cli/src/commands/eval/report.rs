//! What is said of a model: every figure, and all that it depends on.

use meanflow_data::Source;
use meanflow_eval::{Extractor, Laws, Probe};
use meanflow_torch::Tensor;
use meanflow_torch::sampler::noise;
use serde::Serialize;
use serde_json::Value;

use super::memorisation::Memorisation;
use super::reference::Measured;
use super::subject::{Drawer, Subject};
use super::way::{Figure, Way};

/// Everything; `report.json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) protocol: Value,
    /// One for each way of drawing.
    pub(super) ways: Vec<Way>,
    pub(super) memorisation: Option<Memorisation>,
    pub(super) laws: Option<Laws>,
}

/// Rows of the probe of the laws.
const PROBE: usize = 200;
/// Times of the laws: 0, 0.1, …, 1.
const TIMES: usize = 11;

impl Report {
    /// Adds what is said beside the figures.
    pub(super) fn new(
        protocol: Value,
        ways: Vec<Way>,
        subject: &Subject,
        extractor: &dyn Extractor,
        reference: &Measured,
    ) -> anyhow::Result<Self> {
        let data = reference.data.as_ref();
        let memorisation = match (data, ways.first()) {
            (Some(data), Some(way)) => Some(Memorisation::of(data, &way.first, extractor)?),
            _ => None,
        };
        let laws = match (data, subject) {
            (Some(data), Subject::Model(drawer)) => Some(laws(&*data.source, drawer)?),
            _ => None,
        };
        Ok(Self {
            protocol,
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

/// Residuals of the model on the first pictures of the data.
fn laws(data: &dyn Source, drawer: &Drawer) -> anyhow::Result<Laws> {
    let model = &drawer.model;
    let rows = PROBE.min(data.len());
    let indices: Vec<usize> = (0..rows).collect();
    let examples = data.draw(&indices, 0, 0)?;
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
