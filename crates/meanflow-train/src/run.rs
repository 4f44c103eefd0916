//! A whole run: begun or gone on with, logged, drawn, saved, and left when asked to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meanflow_data::{DataError, write_bytes};
use meanflow_files::free_space;
use meanflow_torch::{Device, Peers, TorchError, recover};

use crate::checkpoint::{Checkpoint, CheckpointState, Checkpoints, RecipeChange};
use crate::clock::Clock;
use crate::config::{OnSaveError, TrainConfig};
use crate::control::Outcome;
use crate::crash::{CrashBundle, CrashStart, LastSteps};
use crate::files::create_folder;
use crate::guard::Guard;
use crate::metrics::MetricsLog;
use crate::observer::{Event, Observer};
use crate::options::RunOptions;
use crate::record::{self, DataRecord};
use crate::run_dir::{RunDir, publish};
use crate::saver::{Meanwhile, Save, Saver};
use crate::shared;
use crate::start::{Start, accepted_changes, begin, check_data, crash_start, open_metrics};
use crate::tensorboard::Board;
use crate::trainer::Trainer;
use crate::{StepMetrics, TrainError};

/// Trains in the run directory `root`, going on from its newest checkpoint where there is one.
///
/// # Errors
/// [`TrainError`]; checkpoints that were written stay.
pub fn train(
    config: TrainConfig,
    root: &Path,
    device: Device,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    train_with(config, root, device, &RunOptions::default(), stop, observer)
}

/// Trains in the run directory `root`, as `options` say.
///
/// # Errors
/// [`TrainError`]; checkpoints that were written stay.
pub fn train_with(
    config: TrainConfig,
    root: &Path,
    device: Device,
    options: &RunOptions,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    train_among(config, root, device, options, None, stop, observer)
}

/// As [`train_with`], as one of several processes that share every batch: the first decides, tells its observer, and writes the
/// run directory; the others compute, and give the same outcome. No digit depends on how many there are.
///
/// # Errors
/// As [`train_with`]; where another process was lost, or has another recipe or other data.
pub fn train_among(
    config: TrainConfig,
    root: &Path,
    device: Device,
    options: &RunOptions,
    peers: Option<Peers>,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    // A refusal of libtorch inside, such as of memory, is a panic.
    recover("train", || {
        let end = options.max_time.map(|time| (Instant::now(), time));
        let data = config.data.load(config.seed)?;
        let samples = data.len();
        let remarks = config.data.remarks(&*data).into_iter();
        for remark in remarks.chain(shared::remark(&config, peers.as_ref())) {
            observer.notice(Event::Remark(&remark));
        }
        let record = DataRecord::of(&*data)?;
        if shared::follows(peers.as_ref()) {
            return shared::trainer(&config, data, &record, device, peers)?.follow();
        }
        let decoder = options.decoder(&*data, device, observer)?;
        let picture = record::picture(&*data, config.seed, decoder.as_ref())?;
        let mut trainer = shared::trainer(&config, data, &record, device, peers)?;
        trainer.set_decoder(decoder);
        let mut run = Run::open(config, root, (trainer, record), options, observer)?;
        if let Some(picture) = picture {
            picture.write_png(&run.folder.data_picture())?;
        }
        let (step, steps) = (run.trainer.steps_done(), run.config.training.steps.get());
        if let Some(origin) = &options.origin {
            origin.record(run.folder.root(), step, device)?;
        }
        observer.notice(Event::Started {
            step,
            steps,
            parameters: run.trainer.model().parameters().count(),
            samples,
            sharing: (device == Device::Cpu).then(|| run.trainer.sharing()),
        });
        if step >= steps {
            observer.notice(Event::AlreadyFinished { step, steps });
            run.trainer.dismiss(Outcome::Finished)?;
            return Ok(Outcome::Finished);
        }
        run.refuse_a_full_disk(AT_START)?;
        let outcome = run.watched(options, stop, end, observer)?;
        run.trainer.dismiss(outcome)?;
        Ok(outcome)
    })
}

