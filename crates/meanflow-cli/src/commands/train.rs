//! `meanflow train`.

use std::path::{Path, PathBuf};

use meanflow_train::{Outcome, TrainConfig, train};

use crate::args::Train;
use crate::commands::open_device;
use crate::output::say;
use crate::progress::Progress;
use crate::signals::Interruption;
use crate::waiting::spin_briefly;

pub(crate) fn run(args: &Train) -> anyhow::Result<u8> {
    let config = TrainConfig::read(&args.recipe.config, &args.recipe.overrides)?;
    if args.dry_run {
        say(config.to_toml().trim_end());
        return Ok(0);
    }
    spin_briefly();
    let root = args
        .out
        .clone()
        .unwrap_or_else(|| default_folder(&args.recipe.config));
    let interruption = Interruption::listen()?;
    let device = open_device(&args.compute)?;
    let mut progress = Progress::new();
    let outcome = train(config, &root, device, &interruption.stop, &mut progress);
    progress.finish();
    Ok(match outcome? {
        Outcome::Finished => {
            let root = root.display();
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
    })
}

/// `runs/NAME` for `…/NAME.toml`.
fn default_folder(config: &Path) -> PathBuf {
    Path::new("runs").join(config.file_stem().unwrap_or_default())
}
