//! Ways of drawing samples from the model under test, and the values of each.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use meanflow_eval::{
    ClassCount, Estimate, Evaluation, FeatureSet, MetricId, ReferenceFeatures, RepetitionState,
    SampleBatch, estimates, pictures,
};
use meanflow_torch::Shard;
use meanflow_torch::Tensor;
use meanflow_torch::sampler::{Solver, uniform_grid};
use serde::{Serialize, Serializer};

use super::model::{Generator, ModelUnderTest};
use super::options::Eval;
use crate::commands::picture_data::PictureData;
use crate::progress::Count;
use crate::usage::Usage;

/// What kind of sampler it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SamplerKind {
    /// Steps of average velocities.
    Meanflow,
    /// The flow-matching ODE of the same network.
    Ode,
    /// Pictures drawn before.
    AsGiven,
}

/// A way of drawing samples.
pub(super) struct Sampler<'a> {
    pub(super) name: String,
    pub(super) kind: SamplerKind,
    /// Samples of a repetition: its number, and which of them.
    draw: Box<dyn Fn(u64, Range<u64>) -> Result<SampleBatch> + 'a>,
}

/// The values of the samples of one sampler.
#[derive(Debug, Serialize)]
pub(super) struct SamplerReport {
    pub(super) name: String,
    pub(super) kind: SamplerKind,
    /// Network evaluations a sample, on average.
    pub(super) nfe: Option<f64>,
    pub(super) metrics: Metrics,
    /// Of the first repetition: for each class, in how many samples it is found, of how many that were asked to have it.
    pub(super) classes: Option<Vec<ClassCount>>,
    /// The first samples, and their classes.
    #[serde(skip)]
    pub(super) first: (Tensor, Vec<i64>),
}

/// Values by identity, written under the names that the features give them.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) features: FeatureSet,
    pub(super) values: BTreeMap<MetricId, Estimate>,
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let named = self.values.iter();
        serializer.collect_map(named.map(|(id, value)| (id.key(&self.features), value)))
    }
}

/// The seeds of every repetition's samples.
pub(super) fn last_seed(args: &Eval, samples: u64) -> Result<u64> {
    let count = samples.checked_mul(args.repeats.get() as u64);
    let last = count.and_then(|count| args.seed.checked_add(count - 1));
    last.ok_or_else(|| {
        let repeats = args.repeats;
        let text = format!(
            "--seed {}: {repeats} repetitions of {samples} samples have seeds beyond the last, {}",
            args.seed,
            u64::MAX
        );
        Usage(text).into()
    })
}

/// All samplers of a model; `labels` are the classes of the reference, `samples` those of a repetition.
pub(super) fn samplers<'a>(
    args: &'a Eval,
    model: &'a ModelUnderTest,
    labels: &'a [i64],
    samples: u64,
) -> Vec<Sampler<'a>> {
    let generator = match model {
        ModelUnderTest::Model(generator) => generator,
        ModelUnderTest::Pictures(_, data) => return vec![as_given(data)],
    };
    let sampler = |name, kind, grid: Vec<f64>, solver| Sampler {
        name,
        kind,
        draw: Box::new(move |repeat, range| {
            let first = args.seed + repeat * samples;
            let seeds: Vec<u64> = range.map(|sample| first + sample).collect();
            drawn_by(generator, args, labels, &seeds, (&grid, solver))
        }),
    };
    let steps = args.steps.iter().map(|steps| {
        let name = format!("{steps} step{}", if steps.get() == 1 { "" } else { "s" });
        let grid = uniform_grid(steps.get());
        sampler(name, SamplerKind::Meanflow, grid, Solver::Jump)
    });
    let ode = args.ode.as_ref().map(|ode| {
        let name = format!("ODE {}", ode.text);
        let grid = uniform_grid(ode.steps);
        sampler(name, SamplerKind::Ode, grid, Solver::Ode(ode.ode))
    });
    steps.chain(ode).collect()
}

fn drawn_by(
    generator: &Generator,
    args: &Eval,
    labels: &[i64],
    seeds: &[u64],
    how: (&[f64], Solver),
) -> Result<SampleBatch> {
    let asked = generator.labels(args.labels, seeds, labels);
    generator.draw(seeds, asked, how)
}

/// Pictures that were drawn before.
fn as_given(data: &PictureData) -> Sampler<'_> {
    let source = &*data.source;
    Sampler {
        name: "as given".to_owned(),
        kind: SamplerKind::AsGiven,
        draw: Box::new(move |_, range| {
            let (start, end) = (range.start as usize, range.end as usize);
            let labels = source.labels().get(start..end);
            let labels = labels.filter(|_| source.classes() > 0);
            Ok(SampleBatch {
                pictures: pictures::bytes_of(source, start, end)?,
                labels: labels.map(<[i64]>::to_vec),
                nfe: 0,
            })
        }),
    }
}

impl Sampler<'_> {
    /// Draws a shard of one repetition.
    pub(super) fn collect(
        &self,
        evaluation: &Evaluation<'_>,
        shape: &[usize],
        repeat: u64,
        shard: Shard,
        progress: &Count,
    ) -> Result<RepetitionState> {
        let samples = shard.samples(evaluation.config().samples);
        let draw = |range| (self.draw)(repeat, range);
        evaluation.collect(shape, samples, draw, |more| progress.add(more as usize))
    }
}

impl SamplerReport {
    /// The values of all repetitions, which `state` gives one by one; none of them is kept once it is computed.
    pub(super) fn of(
        sampler: &Sampler<'_>,
        evaluation: &Evaluation<'_>,
        reference: &ReferenceFeatures,
        repeats: u64,
        mut state: impl FnMut(u64) -> Result<RepetitionState>,
        progress: &Count,
    ) -> Result<Self> {
        let (mut results, mut first, mut work) = (Vec::new(), None, [0, 0]);
        for repeat in 0..repeats {
            let state = state(repeat)?;
            progress.say("computing metrics");
            results.push(evaluation.compute(&state, reference)?);
            progress.say("");
            work = [work[0] + state.samples(), work[1] + state.nfe()];
            let preview = || (state.first_pictures(), state.first_labels().to_vec());
            first.get_or_insert_with(preview);
        }
        let [samples, nfe] = work;
        Ok(Self {
            name: sampler.name.clone(),
            kind: sampler.kind,
            nfe: (nfe > 0).then(|| nfe as f64 / samples as f64),
            metrics: Metrics {
                features: evaluation.features().clone(),
                values: estimates(&results),
            },
            classes: results.first().and_then(|result| result.classes.clone()),
            first: first.unwrap_or_else(|| (Tensor::new(), Vec::new())),
        })
    }
}
