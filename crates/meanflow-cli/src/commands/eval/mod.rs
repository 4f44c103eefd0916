//! `meanflow eval`: how good samples are, with everything on record that a value depends on.

mod identity;
mod memory;
mod model;
pub(crate) mod options;
mod page;
mod parts;
mod protocol;
mod reference;
mod report;
mod samplers;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use meanflow_data::write_bytes;
use meanflow_eval::{
    DIGITS_CLASSIFIER, EvalConfig, Evaluation, Extractor, FeatureNetwork, InceptionV3, Pixels,
    Resize, digits_classifier,
};
use meanflow_torch::{Device, Shard};
use serde_json::Value;

use crate::commands::opening::open_device;
use crate::commands::ranks;
use crate::output::{is_json, note, say};
use crate::progress::Count;
use crate::usage::Usage;

use identity::Identity;
use model::ModelUnderTest;
use options::Eval;
use parts::Parts;
use protocol::protocol;
use reference::{Measured, ReferenceData};
use report::Report;
use samplers::{Sampler, SamplerReport};

/// Samples where neither a number is asked for nor the reference has one, and at most.
const MOST_SAMPLES: usize = 50_000;

pub(crate) fn run(args: &Eval) -> anyhow::Result<u8> {
    let out = folder(args)?;
    let shard = match args.merge {
        true => Shard::ALL,
        false => ranks::world()?.shard(),
    };
    let device = open_device(&args.compute)?;
    let model = ModelUnderTest::open(args, device)?;
    let (extractor, identity) = extractor(args, &model, device)?;
    let reference = ReferenceData::open(args.reference.as_deref(), &model, &args.look)?;
    reference.check_classes(&model, args.labels)?;
    let samples = samples(args, &model, &reference)?;
    let evaluation = evaluation(args, &model, &*extractor, &reference, samples)?;
    let labels = reference.labels().to_vec();
    let samplers = samplers::samplers(args, &model, &labels, samples);
    let features = (&*extractor, &identity);
    let protocol = protocol(args, &model, features, &reference, &samplers, &evaluation)?;
    let work = Sampling {
        samplers: &samplers,
        evaluation: &evaluation,
        shape: &model.shape()?,
        repeats: model.repeats(args.repeats),
    };
    if shard != Shard::ALL {
        let path = parts::leave(&out, shard, &protocol, &work.draw(shard)?)?;
        let path = path.display();
        note(format_args!(
            "wrote {path}; --merge makes the report, once all ranks are done"
        ));
        return Ok(0);
    }
    let (protocol, parts) = parts(args, &out, protocol)?;
    let reference = reference.measure(&*extractor, &evaluation)?;
    let reports = work.compute(parts, &reference)?;
    let features = (&*extractor, &evaluation);
    let report = Report::new(protocol, reports, &model, features, &reference)?;
    write(&out, &report, &reference)?;
    Ok(0)
}

/// The parts of all ranks, where they are to be put together.
fn parts(args: &Eval, out: &Path, mut protocol: Value) -> anyhow::Result<(Value, Option<Parts>)> {
    let parts = args.merge.then(|| Parts::open(out, &mut protocol));
    let parts = parts.transpose()?;
    Ok((protocol, parts))
}

/// What is drawn, and what is made of it.
struct Sampling<'a> {
    samplers: &'a [Sampler<'a>],
    evaluation: &'a Evaluation<'a>,
    shape: &'a [usize],
    repeats: u64,
}

impl Sampling<'_> {
    /// A shard of every repetition of every sampler.
    fn draw(&self, shard: Shard) -> anyhow::Result<Vec<Vec<meanflow_eval::RepetitionState>>> {
        let count = shard.samples(self.evaluation.config().samples);
        let all = (count.end - count.start) * self.repeats;
        let of_sampler = |sampler: &Sampler<'_>| {
            let progress = Count::named(&sampler.name, all as usize);
            let state =
                |repeat| sampler.collect(self.evaluation, self.shape, repeat, shard, &progress);
            let states = (0..self.repeats).map(state).collect();
            progress.finish();
            states
        };
        self.samplers.iter().map(of_sampler).collect()
    }

    /// The values of every sampler, whose samples are drawn here or come from parts.
    fn compute(
        &self,
        mut parts: Option<Parts>,
        reference: &Measured,
    ) -> anyhow::Result<Vec<SamplerReport>> {
        let (evaluation, repeats) = (self.evaluation, self.repeats);
        let all = evaluation.config().samples * repeats;
        let mut reports = Vec::new();
        for (index, sampler) in self.samplers.iter().enumerate() {
            let progress = Count::named(&sampler.name, all as usize);
            let state = |repeat| match &mut parts {
                Some(parts) => parts.state(evaluation, index, repeat),
                None => sampler.collect(evaluation, self.shape, repeat, Shard::ALL, &progress),
            };
            let features = &reference.features;
            let report =
                SamplerReport::of(sampler, evaluation, features, repeats, state, &progress);
            progress.finish();
            reports.push(report?);
        }
        Ok(reports)
    }
}

