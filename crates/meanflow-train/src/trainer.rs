//! One training step after the other. Time, files and people are the business of [`crate::run`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meanflow_data::Source;
use meanflow_data::latents::Facts;
use meanflow_torch::engine::Direction;
use meanflow_torch::{Batch, Device, Inputs, Model, device, recover, weights};

use crate::TrainError;
use crate::config::TrainConfig;
use crate::data::Batches;
use crate::learner::Learner;
use crate::pending::{self, Numbers, Pending, StepReport};
use crate::provenance::{CLASS_NAMES_KEY, LATENTS_KEY, RECIPE_KEY};
use crate::recorded::Recorded;
use crate::samples::{Samples, balanced};
use crate::saver::Snapshot;

/// Steps in a row whose loss may be not finite before the run gives up.
const PATIENCE: u32 = 10;

/// A model in training. Its state is that of its tensors and two counters; all else follows from recipe and step.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    batches: Batches,
    latents: Option<Facts>,
    /// Of the classes that the network is given.
    class_names: Option<Vec<String>>,
    learner: Learner,
    /// With `compute.graph`.
    recorded: Option<Recorded>,
    step: u64,
    skipped_in_row: u32,
    /// Steps done whose numbers nobody has asked for.
    pending: Vec<Pending>,
    /// Steps of which the numbers are known and nobody has asked for them.
    known: Vec<StepReport>,
}

impl Trainer {
    /// A model that has not been trained yet.
    ///
    /// # Errors
    /// When the recipe describes no network for the data.
    pub fn new(
        config: TrainConfig,
        data: Box<dyn Source>,
        device: Device,
    ) -> Result<Self, TrainError> {
        let learner = Learner::new(&config, data.shape(), data.classes(), device)?;
        device::allow_tf32(config.compute.tf32);
        Ok(Self {
            latents: data.latents().cloned(),
            class_names: data
                .class_names()
                .filter(|_| config.is_conditional())
                .map(<[String]>::to_vec),
            batches: Batches::new(&config, data, device),
            learner,
            recorded: config.compute.graph.then(|| Recorded::new(device)),
            config,
            step: 0,
            skipped_in_row: 0,
            pending: Vec::new(),
            known: Vec::new(),
        })
    }

    /// Steps done, those left out included.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Steps left out in a row until the last report.
    pub fn skipped_in_row(&self) -> u32 {
        self.skipped_in_row
    }

    /// The batch of a step, counted from 0, as [`Trainer::step`] sees it.
    ///
    /// # Errors
    /// Those of the data.
    pub fn batch(&mut self, step: u64) -> Result<Batch, TrainError> {
        self.batches.at(&self.config, step)
    }

    /// Why a device could not record the steps as `compute.graph` asks, for which they are done as they are written; none
    /// where it did, or where nothing was to be recorded.
    pub fn graph_refused(&self) -> Option<&str> {
        self.recorded.as_ref()?.refused()
    }

    /// How long steps have waited for their samples since this trainer was made.
    pub fn waited(&self) -> Duration {
        self.batches.waited()
    }

    /// The damaged samples that others were taken for until now, with the reasons.
    pub fn skipped_samples(&self) -> Vec<(PathBuf, String)> {
        self.batches.skipped()
    }

    /// The model being trained.
    pub fn model(&self) -> &Model {
        &self.learner.model
    }

    /// The average to sample from, and the name of its decay.
    pub fn average(&self) -> (&Model, String) {
        let first = &self.learner.averages[0];
        (&first.model, first.law.name())
    }

