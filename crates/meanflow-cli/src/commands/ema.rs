//! `meanflow ema`: an average of the weights that a recipe did not ask for.

use std::path::PathBuf;

use meanflow_train::config::{Decay, HalfLife, Positive, Share};
use meanflow_train::{PostHocEma, Wanted, post_hoc_ema};
use serde_json::json;

use crate::output::{is_json, note, say};

/// Above this share the average is hardly the one that was asked for.
const MUCH: f64 = 0.1;

/// Put together another average of a run's weights from its checkpoints.
///
/// All averages and weights that the checkpoints hold are added up so that the result remembers the steps as nearly as it can as the
/// average that is asked for. The more checkpoints there are (`checkpoints.keep_every`) and the more averages (`ema.decays`), the
/// nearer it comes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow ema runs/digits --decay 0.995 --out ema.safetensors\n  \
meanflow ema runs/digits --half-life 50000 --ramp 0.05 \\\n    --out ema.safetensors"
)]
pub(crate) struct Ema {
    /// A run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// What a step keeps of the average
    #[arg(long, value_name = "DECAY", required_unless_present = "half_life", conflicts_with = "half_life", value_parser = decay)]
    decay: Option<Decay>,
    /// The samples after which half of the average is kept, in the place of a decay
    #[arg(long, value_name = "SAMPLES", value_parser = samples)]
    half_life: Option<Positive>,
    /// The half-life is at most this share of the samples seen
    #[arg(long, value_name = "SHARE", requires = "half_life", value_parser = share)]
    ramp: Option<Share>,
    /// The checkpoint after so many steps, whose average it is [default: the newest]
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
    /// The weights file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn decay(text: &str) -> Result<Decay, String> {
    number(text, Decay::new, "a number from 0 to below 1")
}

fn samples(text: &str) -> Result<Positive, String> {
    number(text, Positive::new, "a number above 0")
}

fn share(text: &str) -> Result<Share, String> {
    number(text, Share::new, "a number from 0 to 1")
}

fn number<T>(text: &str, make: fn(f64) -> Option<T>, expected: &str) -> Result<T, String> {
    let number = text.parse().ok().and_then(make);
    number.ok_or_else(|| format!("expected {expected}"))
}

pub(crate) fn run(args: &Ema) -> anyhow::Result<u8> {
    let wanted = match (args.decay, args.half_life) {
        (Some(decay), _) => Wanted::Decay(decay),
        (None, Some(samples)) => Wanted::HalfLife(HalfLife {
            samples,
            ramp: args.ramp,
        }),
        (None, None) => anyhow::bail!("expected --decay or --half-life"),
    };
    let ema = post_hoc_ema(&args.run, args.checkpoint, wanted, &args.out)?;
    if ema.profile_error > MUCH {
        note(format_args!(
            "warning: the checkpoints give a profile that is {:.0} % off; keep more of them (checkpoints.keep_every), or more averages \
             (ema.decays)",
            100.0 * ema.profile_error
        ));
    }
    if is_json() {
        say(format_args!(
            "{:#}",
            json!({ "file": args.out, "ema": ema })
        ));
    } else {
        say(text(&ema, &args.out.display().to_string()));
    }
    Ok(0)
}

fn text(ema: &PostHocEma, file: &str) -> String {
    let mut steps: Vec<u64> = ema.parts.iter().map(|part| part.step).collect();
    steps.dedup();
    format!(
        "average        {} after step {}\nadded up       {} weights of {} checkpoints\nprofile error  {:.2} %\nfile           {file}",
        ema.name,
        ema.step,
        ema.parts.len(),
        steps.len(),
        100.0 * ema.profile_error
    )
}
