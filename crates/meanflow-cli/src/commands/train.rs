//! `meanflow train`.

use std::path::{Path, PathBuf};

use meanflow_train::{InitFrom, Outcome, RunOptions, TrainConfig, ema_notes, train_with};

use crate::args::Train;
use crate::commands::open_device;
use crate::output::{note, say};
use crate::progress::Progress;
use crate::signals::Interruption;

pub(crate) fn run(args: &Train) -> anyhow::Result<u8> {
    let config = TrainConfig::read(&args.recipe.config, &args.recipe.overrides)?;
    if args.dry_run {
        say(config.to_toml().trim_end());
        return Ok(0);
    }
    let root = args
        .out
        .clone()
        .unwrap_or_else(|| default_folder(&args.recipe.config));
    let interruption = Interruption::listen()?;
    let device = open_device(&args.compute)?;
    let notes = ema_notes(&config);
    let mut progress = Progress::new();
    let options = options(args);
    let stop = &interruption.stop;
    let outcome = train_with(config, &root, device, &options, stop, &mut progress);
    progress.finish();
    Ok(match outcome? {
        Outcome::Finished => {
            let root = root.display();
            notes.iter().for_each(note);
            say(format_args!(
                "done: {root}/model.safetensors, {root}/samples, {root}/loss.svg"
            ));
            say(format_args!(
                "next: meanflow sample {root} --seeds 0-63 --out grid.png"
            ));
            0
        }
        Outcome::Stopped(step) => {
            say(format_args!(
                "stopped after step {step}; the same command goes on from here"
            ));
            interruption.exit_code()
        }
        Outcome::OutOfTime(step) => {
            say(format_args!(
                "stopped after step {step}, as --max-time is over; the same command goes on from here"
            ));
            OUT_OF_TIME
        }
    })
}

/// What the command line says beside the recipe.
fn options(args: &Train) -> RunOptions {
    RunOptions {
        resume: args.resume.0.clone(),
        init_from: args.init_from.clone().map(|path| InitFrom {
            path,
            partial: args.init_partial,
        }),
        allow_changes: args.allow_changes.clone(),
        max_time: args.max_time,
    }
}

/// The exit code of a run whose time was over.
const OUT_OF_TIME: u8 = 9;

/// `runs/NAME` for `…/NAME.toml`.
fn default_folder(config: &Path) -> PathBuf {
    Path::new("runs").join(config.file_stem().unwrap_or_default())
}