/// Room that there should be when a run begins, in times what a save writes: one beside the one before, and a tenth for all else.
const AT_START: f64 = 2.2;
/// The same before a checkpoint is written.
const AT_SAVE: f64 = 1.1;

/// A run while it runs.
struct Run {
    config: TrainConfig,
    folder: RunDir,
    checkpoints: Checkpoints,
    trainer: Trainer,
    log: MetricsLog,
    clock: Clock,
    changes: Vec<RecipeChange>,
    guard: Guard,
    saver: Saver,
    /// The hash of the data.
    data: String,
    /// The damaged samples that the observer was told of.
    listed: BTreeSet<PathBuf>,
    told_of_the_graph: bool,
    last_steps: LastSteps,
    /// What the run goes on from.
    start: CrashStart,
}

impl Run {
    fn open(
        config: TrainConfig,
        root: &Path,
        (mut trainer, record): (Trainer, DataRecord),
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let folder = RunDir::open(root)?;
        let checkpoints = folder.checkpoints().keeping(config.checkpoints);
        let start = Start::find(&checkpoints, root, &options.resume)?;
        let (found, is_own) = (&start.found, start.is_own);
        start.tell_rejected(observer);
        let (mut bytes, mut seconds) = (0, 0.0);
        let (mut changes, mut guard) = (Vec::new(), Guard::default());
        if let Some(Checkpoint { path, state }) = &found.checkpoint {
            changes = accepted_changes(&config, path, state, options, observer)?;
            check_data(&record, path, state, options)?;
            trainer.read(path, state.step, state.skipped_in_row)?;
            (seconds, guard) = (state.seconds, state.guard);
            trainer.set_data_offset(guard.data_offset());
            bytes = if is_own { state.metrics_bytes } else { 0 };
        }
        begin(&mut trainer, &folder, found, options, observer)?;
        start.tidy(&checkpoints)?;
        folder.begin(&config, &record)?;
        let log = open_metrics(&folder.metrics(), bytes, observer)?;
        let clock = Clock::new(seconds, config.training.batch_size.get());
        let run = Self {
            config,
            folder,
            checkpoints,
            trainer,
            log,
            clock,
            changes,
            guard,
            saver: Saver::default(),
            data: record.fingerprint,
            listed: BTreeSet::new(),
            told_of_the_graph: false,
            last_steps: LastSteps::default(),
            start: crash_start(found, options),
        };
        if let Some(checkpoint) = found.checkpoint.as_ref().filter(|_| is_own) {
            run.restore(&checkpoint.path, observer)?;
        }
        Ok(run)
    }

    /// Makes what goes with a checkpoint again where it is missing or of another step: a run may be killed between the
    /// commit of the checkpoint and the writing of these.
    fn restore(&self, checkpoint: &Path, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let weights = self.folder.weights();
        if publish(checkpoint, &self.first_average(), &weights)? {
            observer.notice(Event::Restored(&weights));
        }
        Ok(write_bytes(
            &self.folder.loss_curve(),
            self.loss_curve().as_bytes(),
        )?)
    }

    fn first_average(&self) -> String {
        self.config.ema.names().remove(0)
    }

    fn loss_curve(&self) -> String {
        let title = format!("Loss of {}", self.folder.root().display());
        self.log.chart(&title).to_svg()
    }

    /// Refuses to go on where there is no room for so many times what a save writes.
    fn refuse_a_full_disk(&self, saves: f64) -> Result<(), TrainError> {
        let numbers = self.trainer.model().parameters().count();
        // The model, two moments of the optimiser, the averages, and one of them exported, four bytes a number.
        let bytes = 4 * numbers as u64 * (4 + self.config.ema.names().len() as u64);
        let needed = (saves * bytes as f64) as u64;
        match free_space(self.folder.root()) {
            Some(free) if free < needed => Err(TrainError::NoRoom {
                path: self.folder.root().to_owned(),
                needed,
                free,
            }),
            _ => Ok(()),
        }
    }