/// Writes the report and its page, and says what is in it.
fn write(out: &Path, report: &Report, reference: &Measured) -> anyhow::Result<()> {
    let shown = out.display();
    fs::create_dir_all(out).with_context(|| format!("cannot make {shown}"))?;
    let json = serde_json::to_string_pretty(report)? + "\n";
    write_bytes(&out.join("report.json"), json.as_bytes())?;
    let page = page::html(report, reference)?;
    write_bytes(&out.join("report.html"), page.as_bytes())?;
    if is_json() {
        say(json.trim_end());
    } else {
        say(table::table(report));
    }
    note(format_args!(
        "wrote {shown}/report.json and {shown}/report.html"
    ));
    Ok(())
}

/// What can be computed; a metric that was asked for by name and cannot be is refused, and so is what needs more memory than there is.
fn evaluation<'a>(
    args: &Eval,
    model: &ModelUnderTest,
    extractor: &'a dyn Extractor,
    reference: &ReferenceData,
    samples: u64,
) -> anyhow::Result<Evaluation<'a>> {
    let mut config = EvalConfig::new(samples, model.classes());
    if !args.metrics.is_empty() {
        config.families = args.metrics.iter().map(|metric| metric.family()).collect();
    }
    let evaluation = Evaluation::new(extractor, model.shape()?, reference.facts(), config)?;
    let omitted = evaluation.omitted();
    let computed = evaluation.metrics();
    if let Some(omitted) = omitted.iter().find(|omitted| omitted.id.is_main())
        && (!args.metrics.is_empty() || computed.is_empty())
    {
        let (metric, reason) = (&omitted.metric, &omitted.reason);
        return Err(Usage(format!("--metrics: {metric} cannot be computed: {reason}")).into());
    }
    memory::check(&evaluation, reference.len())?;
    Ok(evaluation)
}

/// How many samples a repetition has: those asked for, or as many as the reference has; of pictures all.
fn samples(args: &Eval, model: &ModelUnderTest, reference: &ReferenceData) -> anyhow::Result<u64> {
    let asked = args.samples.map(usize::from);
    let samples = match (model, asked) {
        (ModelUnderTest::Pictures(_, data), Some(asked)) if asked > data.source.len() => {
            let got = data.source.len();
            let text = format!("--samples {asked}: there are {got} pictures");
            return Err(Usage(text).into());
        }
        (_, Some(asked)) => asked,
        (ModelUnderTest::Pictures(_, data), None) => data.source.len(),
        (ModelUnderTest::Model(_), None) => reference
            .len()
            .map_or(MOST_SAMPLES, |len| len.min(MOST_SAMPLES)),
    };
    if let ModelUnderTest::Model(_) = model {
        samplers::last_seed(args, samples as u64)?;
    }
    Ok(samples as u64)
}

/// Where the report goes.
fn folder(args: &Eval) -> anyhow::Result<PathBuf> {
    let is_run = args.model.join("model.safetensors").is_file();
    match &args.out {
        Some(out) if out.is_file() => Err(Usage(format!(
            "--out {}: expected a folder, got a file",
            out.display()
        ))
        .into()),
        Some(out) => Ok(out.clone()),
        None if is_run && !args.checkpoint.is_named() => Ok(args.model.clone()),
        None => Err(Usage(
            "--out DIR is needed for anything but the last weights of a run folder".to_owned(),
        )
        .into()),
    }
}

/// What makes the features, and which file that is.
fn extractor(
    args: &Eval,
    model: &ModelUnderTest,
    device: Device,
) -> anyhow::Result<(Box<dyn Extractor>, Identity)> {
    let are_digits = model.shape()? == [1, 8, 8];
    let default = if are_digits { "digits" } else { "pixels" };
    let wanted = args.features.as_deref().unwrap_or(default);
    let resize = resize(&args.resize)?;
    if let Some(file) = wanted.strip_prefix("inception:") {
        let path = Path::new(file);
        let network = InceptionV3::load(path, resize, device)?;
        return Ok((Box::new(network), Identity::of_path(path)?));
    }
    Ok(match wanted {
        "pixels" => (Box::new(Pixels), Identity::named("pixels in [-1, 1]")),
        "digits" => (
            Box::new(digits_classifier(device)?),
            Identity::embedded("digits classifier", DIGITS_CLASSIFIER),
        ),
        "inception" => {
            let text = "--features inception: the network's weights are a file, inception:FILE (docs/src/metrics.md says where from)";
            return Err(Usage(text.to_owned()).into());
        }
        file => {
            let path = Path::new(file);
            let network = FeatureNetwork::load(path, device)?;
            (Box::new(network), Identity::of_path(path)?)
        }
    })
}

fn resize(name: &str) -> anyhow::Result<Resize> {
    let known = Resize::ALL.into_iter().find(|mode| mode.name() == name);
    let names = Resize::ALL.map(Resize::name).join(", ");
    Ok(known.ok_or_else(|| Usage(format!("--resize: expected one of {names}, got {name}")))?)
}
