//! Averages of the weights that no recipe asked for, from the checkpoints of a run (Karras et al. 2024, arXiv:2312.02696, section 3).
//!
//! An average after `T` steps is `Σ p(s) θ_s` over the weights `θ_s` that the steps have left, `θ_0` being those that the run began
//! with. Its profile `p` follows from its schedule and adds up to 1; that of plain weights is 1 at their own step. So of all
//! combinations of stored weights and averages, coefficients adding up to 1, the one whose profile is the nearest to the
//! profile that is wanted, by the sum of squares, stands for that average.

mod least_squares;
mod profile;

use std::path::{Path, PathBuf};

use meanflow_torch::{Kind, Tensor, weights};
use serde::Serialize;
use tch::no_grad;

use crate::checkpoint::Checkpoint;
use crate::config::{Decay, HalfLife};
use crate::ema::EmaSchedule;
use crate::run_dir::{average_file, checkpoints_of};
use crate::{TrainConfig, TrainError};
use least_squares::nearest;
use profile::Profile;

/// The file of a checkpoint with the weights themselves.
const PLAIN: &str = "model.safetensors";
/// Below this a coefficient changes nothing in f32.
const NEGLIGIBLE: f64 = 1e-9;

/// The average that is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// Keeps so much of its past every step, less in the beginning where the recipe's averages warm up.
    Decay(Decay),
    /// Keeps half of its past for so many samples.
    HalfLife(HalfLife),
}

/// How an average was put together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PostHocEma {
    /// The steps after which it is the average.
    pub step: u64,
    /// What the average is called in the weights' metadata.
    pub name: String,
    /// The norm of the difference between its profile and the one that is wanted, over the norm of that. 0 is the average itself.
    pub profile_error: f64,
    /// What was added up.
    pub parts: Vec<Part>,
}

/// Weights of a checkpoint and their coefficient.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The steps of the checkpoint.
    pub step: u64,
    /// The name of the average, or none for the plain weights.
    pub ema: Option<String>,
    /// What they are multiplied with.
    pub coefficient: f64,
}

/// Something stored that can be added up.
struct Stored {
    part: Part,
    file: PathBuf,
    profile: Profile,
}

/// Puts together an average of a run from all its checkpoints up to `step` (the newest without it), and writes it as a weights file.
///
/// Steps that were left out because something was not finite count in the profiles as if the average had followed them.
///
/// # Errors
/// [`TrainError::NoWeights`] where there is no such checkpoint; [`TrainError::Changed`] where the averages or the size of a batch
/// were others at one of them; those of damaged checkpoints and of the file system.
pub fn post_hoc_ema(
    run: &Path,
    step: Option<u64>,
    wanted: Wanted,
    out: &Path,
) -> Result<PostHocEma, TrainError> {
    let (last, stored) = stored(run, step)?;
    let recipe = recipe_of(&last)?;
    let schedule = match wanted {
        Wanted::Decay(decay) => EmaSchedule::Constant {
            decay: decay.get(),
            warmup: recipe.ema.warmup,
        },
        Wanted::HalfLife(half_life) => EmaSchedule::HalfLife(half_life),
    };
    let profile = Profile::of(schedule, last.state.step, &recipe);
    let profiles: Vec<&Profile> = stored.iter().map(|one| &one.profile).collect();
    let solution = nearest(&profiles, &profile);
    let mut parts: Vec<(Part, PathBuf)> = Vec::new();
    for (one, coefficient) in stored.into_iter().zip(solution.coefficients) {
        if coefficient.abs() > NEGLIGIBLE {
            let part = Part {
                coefficient,
                ..one.part
            };
            parts.push((part, one.file));
        }
    }
    write(&parts, &schedule.name(), out)?;
    Ok(PostHocEma {
        step: last.state.step,
        name: schedule.name(),
        profile_error: solution.error,
        parts: parts.into_iter().map(|(part, _)| part).collect(),
    })
}

