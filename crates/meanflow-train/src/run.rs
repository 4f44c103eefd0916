//! A whole run: begun or gone on with, logged, drawn, saved, and left when asked to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meanflow_data::write_bytes;
use meanflow_torch::Device;

use crate::checkpoint::{Checkpoint, State};
use crate::config::TrainConfig;
use crate::files::create_folder;
use crate::metrics::{self, MetricsLog, Record};
use crate::observer::{Event, Observer};
use crate::run_dir::RunDir;
use crate::samples::comparison;
use crate::trainer::Trainer;
use crate::{StepReport, TrainError, recipe_changes};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// It was asked to stop, saved a checkpoint after this many steps and left.
    Stopped(u64),
}

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
    let data = config.data.load(config.seed)?;
    let samples = data.len();
    let trainer = Trainer::new(config.clone(), data, device)?;
    let mut run = Run::open(config, root, trainer, observer)?;
    observer.notice(Event::Started {
        step: run.trainer.steps_done(),
        steps: run.config.training.steps.get(),
        parameters: run.trainer.model().parameters().count(),
        samples,
    });
    run.go_on(stop, observer)
}

/// A run while it runs.
struct Run {
    config: TrainConfig,
    folder: RunDir,
    trainer: Trainer,
    log: MetricsLog,
    clock: Clock,
    /// The damaged samples that the observer was told of.
    listed: BTreeSet<PathBuf>,
}

impl Run {
    fn open(
        config: TrainConfig,
        root: &Path,
        mut trainer: Trainer,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let folder = RunDir::open(root)?;
        let checkpoints = folder.checkpoints();
        let found = checkpoints.newest()?;
        for (path, reason) in &found.rejected {
            observer.notice(Event::Rejected { path, reason });
        }
        let (mut bytes, mut seconds) = (0, 0.0);
        if let Some(Checkpoint { path, state }) = &found.checkpoint {
            refuse_changes(&config, path, state)?;
            trainer.read(path, state.step, state.skipped_in_row)?;
            (bytes, seconds) = (state.metrics_bytes, state.seconds);
        }
        checkpoints.tidy(&found.rejected)?;
        write_bytes(&folder.config(), config.to_toml().as_bytes())?;
        let log = MetricsLog::open(&folder.metrics(), bytes)?;
        let clock = Clock::new(seconds, config.training.batch.get());
        Ok(Self {
            config,
            folder,
            trainer,
            log,
            clock,
            listed: BTreeSet::new(),
        })
    }

    fn go_on(
        &mut self,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let steps = self.config.training.steps.get();
        while self.trainer.steps_done() < steps {
            if stop.load(Ordering::Relaxed) {
                self.tell_all(observer)?;
                self.save(observer)?;
                return Ok(Outcome::Stopped(self.trainer.steps_done()));
            }
            self.trainer.advance()?;
            self.tell(steps, observer)?;
            self.write_what_is_due(steps, observer)?;
        }
        observer.notice(Event::Ended {
            wait_share: self.clock.share(self.trainer.waited()),
        });
        Ok(Outcome::Finished)
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
        if due || step == steps || !self.config.compute.deferred || self.clock.is_late() {
            self.tell_all(observer)?;
        }
        Ok(())
    }

    fn tell_all(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let reports = self.trainer.reports()?;
        self.clock.read(reports.len());
        for report in &reports {
            self.tell_one(report, observer)?;
        }
        Ok(())
    }

    fn tell_one(
        &mut self,
        report: &StepReport,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let step = report.step;
        if !report.finite {
            observer.notice(Event::Skipped {
                step,
                in_row: report.skipped_in_row,
            });
            return Ok(());
        }
        let waited = self.trainer.waited();
        let record = self.clock.record(report, waited);
        if is_due(step, self.config.training.log_every.get())
            || step == self.config.training.steps.get()
        {
            self.log.append(&record)?;
        }
        observer.notice(Event::Stepped(&record));
        Ok(())
    }

    /// Pictures before the checkpoint: what a checkpoint counts as done is done.
    fn write_what_is_due(
        &mut self,
        steps: u64,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let step = self.trainer.steps_done();
        if step == steps || is_due(step, self.config.training.sample_every.get()) {
            self.draw(observer)?;
        }
        if step == steps || is_due(step, self.config.training.checkpoint_every.get()) {
            self.save(observer)?;
        }
        Ok(())
    }

    fn draw(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let path = self.folder.samples(self.trainer.steps_done());
        create_folder(path.parent().unwrap_or(self.folder.root()))?;
        comparison(&self.trainer.samples()?, self.config.samples.columns.get())?
            .write_png(&path)?;
        observer.notice(Event::Drawn(&path));
        Ok(())
    }

    fn save(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let state = State {
            step: self.trainer.steps_done(),
            skipped_in_row: self.trainer.skipped_in_row(),
            metrics_bytes: self.log.sync()?,
            seconds: self.clock.seconds(),
            recipe: self.config.to_toml(),
        };
        let path = self
            .folder
            .checkpoints()
            .save(&state, |folder| self.trainer.write(folder))?;
        self.trainer.write_weights(&self.folder.weights())?;
        let records = metrics::read(&self.folder.metrics())?;
        let title = format!("Loss of {}", self.folder.root().display());
        write_bytes(
            &self.folder.loss_curve(),
            metrics::chart(&title, &records).to_svg().as_bytes(),
        )?;
        observer.notice(Event::Saved(&path));
        self.list_skipped(observer);
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

fn refuse_changes(config: &TrainConfig, path: &Path, state: &State) -> Result<(), TrainError> {
    let differences = recipe_changes(&state.recipe, config);
    if differences.is_empty() {
        return Ok(());
    }
    Err(TrainError::Changed {
        path: path.to_owned(),
        differences,
    })
}

/// Seconds of training and samples a second.
struct Clock {
    before: f64,
    start: Instant,
    last: Instant,
    batch: usize,
    current: f64,
    speed: Option<f64>,
}

/// Longer than this nobody is left without news.
const PATIENCE: Duration = Duration::from_secs(1);

impl Clock {
    fn new(before: f64, batch: usize) -> Self {
        let now = Instant::now();
        Self {
            before,
            start: now,
            last: now,
            batch,
            current: 0.0,
            speed: None,
        }
    }

    fn seconds(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }

    /// The share of the time since the start.
    fn share(&self, waited: Duration) -> f64 {
        waited.as_secs_f64() / self.start.elapsed().as_secs_f64().max(1e-9)
    }

    /// Whether the last reading is long ago.
    fn is_late(&self) -> bool {
        self.last.elapsed() >= PATIENCE
    }

    /// Notes that the numbers of so many steps were read now.
    fn read(&mut self, steps: usize) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64().max(1e-9);
        self.current = (steps * self.batch) as f64 / seconds;
        self.last = now;
    }

    /// The record of one of the steps read last; the speed is smoothed over some twenty steps.
    fn record(&mut self, report: &StepReport, waited: Duration) -> Record {
        let speed = self
            .speed
            .map_or(self.current, |speed| speed + (self.current - speed) / 20.0);
        self.speed = Some(speed);
        Record {
            step: report.step,
            loss: report.loss,
            unweighted: report.unweighted,
            unweighted_by_t_r: report.bins,
            rate: report.rate,
            gradient_norm: report.gradient_norm,
            images_per_second: speed,
            seconds: self.seconds(),
            wait_share: self.share(waited),
        }
    }
}