    /// Does the next step and reads its numbers. Where loss or gradient are not finite it changes nothing but the counters.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] when that happened ten times in a row; those of libtorch.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        self.step_along(Direction::PATH)
    }

    /// As [`Trainer::step`], with the derivative along any direction in the place of `du/dt`: for ablations.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_along(&mut self, direction: Direction) -> Result<StepReport, TrainError> {
        self.advance_along(direction)?;
        Ok(self.reports()?.pop().expect("a step was done"))
    }

    /// Does the next step as [`Trainer::step`] does. With `compute.deferred` nobody waits for the device; otherwise only
    /// the report is left for [`Trainer::reports`].
    ///
    /// # Errors
    /// Those of libtorch and of the data.
    pub fn advance(&mut self) -> Result<(), TrainError> {
        self.advance_along(Direction::PATH)
    }

    /// The numbers of all steps since the last call, read in one transfer.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn reports(&mut self) -> Result<Vec<StepReport>, TrainError> {
        let mut reports = std::mem::take(&mut self.known);
        reports.extend(pending::read(&std::mem::take(&mut self.pending))?);
        for report in &mut reports {
            self.skipped_in_row = if report.finite {
                0
            } else {
                self.skipped_in_row + 1
            };
            report.skipped_in_row = self.skipped_in_row;
            if self.skipped_in_row >= PATIENCE {
                return Err(TrainError::NotFinite {
                    step: report.step,
                    skipped: self.skipped_in_row,
                });
            }
        }
        Ok(reports)
    }

    fn advance_along(&mut self, direction: Direction) -> Result<(), TrainError> {
        recover("do a training step", || self.advance_or_panic(direction))
    }

    /// As [`Trainer::advance`]; a refusal of libtorch, such as of memory, is a panic.
    fn advance_or_panic(&mut self, direction: Direction) -> Result<(), TrainError> {
        let batch = self.batch(self.step)?;
        let parts = batch.split(self.config.training.parts.get() as usize);
        let inputs = self.learner.inputs(&parts)?;
        let (step, steps) = (self.step + 1, self.config.training.steps.get());
        let rate = self.config.rate.at(self.step, steps);
        let pending = |numbers| Pending {
            step,
            rate,
            times: batch.times,
            numbers,
        };
        self.learner.prepare(step, rate);
        if self.config.compute.deferred {
            let numbers = self.advance_unwatched(direction, inputs)?;
            self.pending.push(pending(numbers));
        } else {
            let numbers = self.learner.differentiate(direction, &inputs)?;
            let reports = pending::read(&[pending(numbers)])?;
            self.update(&reports[0])?;
            self.known.extend(reports);
        }
        self.step = step;
        Ok(())
    }

    /// The next step, without waiting for any of its numbers.
    fn advance_unwatched(
        &mut self,
        direction: Direction,
        inputs: Vec<Inputs>,
    ) -> Result<Numbers, TrainError> {
        let averages_are_due = self.learner.averages_are_due(self.step + 1);
        // A recording knows one direction.
        if let Some(recorded) = &mut self.recorded
            && direction == Direction::PATH
        {
            return Ok(recorded.advance(&mut self.learner, inputs, averages_are_due)?);
        }
        let numbers = self.learner.advance(direction, &inputs)?;
        if averages_are_due {
            self.learner.follow_if_finite(&numbers);
        }
        Ok(numbers)
    }

    /// The rest of a step whose numbers are known.
    fn update(&mut self, report: &StepReport) -> Result<(), TrainError> {
        if report.finite {
            self.learner.update(report.gradient_norm)?;
            if self.learner.averages_are_due(report.step) {
                self.learner.follow(report.step)?;
            }
        }
        Ok(())
    }

    /// Draws the recipe's samples with the average: one set for each number of steps, seeds 0, 1, 2, ….
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn samples(&self) -> Result<Vec<Samples>, TrainError> {
        let (model, _) = self.average();
        let wanted = &self.config.samples;
        let seeds: Vec<u64> = (0..wanted.count() as u64).collect();
        let labels = balanced(&seeds, model.config().classes);
        wanted
            .steps
            .iter()
            .map(|steps| Samples::draw(model, &seeds, labels.as_deref(), steps.get()))
            .collect()
    }

    /// Writes all tensors into a folder: the model, every average, the optimiser.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        self.snapshot().write(folder)
    }

    /// A copy of all tensors on the host, which training does not change.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (name, model, decay) in self.models() {
            let metadata = model.described(self.metadata(decay));
            snapshot.add(&name, &model.parameters().named(), metadata);
        }
        let optimizer = self.learner.optimizer.state();
        snapshot.add(OPTIMIZER, &optimizer, self.metadata(None));
        snapshot
    }

    /// Reads back what [`Trainer::write`] wrote, after `step` steps.
    ///
    /// # Errors
    /// When a file does not fit the network.
    pub fn read(
        &mut self,
        folder: &Path,
        step: u64,
        skipped_in_row: u32,
    ) -> Result<(), TrainError> {
        for (name, model, _) in self.models() {
            weights::load_strict(&folder.join(name), &model.parameters().named())?;
        }
        weights::load_strict(&folder.join(OPTIMIZER), &self.learner.optimizer.state())?;
        (self.step, self.skipped_in_row) = (step, skipped_in_row);
        Ok(())
    }

    /// Writes the weights to sample from.
    ///
    /// # Errors
    /// Those of the file system; a file that was there before is then unchanged.
    pub fn write_weights(&self, path: &Path) -> Result<(), TrainError> {
        let (model, decay) = self.average();
        Ok(model.save(path, self.metadata(Some(decay)))?)
    }

    /// File name, model and name of the decay of the model itself and of every average.
    fn models(&self) -> impl Iterator<Item = (String, &Model, Option<String>)> {
        let averages = self.learner.averages.iter().map(|one| {
            let name = one.law.name();
            (format!("ema-{name}.safetensors"), &one.model, Some(name))
        });
        std::iter::once(("model.safetensors".to_owned(), &self.learner.model, None)).chain(averages)
    }

    fn metadata(&self, decay: Option<String>) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([
            ("format".to_owned(), "meanflow".to_owned()),
            ("step".to_owned(), self.step.to_string()),
            (RECIPE_KEY.to_owned(), self.config.shareable().to_toml()),
        ]);
        metadata.extend(decay.map(|decay| ("ema_decay".to_owned(), decay)));
        metadata.extend(self.class_names.as_ref().map(|names| {
            let json = serde_json::to_string(names).expect("names are representable in JSON");
            (CLASS_NAMES_KEY.to_owned(), json)
        }));
        metadata.extend(self.latents.as_ref().map(|facts| {
            let json = serde_json::to_string(facts).expect("facts are representable in JSON");
            (LATENTS_KEY.to_owned(), json)
        }));
        metadata
    }
}

const OPTIMIZER: &str = "optimizer.safetensors";