    /// Goes on, and writes what TensorBoard reads.
    fn watched(
        &mut self,
        options: &RunOptions,
        stop: &AtomicBool,
        end: Option<(Instant, Duration)>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let recipe = options.origin.as_ref().map(|origin| &origin.recipe.text);
        let recipe = recipe.cloned().unwrap_or_else(|| self.config.to_toml());
        let (step, training) = (self.trainer.steps_done(), self.config.training.clone());
        let mut board = Board::begin(observer, self.folder.root(), step, &training, &recipe);
        self.go_on(stop, end, &mut board)
    }

    fn go_on(
        &mut self,
        stop: &AtomicBool,
        end: Option<(Instant, Duration)>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let steps = self.config.training.steps.get();
        while self.trainer.steps_done() < steps {
            let outcome = if stop.load(Ordering::Relaxed) {
                Some(Outcome::Stopped(self.trainer.steps_done()))
            } else {
                let is_over = end.is_some_and(|(begun, time)| begun.elapsed() >= time);
                is_over.then(|| Outcome::OutOfTime(self.trainer.steps_done()))
            };
            if let Some(outcome) = outcome {
                self.tell_all(observer)?;
                self.save(Meanwhile::Waits, observer)?;
                self.collect(observer)?;
                return Ok(outcome);
            }
            if self.saver.is_done() {
                let saved = self.collect(observer);
                self.tolerate(saved, observer)?;
            }
            if let Err(error) = self.advance(steps, observer) {
                self.recover(error, observer)?;
            }
        }
        observer.notice(Event::Ended {
            wait_share: self.clock.share(self.trainer.waited()),
            skipped: self.guard.skipped,
        });
        Ok(Outcome::Finished)
    }

    /// Tells once that steps which were to be recorded are not.
    fn tell_of_the_graph(&mut self, observer: &mut dyn Observer) {
        if let (Some(reason), false) = (self.trainer.graph_refused(), self.told_of_the_graph) {
            let remark = format!("the steps go on without a CUDA graph, which failed: {reason}");
            self.told_of_the_graph = true;
            observer.notice(Event::Remark(&remark));
        }
    }

    /// One step, and what is due after it.
    fn advance(&mut self, steps: u64, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.trainer.advance()?;
        self.tell_of_the_graph(observer);
        self.tell(steps, observer)?;
        self.write_what_is_due(steps, observer)
    }

    /// Goes back where training went astray, to the newest checkpoint that is no part of a row of steps left out, and on from
    /// there with other data.
    ///
    /// # Errors
    /// With `error`, where it is another one, there is no such checkpoint, or that was done too often.
    fn recover(
        &mut self,
        error: TrainError,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let Some(from) = diverged_at(&error) else {
            return Err(error);
        };
        self.collect(observer)?;
        let good = self.last_good()?;
        self.keep_crash(from, &error, good.as_ref(), observer);
        let Some(Checkpoint { path, state }) = good.filter(|_| self.guard.roll_back()) else {
            return Err(error);
        };
        self.trainer.read(&path, state.step, 0)?;
        self.trainer.set_data_offset(self.guard.data_offset());
        self.checkpoints.supersede(state.step)?;
        (self.log, _) = MetricsLog::open(&self.folder.metrics(), state.metrics_bytes)?;
        observer.notice(Event::RolledBack {
            from,
            to: state.step,
            rollbacks: self.guard.rollbacks,
            reason: &error.to_string(),
        });
        Ok(())
    }

    /// The newest checkpoint of the run that is whole and no part of a row of steps left out.
    fn last_good(&self) -> Result<Option<Checkpoint>, TrainError> {
        let steps = self.checkpoints.steps()?.into_iter();
        let whole = steps.filter_map(|step| Checkpoint::read(&self.checkpoints.path(step)).ok());
        Ok(whole
            .into_iter()
            .find(|checkpoint| checkpoint.state.skipped_in_row == 0))
    }

