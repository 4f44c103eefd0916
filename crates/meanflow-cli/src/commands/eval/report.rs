//! What is said of a model: every value, and all that it depends on.

use meanflow_data::Dataset;
use meanflow_eval::{Evaluation, Extractor, Memorisation, Omitted, Probe, Residuals};
use meanflow_torch::Tensor;
use meanflow_torch::sampler::noise;
use serde::Serialize;
use serde_json::Value;

use super::model::{Generator, ModelUnderTest};
use super::reference::Measured;
use super::samplers::SamplerReport;

/// Everything; `report.json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) protocol: Value,
    /// One for each sampler.
    pub(super) samplers: Vec<SamplerReport>,
    /// What a reader has to know of the number of samples behind the values.
    pub(super) notes: Vec<String>,
    /// Metrics that could not be computed.
    pub(super) omitted: Vec<Omitted>,
    pub(super) class_names: Option<Vec<String>>,
    pub(super) memorisation: Option<Memorisation>,
    pub(super) residuals: Option<Residuals>,
}

/// Rows of the probe of the residuals.
const PROBE: usize = 200;
/// Times of the residuals: 0, 0.1, …, 1.
const TIMES: usize = 11;

impl Report {
    /// Adds what is said beside the values.
    pub(super) fn new(
        protocol: Value,
        samplers: Vec<SamplerReport>,
        model: &ModelUnderTest,
        (extractor, evaluation): (&dyn Extractor, &Evaluation<'_>),
        reference: &Measured,
    ) -> anyhow::Result<Self> {
        let memorisation = memorisation(samplers.first(), extractor, reference)?;
        let residuals = match (&reference.data, model) {
            // Of latents the data is pictures, which the network does not see.
            (Some(data), ModelUnderTest::Model(generator)) if !generator.has_latents() => {
                Some(residuals(&*data.source, generator)?)
            }
            _ => None,
        };
        let of_data = || reference.data.as_ref()?.class_names.as_deref();
        let class_names = model.class_names().or_else(of_data);
        Ok(Self {
            protocol,
            samplers,
            notes: evaluation.notes(),
            omitted: evaluation.omitted().to_vec(),
            class_names: class_names.map(<[String]>::to_vec),
            memorisation,
            residuals,
        })
    }

    /// The name of a class, or its number.
    pub(super) fn class_name(&self, class: usize) -> String {
        let name = self.class_names.as_ref().and_then(|names| names.get(class));
        name.cloned().unwrap_or_else(|| class.to_string())
    }
}

/// How near the first samples are to the data, where it is pictures, and more than one.
fn memorisation(
    sampler: Option<&SamplerReport>,
    extractor: &dyn Extractor,
    reference: &Measured,
) -> anyhow::Result<Option<Memorisation>> {
    let (Some(sampler), Ok(rows)) = (sampler, reference.features.rows()) else {
        return Ok(None);
    };
    if rows.size()[0] < 2 {
        return Ok(None);
    }
    let samples = extractor.extract(&sampler.first.0)?.pooled;
    Ok(Some(Memorisation::of(&samples, rows)?))
}

/// Residuals of the model on the first pictures of the data.
fn residuals(data: &dyn Dataset, generator: &Generator) -> anyhow::Result<Residuals> {
    let model = &generator.model;
    let rows = PROBE.min(data.len());
    let indices: Vec<usize> = (0..rows).collect();
    let examples = data.batch(&indices, 0, 0)?;
    let shape = &model.config().shape;
    let size: Vec<i64> = std::iter::once(rows as i64)
        .chain(shape.iter().copied())
        .collect();
    let there = |x: Tensor| x.to_kind(model.kind()).to_device(model.device());
    let seeds: Vec<u64> = (0..rows as u64).collect();
    let classes = model.config().classes;
    let are_known = examples
        .labels
        .iter()
        .all(|label| (0..classes).contains(label));
    let probe = Probe {
        data: &there(Tensor::from_slice(&examples.values).reshape(&size)),
        noise: &there(noise(&seeds, shape)),
        labels: (classes > 0 && !examples.labels.is_empty() && are_known)
            .then_some(&examples.labels),
    };
    let times: Vec<f64> = (0..TIMES).map(|i| i as f64 / (TIMES - 1) as f64).collect();
    Ok(Residuals::of(model, &probe, &times)?)
}
