//! `meanflow train`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_seconds;
use meanflow_torch::{World, loaded_version};
use meanflow_train::config::RecipeSource;
use meanflow_train::{
    InitFrom, Observer, Origin, Outcome, RunOptions, Silent, TrainConfig, ema_notes, train_among,
};
use serde_json::{Value, json};

use crate::args::Train;
use crate::commands::{open_device, replay};
use crate::output::{is_json, note, say};
use crate::signals::Interruption;
use crate::train_progress::TrainProgress;

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
    let world = World::from_env()?;
    let peers = (world.size > 1).then(|| world.join(device, PATIENCE));
    let peers = peers.transpose()?;
    // The first tells and writes.
    let mut progress = (world.rank == 0).then(|| TrainProgress::new(root.to_owned()));
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

/// How long a process of several waits for the others: at most as long as the first draws samples or writes.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

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

/// The exit code of a run whose time was over.
const OUT_OF_TIME: u8 = 10;
