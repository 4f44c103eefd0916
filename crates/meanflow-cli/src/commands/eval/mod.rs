//! `meanflow eval`: how good samples are, with everything on record that a figure depends on.

mod heat_map;
mod memorisation;
mod page;
mod parts;
mod pictures;
mod protocol;
mod reference;
mod report;
mod shard;
mod subject;
mod tally;
mod way;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use meanflow_data::write_bytes;
use meanflow_eval::{Extractor, FeatureNetwork, InceptionV3, Pixels, Resize, digits_classifier};
use meanflow_torch::Device;
use meanflow_train::fingerprint;

use crate::args::{Compute, Reading};
use crate::commands::open_device;
use crate::failure::Usage;
use crate::output::{note, say};
use crate::route::OdeRoute;

use protocol::{Identity, protocol};
use reference::{Measured, Reference};
use report::Report;
use shard::Shard;
use subject::{Labels, Subject};
use tally::{Metric, Wanted};
use way::Way;

/// Samples where neither a number is asked for nor the reference has one, and at most.
const MOST_SAMPLES: usize = 50_000;

/// Measure a model against data: distances, scores, its own laws; report.json and report.html say how.
///
/// Samples of the same network are drawn by 1, 2, 4 and 8 jumps, and by its flow-matching ODE where asked for. Everything is repeated with
/// other seeds, which gives the intervals.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  meanflow eval runs/digits\n  \
meanflow eval runs/digits --steps 1,2 --ode heun:50 --repeats 5 --out report\n  \
meanflow eval batch.npz --ref statistics.npz --features inception:inception.safetensors --metrics fid --out report")]
pub(crate) struct Eval {
    /// A run folder, a weights file (.safetensors), or pictures drawn before: an .npz with arr_0, a folder, a .zip or .tar
    #[arg(value_name = "MODEL|PICTURES")]
    subject: PathBuf,
    /// Statistics of features (.npz), a recipe (.toml) whose data is taken as it is, or pictures [default: the data the model was trained on]
    #[arg(long = "ref", value_name = "STATS|DATA")]
    reference: Option<PathBuf>,
    /// pixels, digits (a classifier of 8×8 digits), inception:FILE, or a .safetensors of your own [default: digits for such pictures, else pixels]
    #[arg(long, value_name = "FEATURES")]
    features: Option<String>,
    /// How Inception's pictures are resized: clean, legacy_tf, legacy_pytorch
    #[arg(long, value_name = "MODE", default_value = "clean")]
    resize: String,
    /// Which figures
    #[arg(long, value_delimiter = ',', value_enum, default_values = ["fid", "kid", "pr", "is"])]
    metrics: Vec<Metric>,
    /// Numbers of jumps
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values = ["1", "2", "4", "8"])]
    steps: Vec<NonZeroUsize>,
    /// Also the flow-matching ODE of the same network: euler:N, heun:N, rk4:N or adaptive:TOLERANCE
    #[arg(long, value_name = "METHOD")]
    ode: Option<OdeRoute>,
    /// Samples of one repetition [default: as many as the reference has, at most 50000]; of pictures the first ones [default: all]
    #[arg(long, value_name = "N")]
    samples: Option<NonZeroUsize>,
    /// Repetitions with other seeds
    #[arg(long, value_name = "N", default_value = "3")]
    repeats: NonZeroUsize,
    /// The first seed; a repetition has the seeds after those of the one before
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u64,
    /// Classes: data (as the reference has them), balanced, random
    #[arg(long, value_enum, default_value = "data")]
    labels: Labels,
    /// Draw nothing: put together what the ranks of a sharded evaluation have left in --out
    #[arg(long)]
    merge: bool,
    /// Where report.json and report.html go [default: the run folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    compute: Compute,
    /// Print report.json too
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Eval) -> anyhow::Result<u8> {
    let out = folder(args)?;
    let shard = (!args.merge).then(Shard::of_environment).transpose()?;
    let device = open_device(&args.compute)?;
    let subject = Subject::open(&args.subject, device, &args.reading)?;
    let (extractor, identity) = features(args, &subject, device)?;
    let reference = Reference::open(args.reference.as_deref(), subject.trained_on(), &subject)?;
    let wanted = Wanted {
        metrics: &metrics(args, &reference)?,
        samples: samples(args, &subject, &reference)?,
        repeats: subject.repeats(args.repeats),
        classes: subject.classes(),
    };
    refuse_seeds_beyond(args.seed, wanted.samples, args.repeats)?;
    let routes = way::routes(args, &subject, reference.labels(), wanted.samples);
    let features = (&*extractor, &identity);
    let protocol = protocol(args, &subject, features, &reference, &routes, &wanted);
    if let Some(shard) = shard.flatten() {
        let tallies = way::draw(&routes, shard, &wanted, &*extractor)?;
        let path = parts::leave(&out, shard, &protocol, &tallies)?;
        let path = path.display();
        note(format_args!(
            "wrote {path}; --merge makes the report, once all ranks are done"
        ));
        return Ok(0);
    }
    let (protocol, tallies) = match args.merge {
        true => parts::gather(&out, protocol, routes.len(), wanted.repeats)?,
        false => (
            protocol,
            way::draw(&routes, Shard::ALL, &wanted, &*extractor)?,
        ),
    };
    let names: Vec<String> = routes.into_iter().map(|route| route.name).collect();
    let reference = reference.measure(&*extractor)?;
    let ways = names.into_iter().zip(&tallies);
    let ways = ways.map(|(name, tallies)| Way::of(name, tallies, &wanted, &reference));
    let ways = ways.collect::<anyhow::Result<_>>()?;
    let report = Report::new(protocol, ways, &subject, &*extractor, &reference)?;
    write(args, &out, &report, &reference)?;
    Ok(0)
}