    /// Writes down what is known of the step that ended training; a failure to do so is reported and changes nothing else.
    fn keep_crash(
        &mut self,
        step: u64,
        error: &TrainError,
        good: Option<&Checkpoint>,
        observer: &mut dyn Observer,
    ) {
        if let Some(metrics) = self.trainer.ended_by() {
            self.last_steps.push(metrics);
        }
        let (steps, v_loss_by_row) = self.last_steps.take();
        let start = good.map_or_else(|| self.start.clone(), |good| CrashStart::at(&good.path));
        let bundle = CrashBundle {
            format_version: CrashBundle::FORMAT,
            reason: error.to_string(),
            step,
            seed: self.config.seed,
            data_offset: self.guard.data_offset(),
            start: start.within(self.folder.root()),
            data: self.data.clone(),
            rows: self.trainer.rows(step, &v_loss_by_row),
            steps,
            recipe: self.config.to_toml(),
        };
        match bundle.write(self.folder.root(), self.guard.rollbacks + 1) {
            Ok(path) => observer.notice(Event::Crashed(&path)),
            Err(error) => observer.notice(Event::SaveFailed {
                step,
                reason: &error.to_string(),
            }),
        }
    }

    /// Tells what is known of the steps, where waiting for it costs nothing or something is due.
    fn tell(&mut self, steps: u64, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let step = self.trainer.steps_done();
        let training = &self.config.training;
        let due = [
            training.log_every,
            training.sample_every,
            training.checkpoint_every,
        ]
        .iter()
        .any(|every| is_due(step, every.get()));
        if due || step == steps || !self.config.compute.async_metrics || self.clock.is_late() {
            self.tell_all(observer)?;
        }
        Ok(())
    }

    fn tell_all(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        loop {
            let reports = self.trainer.metrics()?;
            if reports.is_empty() {
                return Ok(());
            }
            self.clock.read(reports.len());
            for report in &reports {
                self.tell_one(report, observer)?;
            }
        }
    }

    fn tell_one(
        &mut self,
        report: &StepMetrics,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let step = report.step;
        self.last_steps.push(report);
        let too_many = self.guard.count(report.is_finite);
        if !report.is_finite {
            observer.notice(Event::Skipped {
                step,
                in_row: report.skipped_in_row,
            });
            return match too_many {
                Some(skipped) => Err(TrainError::OftenNotFinite { step, skipped }),
                None => Ok(()),
            };
        }
        let waited = self.trainer.waited();
        let record = self.clock.record(report, waited);
        if is_due(step, self.config.training.log_every.get())
            || step == self.config.training.steps.get()
        {
            let written = self.log.append(&record);
            self.tolerate(written, observer)?;
        }
        observer.notice(Event::Stepped(&record));
        observer.notice(Event::DudtNorms(&report.dudt_norm_by_row));
        Ok(())
    }

    /// Pictures before the checkpoint: what a checkpoint counts as done is done.
    fn write_what_is_due(
        &mut self,
        steps: u64,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let step = self.trainer.steps_done();
        let is_last = step == steps;
        if is_last || is_due(step, self.config.training.sample_every.get()) {
            let drawn = self.draw(observer);
            self.tolerate(drawn, observer)?;
        }
        if is_last {
            self.save(Meanwhile::Waits, observer)?;
            return self.collect(observer);
        }
        // A checkpoint in a row of steps left out would only take the place of a good one.
        let is_sound = self.trainer.skipped_in_row() == 0;
        if is_sound && is_due(step, self.config.training.checkpoint_every.get()) {
            let saved = self.save(Meanwhile::Trains, observer);
            self.tolerate(saved, observer)?;
        }
        Ok(())
    }

