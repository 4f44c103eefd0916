//! A divergence done again, from what a run kept of it.

use std::path::Path;

use meanflow_torch::Device;

use crate::crash::is_same;
use crate::{
    Checkpoint, CrashBundle, CrashRow, CrashStep, DataRecord, InitFrom, TrainConfig, TrainError,
    Trainer,
};

/// What came of the steps until a divergence, done again.
#[derive(Clone, Debug)]
pub struct Replay {
    /// What the run kept.
    pub bundle: CrashBundle,
    /// The steps that were done again, in their order.
    pub steps: Vec<CrashStep>,
    /// The rows of the last of them, with what came of them now.
    pub rows: Vec<CrashRow>,
    /// The names of the parameters that are not finite afterwards.
    pub broken: Vec<String>,
    /// The first step whose numbers are not those that the run kept; none where all are the same, bit for bit.
    pub differs_at: Option<u64>,
}

/// Does the steps of a run until a divergence again, as `crash-N.json` of its directory tells it. Nothing is written.
///
/// On the same kind of device, with as many threads, every number is the same, bit for bit.
///
/// # Errors
/// [`TrainError::Bundle`] when the file is no bundle, [`TrainError::DataChanged`] when the data are others than then, those of
/// the checkpoint, and those of a step.
pub fn replay(path: &Path, device: Device) -> Result<Replay, TrainError> {
    let bundle = CrashBundle::read(path)?;
    let mut trainer = begin(&bundle, path, device)?;
    let mut steps = Vec::new();
    let mut v_loss_by_row = Vec::new();
    while trainer.steps_done() < bundle.step {
        trainer.advance()?;
        // A step that ends training has its numbers, too.
        let sound = trainer.metrics().unwrap_or_default();
        let metrics = sound.last().or(trainer.ended_by());
        let metrics = metrics.expect("a step was done");
        steps.push(CrashStep::of(metrics));
        v_loss_by_row.clone_from(&metrics.v_loss_by_row);
    }
    let rows = trainer.rows(bundle.step, &v_loss_by_row);
    Ok(Replay {
        broken: not_finite(&trainer),
        differs_at: difference(&bundle, &steps, &rows),
        steps,
        rows,
        bundle,
    })
}

/// The trainer before the first of the steps.
fn begin(bundle: &CrashBundle, path: &Path, device: Device) -> Result<Trainer, TrainError> {
    let config = TrainConfig::parse(path, &bundle.recipe, &[])?;
    let data = config.data.load(config.seed)?;
    DataRecord::of(&*data)?.refuse_other(path, Some(&bundle.data))?;
    let mut trainer = Trainer::new(config, data, device)?;
    let start = &bundle.start;
    if let Some(checkpoint) = &start.checkpoint {
        let root = path.parent().unwrap_or(Path::new("."));
        let Checkpoint { path, state } = Checkpoint::read(&root.join(checkpoint))?;
        trainer.read(&path, state.step, state.skipped_in_row)?;
    } else if let Some(path) = &start.init_from {
        let from = InitFrom {
            path: path.clone(),
            partial: start.init_partial,
        };
        trainer.init_from(&from)?;
    }
    trainer.set_data_offset(bundle.data_offset);
    Ok(trainer)
}

/// The parameters that are not finite.
fn not_finite(trainer: &Trainer) -> Vec<String> {
    let parameters = trainer.model().parameters().iter();
    let broken = parameters.filter(|(_, one)| one.isfinite().all().int64_value(&[]) == 0);
    broken.map(|(name, _)| name.to_owned()).collect()
}

/// The first of the steps that both have whose numbers differ, those of the rows of the last one included.
fn difference(bundle: &CrashBundle, steps: &[CrashStep], rows: &[CrashRow]) -> Option<u64> {
    let differs = |then: &&CrashStep| {
        let now = steps.iter().find(|now| now.step == then.step);
        now.is_some_and(|now| !now.is_same(then))
    };
    let same_row = |(then, now): (&CrashRow, &CrashRow)| {
        let same = then.sample == now.sample && then.dropped == now.dropped;
        same && [(then.r, now.r), (then.t, now.t), (then.v_loss, now.v_loss)]
            .into_iter()
            .all(|(then, now)| is_same(then, now))
    };
    let all_rows = bundle.rows.len() == rows.len() && bundle.rows.iter().zip(rows).all(same_row);
    let step = bundle.steps.iter().find(differs).map(|one| one.step);
    step.or((!all_rows).then_some(bundle.step))
}