/// Writes the report and its page, and says what is in it.
fn write(args: &Eval, out: &Path, report: &Report, reference: &Measured) -> anyhow::Result<()> {
    let shown = out.display();
    fs::create_dir_all(out).with_context(|| format!("cannot make {shown}"))?;
    let json = serde_json::to_string_pretty(report)? + "\n";
    write_bytes(&out.join("report.json"), json.as_bytes())?;
    let page = page::html(report, reference)?;
    write_bytes(&out.join("report.html"), page.as_bytes())?;
    if args.json {
        say(json.trim_end());
    } else {
        say(report.table());
    }
    note(format_args!(
        "wrote {shown}/report.json and {shown}/report.html"
    ));
    Ok(())
}

/// Refuses seeds of which the last would be beyond 2⁶⁴ − 1.
fn refuse_seeds_beyond(first: u64, samples: u64, repeats: NonZeroUsize) -> anyhow::Result<()> {
    let count = samples.checked_mul(repeats.get() as u64);
    let last = count.and_then(|count| first.checked_add(count.saturating_sub(1)));
    if last.is_some() {
        return Ok(());
    }
    let text = format!(
        "--seed {first}: expected room for {samples} samples × {repeats} repetitions below 2^64"
    );
    Err(Usage(text).into())
}

/// The figures asked for that the reference allows.
fn metrics(args: &Eval, reference: &Reference) -> anyhow::Result<Vec<Metric>> {
    let has_pictures = reference.len().is_some();
    let is_possible = |metric: &Metric| has_pictures || !metric.needs_rows();
    let metrics: Vec<Metric> = args.metrics.iter().copied().filter(is_possible).collect();
    if metrics.is_empty() {
        let text = "--metrics: kid and pr need pictures as --ref, not statistics alone";
        return Err(Usage(text.to_owned()).into());
    }
    Ok(metrics)
}

/// How many samples a repetition has: those asked for, or as many as the reference has; of pictures all.
fn samples(args: &Eval, subject: &Subject, reference: &Reference) -> anyhow::Result<u64> {
    let asked = args.samples.map(usize::from);
    let samples = match (subject, asked) {
        (Subject::Pictures(_, source), Some(asked)) if asked > source.len() => {
            let text = format!("--samples {asked}: there are {} pictures", source.len());
            return Err(Usage(text).into());
        }
        (_, Some(asked)) => asked,
        (Subject::Pictures(_, source), None) => source.len(),
        (Subject::Model(_), None) => reference
            .len()
            .map_or(MOST_SAMPLES, |len| len.min(MOST_SAMPLES)),
    };
    Ok(samples as u64)
}

/// Where the report goes.
fn folder(args: &Eval) -> anyhow::Result<PathBuf> {
    let is_run = args.subject.join("model.safetensors").is_file();
    match &args.out {
        Some(out) if out.is_file() => Err(Usage(format!(
            "--out {}: expected a folder, got a file",
            out.display()
        ))
        .into()),
        Some(out) => Ok(out.clone()),
        None if is_run => Ok(args.subject.clone()),
        None => {
            Err(Usage("--out DIR is needed where no run folder is evaluated".to_owned()).into())
        }
    }
}

/// What makes the features, and which file that is.
fn features(
    args: &Eval,
    subject: &Subject,
    device: Device,
) -> anyhow::Result<(Box<dyn Extractor>, Identity)> {
    let are_digits = subject.shape()? == [1, 8, 8];
    let default = if are_digits { "digits" } else { "pixels" };
    let wanted = args.features.as_deref().unwrap_or(default);
    let resize = resize(&args.resize)?;
    if let Some(file) = wanted.strip_prefix("inception:") {
        let network = InceptionV3::load(Path::new(file), resize, device)?;
        return Ok((Box::new(network), identity(Path::new(file))?));
    }
    Ok(match wanted {
        "pixels" => (Box::new(Pixels), Identity::named("pixels in [-1, 1]")),
        "digits" => (
            Box::new(digits_classifier(device)?),
            Identity::embedded("digits classifier", meanflow_eval::DIGITS_CLASSIFIER),
        ),
        file => {
            let path = Path::new(file);
            let network = FeatureNetwork::load(path, device)?;
            (Box::new(network), identity(path)?)
        }
    })
}

fn resize(name: &str) -> anyhow::Result<Resize> {
    let known = Resize::ALL.into_iter().find(|mode| mode.name() == name);
    let names = Resize::ALL.map(Resize::name).join(", ");
    Ok(known.ok_or_else(|| Usage(format!("--resize: expected one of {names}, got {name}")))?)
}

/// Name and hash of a file.
fn identity(path: &Path) -> anyhow::Result<Identity> {
    Ok(Identity {
        name: path.display().to_string(),
        sha256: Some(fingerprint(path)?.1),
    })
}