    /// Lets a failure to write pass with a warning, where the recipe asks for that, and a preview that cannot be drawn.
    fn tolerate(
        &self,
        result: Result<(), TrainError>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        match result {
            Err(error) if is_no_picture(&error) || is_of_writing(&error) && self.warns() => {
                let mut reason = error.to_string();
                if let Some(source) = std::error::Error::source(&error) {
                    reason = format!("{reason}: {source}");
                }
                observer.notice(Event::SaveFailed {
                    step: self.trainer.steps_done(),
                    reason: &reason,
                });
                Ok(())
            }
            result => result,
        }
    }

    fn warns(&self) -> bool {
        self.config.checkpoints.on_save_error == OnSaveError::Warn
    }

    fn draw(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let path = self.folder.samples(self.trainer.steps_done());
        create_folder(path.parent().unwrap_or(self.folder.root()))?;
        self.trainer.picture()?.write_png(&path)?;
        observer.notice(Event::Drawn(&path));
        Ok(())
    }

    /// Begins to save what there is now, in the background, when the save before has ended.
    fn save(
        &mut self,
        meanwhile: Meanwhile,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let before = self.collect(observer);
        self.tolerate(before, observer)?;
        self.refuse_a_full_disk(AT_SAVE)?;
        self.renew(observer)?;
        let (metrics_bytes, metrics) = self.log.written()?;
        let state = CheckpointState {
            step: self.trainer.steps_done(),
            skipped_in_row: self.trainer.skipped_in_row(),
            metrics_bytes,
            seconds: self.clock.seconds(),
            recipe: self.config.to_toml(),
            changes: self.changes.clone(),
            data: Some(self.data.clone()),
            guard: self.guard,
        };
        let snapshot = self.trainer.snapshot(self.saver.take_snapshot())?;
        let save = Save {
            checkpoints: self.checkpoints.clone(),
            state,
            snapshot,
            metrics,
            weights: self.folder.weights(),
            average: self.first_average(),
            curve: (self.folder.loss_curve(), self.loss_curve()),
        };
        self.saver.start(save, meanwhile)?;
        self.list_skipped(observer);
        Ok(())
    }

    /// Waits for the save under way, if there is one.
    fn collect(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        if let Some(path) = self.saver.collect()? {
            observer.notice(Event::Saved(&path));
        }
        Ok(())
    }

    /// Makes files anew that somebody removed or replaced while the run has them open.
    fn renew(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        if self.folder.renew()? {
            write_bytes(&self.folder.config(), self.config.to_toml().as_bytes())?;
        }
        if self.log.renew()? {
            let (path, what) = (&self.folder.metrics(), "the file was removed or replaced");
            observer.notice(Event::MetricsLost { path, what });
        }
        Ok(())
    }

    /// The damaged samples that were not listed yet.
    fn list_skipped(&mut self, observer: &mut dyn Observer) {
        for (path, reason) in self.trainer.skipped_samples() {
            if self.listed.insert(path.clone()) {
                observer.notice(Event::Replaced {
                    path: &path,
                    reason: &reason,
                });
            }
        }
    }
}

fn is_due(step: u64, every: u64) -> bool {
    step.is_multiple_of(every)
}

/// The step at which training went astray, if that is the error: then data of other steps may help.
fn diverged_at(error: &TrainError) -> Option<u64> {
    match error {
        TrainError::NotFinite { step, .. }
        | TrainError::OftenNotFinite { step, .. }
        | TrainError::WeightsNotFinite { step } => Some(*step),
        _ => None,
    }
}

/// Whether a preview could not be drawn, which no result of the run depends on.
fn is_no_picture(error: &TrainError) -> bool {
    matches!(error, TrainError::SamplesNotFinite { .. })
}

/// Whether an error is that of writing files.
fn is_of_writing(error: &TrainError) -> bool {
    matches!(
        error,
        TrainError::Io { .. }
            | TrainError::NoRoom { .. }
            | TrainError::Data(DataError::Write { .. })
            | TrainError::Torch(TorchError::Io { .. })
    )
}
