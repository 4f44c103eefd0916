//! What a run begins with: a checkpoint, weights of another model, or nothing; and what may differ from before.

use std::fs;
use std::path::Path;

use crate::changes::differing;
use crate::checkpoint::{Checkpoint, CheckpointState, Checkpoints, Found, RecipeChange};
use crate::config::TrainConfig;
use crate::crash::CrashStart;
use crate::metrics::MetricsLog;
use crate::observer::{Event, Observer};
use crate::options::{Resume, RunOptions};
use crate::record::DataRecord;
use crate::run_dir::RunDir;
use crate::trainer::Trainer;
use crate::{TrainError, manifest};

/// What the steps of a run begin with, until there is a checkpoint of its own.
pub(crate) fn crash_start(found: &Found, options: &RunOptions) -> CrashStart {
    if let Some(checkpoint) = &found.checkpoint {
        return CrashStart::at(&checkpoint.path);
    }
    let init_from = options.init_from.as_ref();
    CrashStart {
        checkpoint: None,
        init_from: init_from.map(|init| init.path.clone()),
        init_partial: init_from.is_some_and(|init| init.partial),
    }
}

/// What a run goes on from.
pub(crate) struct Start {
    pub(crate) found: Found,
    /// Whether the checkpoint is one of the run directory itself.
    pub(crate) is_own: bool,
}

impl Start {
    /// Tells of newer checkpoints that are damaged.
    pub(crate) fn tell_rejected(&self, observer: &mut dyn Observer) {
        for (path, reason) in &self.found.rejected {
            observer.notice(Event::Rejected { path, reason });
        }
    }

    /// Removes what is damaged in the run directory and what lies after the step that it goes on from. A checkpoint of
    /// another folder is left as it is.
    pub(crate) fn tidy(&self, checkpoints: &Checkpoints) -> Result<(), TrainError> {
        if !self.is_own {
            return checkpoints.tidy(&[]);
        }
        checkpoints.tidy(&self.found.rejected)?;
        match &self.found.checkpoint {
            Some(checkpoint) => checkpoints.supersede(checkpoint.state.step),
            None => Ok(()),
        }
    }

    pub(crate) fn find(
        checkpoints: &Checkpoints,
        root: &Path,
        resume: &Resume,
    ) -> Result<Self, TrainError> {
        let steps = checkpoints.steps()?;
        let own = |found| Self {
            found,
            is_own: true,
        };
        match resume {
            Resume::Never if !steps.is_empty() => Err(TrainError::NotNew {
                path: root.to_owned(),
                steps,
            }),
            Resume::Auto | Resume::Never => Ok(own(checkpoints.newest()?)),
            Resume::From(path) => {
                let is_own = is_within(path, root);
                // The same command again goes on with what it has begun.
                if !is_own && !steps.is_empty() {
                    return Ok(own(checkpoints.newest()?));
                }
                let found = found_at(path)?;
                Ok(Self { found, is_own })
            }
        }
    }
}

/// The checkpoint that a folder is, or the newest one of the run that it is.
fn found_at(path: &Path) -> Result<Found, TrainError> {
    if manifest::is_in(path) {
        return Ok(Found {
            checkpoint: Some(Checkpoint::read(path)?),
            rejected: Vec::new(),
        });
    }
    let found = Checkpoints::new(path.join("checkpoints")).newest()?;
    match found.checkpoint {
        Some(_) => Ok(found),
        None => Err(TrainError::NoCheckpoint {
            path: path.to_owned(),
        }),
    }
}

fn is_within(path: &Path, root: &Path) -> bool {
    let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    whole(path).starts_with(whole(root))
}

/// Sets the weights that a run begins with, where it begins and is given any.
pub(crate) fn begin(
    trainer: &mut Trainer,
    folder: &RunDir,
    found: &Found,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    let Some(init) = &options.init_from else {
        return Ok(());
    };
    if found.checkpoint.is_some() {
        let path = init.path.display();
        let remark = format!("the run goes on from its checkpoint, and {path} is not looked at");
        observer.notice(Event::Remark(&remark));
        return Ok(());
    }
    let report = trainer.init_from(init)?;
    observer.notice(Event::Initialized(&report));
    report.write(folder.root())
}

/// Refuses data other than those of the checkpoint, unless that is allowed.
pub(crate) fn check_data(
    record: &DataRecord,
    checkpoint: &Path,
    state: &CheckpointState,
    options: &RunOptions,
) -> Result<(), TrainError> {
    if options.allows("data") {
        return Ok(());
    }
    record.refuse_other(checkpoint, state.data.as_deref())
}

/// The metrics of a run, cut to this length, with a word to the observer of what could not be kept.
pub(crate) fn open_metrics(
    path: &Path,
    bytes: u64,
    observer: &mut dyn Observer,
) -> Result<MetricsLog, TrainError> {
    let (log, losses) = MetricsLog::open(path, bytes)?;
    if !losses.is_empty() {
        let what = losses.to_string();
        observer.notice(Event::MetricsLost { path, what: &what });
    }
    Ok(log)
}

/// The changes of the recipe until now, those of today included.
pub(crate) fn accepted_changes(
    config: &TrainConfig,
    path: &Path,
    state: &CheckpointState,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Vec<RecipeChange>, TrainError> {
    let mut changes = state.changes.clone();
    let (accepted, refused): (Vec<_>, Vec<_>) = differing(&state.recipe, config)
        .into_iter()
        .partition(|difference| options.allows(&difference.key));
    if !refused.is_empty() {
        return Err(TrainError::Changed {
            path: path.to_owned(),
            differences: refused.into_iter().map(|one| one.line).collect(),
        });
    }
    if accepted.is_empty() {
        return Ok(changes);
    }
    let mut differences: Vec<String> = accepted.into_iter().map(|one| one.line).collect();
    differences.extend(rate_jump(config, state));
    observer.notice(Event::Changed {
        after_step: state.step,
        differences: &differences,
    });
    changes.push(RecipeChange {
        after_step: state.step,
        differences,
    });
    Ok(changes)
}

/// What the changes do to the learning rate of the next step, in words.
fn rate_jump(config: &TrainConfig, state: &CheckpointState) -> Option<String> {
    let origin = Path::new("the recipe of the checkpoint");
    let before = TrainConfig::parse(origin, &state.recipe, &[]).ok()?;
    let rate = |config: &TrainConfig| config.lr.at(state.step, config.training.steps.get());
    let (before, now) = (rate(&before), rate(config));
    (before != now).then(|| {
        format!("  the learning rate of the next step: would have been {before:e}, is {now:e}")
    })
}