/// The last of the checkpoints that count, and what all of them hold.
fn stored(run: &Path, step: Option<u64>) -> Result<(Checkpoint, Vec<Stored>), TrainError> {
    let checkpoints = checkpoints_of(run);
    let steps = checkpoints.steps()?;
    let until = step.or_else(|| steps.first().copied());
    let Some(until) = until.filter(|until| steps.contains(until)) else {
        return Err(TrainError::NoWeights {
            path: run.to_owned(),
            wanted: step.map_or("a checkpoint".to_owned(), |step| {
                format!("a checkpoint after step {step}")
            }),
            there: steps.iter().map(u64::to_string).collect(),
        });
    };
    let last = Checkpoint::read(&checkpoints.path(until))?;
    let mut stored = Vec::new();
    for step in steps.into_iter().filter(|step| *step <= until) {
        let one = Checkpoint::read(&checkpoints.path(step))?;
        refuse_other_averages(&one, &last)?;
        stored.extend(weights_in(&one)?);
    }
    Ok((last, stored))
}

fn recipe_of(checkpoint: &Checkpoint) -> Result<TrainConfig, TrainError> {
    Ok(TrainConfig::parse(
        &checkpoint.path,
        &checkpoint.state.recipe,
        &[],
    )?)
}

/// Profiles follow from the recipe, which must have been the same all the way.
fn refuse_other_averages(one: &Checkpoint, last: &Checkpoint) -> Result<(), TrainError> {
    let (before, now) = (recipe_of(one)?, recipe_of(last)?);
    let mut differences = Vec::new();
    if before.ema != now.ema {
        let (before, now) = (before.ema.names().join(", "), now.ema.names().join(", "));
        differences.push(format!("  ema: was {before}, is {now}"));
    }
    let batch = |recipe: &TrainConfig| recipe.training.batch_size.get();
    if batch(&before) != batch(&now) {
        let (before, now) = (batch(&before), batch(&now));
        differences.push(format!("  training.batch_size: was {before}, is {now}"));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(TrainError::Changed {
        path: one.path.clone(),
        differences,
    })
}

/// The weights and averages of a checkpoint.
fn weights_in(checkpoint: &Checkpoint) -> Result<Vec<Stored>, TrainError> {
    let (recipe, step) = (recipe_of(checkpoint)?, checkpoint.state.step);
    let stored = |ema: Option<String>, file: String, profile: Profile| Stored {
        part: Part {
            step,
            ema,
            coefficient: 0.0,
        },
        file: checkpoint.path.join(file),
        profile,
    };
    let averages = EmaSchedule::all(&recipe.ema).map(|schedule| {
        let name = schedule.name();
        let profile = Profile::of(schedule, step, &recipe);
        stored(Some(name.clone()), average_file(&name), profile)
    });
    let plain = stored(None, PLAIN.to_owned(), Profile::at(step));
    Ok(averages.chain([plain]).collect())
}

/// Adds up in f64 and writes in the type of the weights.
fn write(parts: &[(Part, PathBuf)], name: &str, out: &Path) -> Result<(), TrainError> {
    let mut sums: Vec<(String, Tensor)> = Vec::new();
    let mut kinds: Vec<Kind> = Vec::new();
    let mut metadata = None;
    for (part, file) in parts {
        let tensors = weights::read(file)?;
        // The checkpoints are those of one network: the same names in the same order.
        if metadata.is_none() {
            metadata = Some(weights::header(file)?.metadata);
            kinds = tensors.values().map(Tensor::kind).collect();
            let zeros = |tensor: &Tensor| Tensor::zeros_like(tensor).to_kind(Kind::Double);
            sums.extend(tensors.iter().map(|(name, one)| (name.clone(), zeros(one))));
        }
        no_grad(|| {
            for ((_, sum), tensor) in sums.iter_mut().zip(tensors.values()) {
                *sum += tensor.to_kind(Kind::Double) * part.coefficient;
            }
        });
    }
    for ((_, sum), kind) in sums.iter_mut().zip(kinds) {
        *sum = sum.to_kind(kind);
    }
    let mut metadata = metadata.unwrap_or_default();
    metadata.insert("ema_decay".to_owned(), name.to_owned());
    Ok(weights::save(out, &sums, metadata)?)
}
