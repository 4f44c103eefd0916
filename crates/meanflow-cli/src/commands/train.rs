//! `meanflow train`.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_seconds;
use meanflow_torch::{Finding, Peers, loaded_version};
use meanflow_train::config::RecipeSource;
use meanflow_train::{
    InitFrom, Observer, Origin, Outcome, Resume, RunOptions, Silent, TrainConfig, ema_notes,
    train_among,
};
use serde_json::{Value, json};

use crate::commands::opening::open_device;
use crate::commands::{ranks, replay};
use crate::failure;
use crate::options::{Compute, Recipe};
use crate::output::{is_json, note, say};
use crate::signals::Interruption;
use crate::train_progress::TrainProgress;

/// Train a model by a recipe, or go on with a run that was stopped.
///
/// The same command again continues from the newest checkpoint. Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 save one and leave; a
/// second Ctrl-C or SIGTERM leaves at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  meanflow train configs/digits.toml\n  \
meanflow train configs/digits.toml --set training.steps=100 \\\n    --set lr.peak=5e-4 --out runs/short\n  \
meanflow train --preset pictures --set data.path=PICTURES --fast-dev-run\n  \
meanflow train configs/digits.toml --dry-run\n  \
meanflow train --replay runs/digits/crash-1.json")]
#[command(mut_arg("config", |config| config.required_unless_present("replay")))]
pub(crate) struct Train {
    #[command(flatten)]
    recipe: Recipe,
    /// The run directory [default: runs/NAME for configs/NAME.toml]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where to go on from: auto (the newest checkpoint of the run directory), never, or a checkpoint folder or run directory
    #[arg(long, value_name = "auto|never|PATH", default_value = "auto")]
    resume: ResumeFrom,
    /// Begin with these weights (.safetensors, or a run directory) instead of drawn ones; a run that goes on does not look at them
    #[arg(long, value_name = "WEIGHTS")]
    init_from: Option<PathBuf>,
    /// Take the tensors of --init-from that fit, and classes by name; the others begin as drawn, other classes as "no class"
    #[arg(long, requires = "init_from")]
    init_partial: bool,
    /// The VAE that makes pictures of latents for the samples drawn on the way: a folder as diffusers writes it, or its weights (.safetensors)
    #[arg(long, value_name = "DIR|FILE")]
    vae: Option<PathBuf>,
    /// Accept that these keys of the recipe differ from those the run was begun with; the changes are recorded
    #[arg(long, value_name = "KEY,…", value_delimiter = ',')]
    allow_changes: Vec<String>,
    /// Save a checkpoint and stop after this time, such as 90s, 45m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_time: Option<Duration>,
    /// Of several processes: how long none of them may make progress, such as 90s or 20m, until all end with exit code 9
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10m")]
    peer_timeout: Duration,
    #[command(flatten)]
    compute: Compute,
    /// Print the resolved recipe and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Try everything once, three steps, samples and a checkpoint, and keep nothing of it
    #[arg(long, conflicts_with_all = ["out", "resume", "max_time", "dry_run"])]
    fast_dev_run: bool,
    /// Do the steps until a divergence again, as crash-N.json of a run directory tells them, and show the last one
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["config", "preset", "overrides", "out", "resume", "init_from",
        "allow_changes", "max_time", "dry_run", "fast_dev_run"])]
    replay: Option<PathBuf>,
}

/// Where training goes on from.
#[derive(Clone, Debug)]
pub(crate) struct ResumeFrom(pub(crate) Resume);

impl FromStr for ResumeFrom {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(match text {
            "auto" => Resume::Auto,
            "never" => Resume::Never,
            path => Resume::From(path.into()),
        }))
    }
}

/// What makes a recipe a trial of everything that a run does.
const TRIAL: [&str; 5] = [
    "training.steps=3",
    "training.checkpoint_every=3",
    "training.sample_every=3",
    "training.log_every=1",
    "lr.warmup_steps=0",
];

pub(crate) fn run(args: &Train) -> anyhow::Result<u8> {
    if let Some(bundle) = &args.replay {
        return replay::run(bundle, &args.compute);
    }
    let more = if args.fast_dev_run { &TRIAL[..] } else { &[] };
    let source = args.recipe.source(more)?;
    let config = source.parse()?;
    if args.dry_run {
        match is_json() {
            true => say(format_args!("{:#}", json!(config.to_table()))),
            false => say(config.to_toml().trim_end()),
        }
        return Ok(0);
    }
    if args.fast_dev_run {
        // Where runs lie, so that its file system is tried, too.
        let folder = tempfile::Builder::new()
            .prefix(".fast-dev-run-")
            .tempdir_in(".")?;
        return train(args, (source, config), folder.path());
    }
    let default = Path::new("runs").join(&source.name);
    let root = args.out.clone().unwrap_or(default);
    train(args, (source, config), &root)
}

