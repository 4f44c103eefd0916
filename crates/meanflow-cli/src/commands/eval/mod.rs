//! `meanflow eval`: how good samples are, with everything on record that a figure depends on.

mod figures;
mod heat_map;
mod page;
mod pictures;
mod protocol;
mod reference;
mod report;
mod subject;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use meanflow_data::write_bytes;
use meanflow_eval::{Extractor, FeatureNetwork, InceptionV3, Pixels, Resize, digits_classifier};
use meanflow_torch::Device;
use meanflow_train::fingerprint;

use crate::args::Compute;
use crate::commands::open_device;
use crate::failure::Usage;
use crate::output::{note, say};
use crate::route::OdeRoute;

use figures::Metric;
use protocol::Identity;
use reference::Reference;
use report::Report;
use subject::{Labels, Subject};

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
    /// Samples of one repetition [default: as many as the reference has, at most 50000]
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
    /// Where report.json and report.html go [default: the run folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
    /// Print report.json too
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Eval) -> anyhow::Result<u8> {
    let out = folder(args)?;
    let device = open_device(&args.compute)?;
    let subject = Subject::open(&args.subject, device)?;
    let (features, identity) = features(args, &subject, device)?;
    let data = subject.trained_on();
    let reference = Reference::open(args.reference.as_deref(), data, &subject, &*features)?;
    let report = Report::new(args, &subject, &*features, &identity, &reference)?;
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let json = serde_json::to_string_pretty(&report)? + "\n";
    write_bytes(&out.join("report.json"), json.as_bytes())?;
    let page = page::html(&report, &subject, &reference)?;
    write_bytes(&out.join("report.html"), page.as_bytes())?;
    if args.json {
        say(json.trim_end());
    } else {
        say(report.table());
    }
    note(format_args!(
        "wrote {out}/report.json and {out}/report.html",
        out = out.display()
    ));
    Ok(0)
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