/// Trains in a folder; the exit code.
fn train(
    args: &Train,
    (source, config): (RecipeSource, TrainConfig),
    root: &Path,
) -> anyhow::Result<u8> {
    let interruption = Interruption::listen()?;
    let device = open_device(&args.compute)?;
    let notes = ema_notes(&config);
    let options = options(args, source)?;
    let stop = &interruption.stop;
    let world = ranks::world()?;
    // Operations wait for longer than supervision, which knows who was last.
    let patience = ranks::PATIENCE.max(2 * args.peer_timeout);
    let peers = (world.size > 1).then(|| world.join(device, patience));
    let peers = peers.transpose()?;
    // The first tells and writes.
    let leads = world.rank == 0;
    let watch = |peers: &Peers| {
        let interruption = Arc::clone(&interruption);
        peers.supervise(args.peer_timeout, move |finding| match finding {
            Finding::Stalled(stalled) => failure::report_stalled(&stalled),
            Finding::StoreGone if leads => {
                note(ALONE);
                interruption.stop_alone();
            }
            // Where it was the first that served it, operations fail and say so.
            Finding::StoreGone => {}
        })
    };
    let _supervisor = peers.as_ref().map(watch).transpose()?;
    let mut progress = leads.then(|| TrainProgress::new(root.to_owned()));
    let mut silent = Silent;
    let observer: &mut dyn Observer = match &mut progress {
        Some(progress) => progress,
        None => &mut silent,
    };
    let outcome = train_among(config, root, device, &options, peers, stop, observer);
    if let Some(progress) = progress {
        progress.finish();
        if let Ok(outcome) = &outcome {
            tell(root, &notes, *outcome, args.fast_dev_run);
        }
    }
    Ok(match outcome? {
        Outcome::Finished => 0,
        Outcome::Stopped(_) => interruption.exit_code(),
        Outcome::OutOfTime(_) => OUT_OF_TIME,
    })
}

/// Says how a run ended.
fn tell(root: &Path, notes: &[String], outcome: Outcome, is_trial: bool) {
    if outcome == Outcome::Finished {
        notes.iter().for_each(note);
    }
    match is_json() {
        true => say(format_args!("{:#}", json_of(root, outcome, is_trial))),
        false => say(text_of(root, outcome, is_trial)),
    }
}

/// How a run ended, and what to do next.
fn text_of(root: &Path, outcome: Outcome, is_trial: bool) -> String {
    let root = root.display();
    match outcome {
        Outcome::Finished if is_trial => {
            "three steps, samples and a checkpoint went well; nothing of them is kept".to_owned()
        }
        Outcome::Finished => format!(
            "done: {root}/model.safetensors, {root}/samples, {root}/loss.svg\nnext: meanflow sample {root} --seeds 0-63 --out grid.png"
        ),
        Outcome::Stopped(step) => {
            format!("stopped after step {step}; the same command goes on from here")
        }
        Outcome::OutOfTime(step) => format!(
            "stopped after step {step}, as --max-time is over; the same command goes on from here"
        ),
    }
}

/// The same for programs.
fn json_of(root: &Path, outcome: Outcome, is_trial: bool) -> Value {
    let (name, step) = match outcome {
        Outcome::Finished => ("finished", None),
        Outcome::Stopped(step) => ("stopped", Some(step)),
        Outcome::OutOfTime(step) => ("out-of-time", Some(step)),
    };
    let run = (!is_trial).then_some(root);
    json!({ "outcome": name, "step": step, "run": run, "weights": run.map(|run| run.join("model.safetensors")) })
}

/// What the command line says beside the recipe.
fn options(args: &Train, recipe: RecipeSource) -> anyhow::Result<RunOptions> {
    let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    Ok(RunOptions {
        resume: args.resume.0.clone(),
        init_from: args.init_from.clone().map(|path| InitFrom {
            path,
            partial: args.init_partial,
        }),
        allow_changes: args.allow_changes.clone(),
        vae: args.vae.clone(),
        origin: Some(Origin {
            recipe,
            time: format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: command.collect(),
            revision: env!("MEANFLOW_REVISION").to_owned(),
            libtorch: loaded_version()?,
        }),
        max_time: args.max_time,
    })
}

/// What is said where the launcher was killed.
const ALONE: &str = "error: the store where the processes meet is gone, and so is the launcher that serves it: all stop after this step, with \
                     a checkpoint";

/// The exit code of a run whose time was over.
const OUT_OF_TIME: u8 = 10;
