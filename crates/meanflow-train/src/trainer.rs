//! One training step after the other. Time, files and people are the business of [`crate::run`].

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meanflow_data::latents::Facts;
use meanflow_data::{Dataset, Picture};
use meanflow_torch::sampler::{Solver, uniform_grid};
use meanflow_torch::{
    Batch, Device, Model, OwnMicrobatches, Ranks, Sharing, StepInputs, Tangent, device, recover,
    weights,
};
use serde::Serialize;

use crate::TrainError;
use crate::config::TrainConfig;
use crate::control::{Control, Order, Outcome};
use crate::crash::CrashRow;
use crate::data::Batches;
use crate::graphed_step::GraphedStep;
use crate::init_from::{self, InitFrom, InitReport};
use crate::latents::{self, LatentDecoder};
use crate::manifest::Fingerprints;
use crate::provenance::{CLASS_NAMES_KEY, LATENTS_KEY, RECIPE_KEY};
use crate::samples::{Captions, Samples, balanced, comparison};
use crate::saver::Snapshot;
use crate::step_metrics::{DeviceMetrics, StepMetrics, StepPlan};
use crate::train_state::TrainState;

/// Steps in a row whose loss may be not finite before the run gives up.
const PATIENCE: u32 = 10;

/// A model in training. Its state is that of its tensors and two counters; all else follows from recipe and step.
///
/// ```
/// use std::path::Path;
/// use meanflow_torch::Device;
/// use meanflow_train::{TrainConfig, Trainer};
///
/// # let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/digits.toml");
/// # let small = ["network.width=32", "network.depth=1", "training.batch_size=8"].map(str::to_owned);
/// let config = TrainConfig::read(Path::new(recipe), &small)?;
/// let data = config.data.load(config.seed)?;
/// let mut trainer = Trainer::new(config, data, Device::Cpu)?;
/// let metrics = trainer.step()?;
/// assert!(metrics.is_finite && metrics.step == 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    batches: Batches,
    latents: Option<Facts>,
    /// What makes pictures of latents.
    decoder: Option<LatentDecoder>,
    /// Of the classes that the network is given.
    class_names: Option<Vec<String>>,
    state: TrainState,
    /// With `compute.cuda_graph`.
    graphed: Option<GraphedStep>,
    step: u64,
    skipped_in_row: u32,
    /// How many steps ahead the data of a step is.
    data_offset: u64,
    /// Steps whose metrics are on the device.
    unread: Vec<(StepPlan, DeviceMetrics)>,
    /// Steps whose metrics have been read and are still to be given to the caller, oldest first.
    read: Vec<StepMetrics>,
    /// Those of the step that training could not go on after.
    ended_by: Option<StepMetrics>,
    /// With several processes.
    control: Option<Control>,
    /// Whether the others do not have what this one has.
    is_ahead: bool,
}

impl Trainer {
    /// A model that has not been trained yet.
    ///
    /// # Errors
    /// When the recipe describes no network for the data.
    pub fn new(
        config: TrainConfig,
        data: Box<dyn Dataset>,
        device: Device,
    ) -> Result<Self, TrainError> {
        Self::shared(config, data, device, None)
    }

    /// As [`Trainer::new`], for one of several processes that do every step together.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub(crate) fn shared(
        config: TrainConfig,
        data: Box<dyn Dataset>,
        device: Device,
        peers: Option<(Control, Ranks)>,
    ) -> Result<Self, TrainError> {
        let (control, ranks) = peers.unzip();
        let all = OwnMicrobatches::all(config.training.microbatches());
        let own = ranks.as_ref().map_or(all, Ranks::own);
        let state = TrainState::new(&config, data.shape(), data.classes(), device, ranks)?;
        device::allow_tf32(config.compute.tf32);
        Ok(Self {
            latents: data.latents().cloned(),
            decoder: None,
            class_names: data
                .class_names()
                .filter(|_| config.is_conditional())
                .map(<[String]>::to_vec),
            batches: Batches::new(&config, data, device, own)?,
            state,
            graphed: config.compute.cuda_graph.then(|| GraphedStep::new(device)),
            config,
            step: 0,
            skipped_in_row: 0,
            data_offset: 0,
            unread: Vec::new(),
            read: Vec::new(),
            ended_by: None,
            control,
            is_ahead: true,
        })
    }

    /// Draws latents as the pictures that this decoder makes of them.
    pub(crate) fn set_decoder(&mut self, decoder: Option<LatentDecoder>) {
        self.decoder = decoder;
    }

    /// Sets model and averages to the weights of another model, before the first step.
    ///
    /// # Errors
    /// [`TrainError::Init`] with every tensor that does not fit; nothing is changed then.
    pub fn init_from(&mut self, init: &InitFrom) -> Result<InitReport, TrainError> {
        let (model, names) = (&self.state.model, self.class_names.as_deref());
        let latents = self.latents.as_ref().map(json_of);
        let report = init_from::apply(init, model, names, latents.as_deref())?;
        self.state.restart_emas();
        self.is_ahead = true;
        Ok(report)
    }

    /// Steps done, those left out included.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Steps left out in a row until the last one whose metrics were read.
    pub fn skipped_in_row(&self) -> u32 {
        self.skipped_in_row
    }

    /// The batch of a step, counted from 0, as [`Trainer::step`] sees it; of one of several processes its own rows.
    ///
    /// # Errors
    /// Those of the data.
    pub fn batch(&mut self, step: u64) -> Result<Batch, TrainError> {
        self.batches.at(&self.config, step)
    }

    /// Why a device could not record the steps as `compute.cuda_graph` asks, for which they are done as they are written; none
    /// where it did, or where nothing was to be recorded.
    pub fn graph_refused(&self) -> Option<&str> {
        self.graphed.as_ref()?.refused()
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
        &self.state.model
    }

    /// The average to sample from, and the name of its decay.
    pub fn average(&self) -> (&Model, String) {
        let first = &self.state.emas[0];
        (&first.model, first.schedule.name())
    }

    /// Does the next step and reads its metrics. Where loss or gradient are not finite it changes nothing but the counters.
    ///
    /// The metrics of earlier steps that were not asked for yet stay for [`Trainer::metrics`].
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] when that happened ten times in a row, [`TrainError::WeightsNotFinite`] at the first
    /// update that overflows; those of libtorch.
    pub fn step(&mut self) -> Result<StepMetrics, TrainError> {
        self.step_along(Tangent::TRAJECTORY)
    }

    /// As [`Trainer::step`], with the derivative along any direction in the place of `du/dt`: for ablations.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_along(&mut self, direction: Tangent) -> Result<StepMetrics, TrainError> {
        self.advance_along(direction)?;
        self.read_metrics()?;
        match self.read.iter().position(ends_training) {
            Some(index) => Err(self.end(index)),
            None => Ok(self.read.pop().expect("a step was done")),
        }
    }

    /// Does the next step as [`Trainer::step`] does, and leaves its metrics for [`Trainer::metrics`].
    ///
    /// With `compute.async_metrics` they stay on the device, and nothing waits for it.
    ///
    /// # Errors
    /// Those of libtorch and of the data.
    pub fn advance(&mut self) -> Result<(), TrainError> {
        self.advance_along(Tangent::TRAJECTORY)
    }

    /// The metrics of the step that a call failed for because training could not go on after it.
    pub fn ended_by(&self) -> Option<&StepMetrics> {
        self.ended_by.as_ref()
    }

    /// The rows of a step that was done, counted from 1, with `‖u − v_t‖²` of each.
    pub(crate) fn rows(&self, step: u64, v_loss_by_row: &[f64]) -> Vec<CrashRow> {
        let drawn = step - 1 + self.data_offset;
        let samples = self.batches.samples(&self.config, drawn).into_iter();
        let times = self.config.times_at(drawn);
        let dropped = self.config.dropped(times.jumps, drawn);
        let rows = samples.zip(times.intervals).zip(dropped).zip(v_loss_by_row);
        rows.map(
            |((((sample, label), interval), dropped), v_loss)| CrashRow {
                sample,
                label,
                dropped,
                r: interval.r(),
                t: interval.t(),
                v_loss: *v_loss,
            },
        )
        .collect()
    }

    /// The metrics of all steps since the last call, oldest first, read in one transfer. They end before a step that ends
    /// training, for which the next call fails: whoever needs to know that all steps were sound calls until none is left.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn metrics(&mut self) -> Result<Vec<StepMetrics>, TrainError> {
        self.read_metrics()?;
        match self.read.iter().position(ends_training) {
            Some(0) => Err(self.end(0)),
            Some(sound) => Ok(self.read.drain(..sound).collect()),
            None => Ok(std::mem::take(&mut self.read)),
        }
    }

    fn advance_along(&mut self, direction: Tangent) -> Result<(), TrainError> {
        recover("do a training step", || self.advance_or_panic(direction))
    }

    /// As [`Trainer::advance`]; a refusal of libtorch, such as of memory, is a panic.
    fn advance_or_panic(&mut self, direction: Tangent) -> Result<(), TrainError> {
        self.lead()?;
        self.note_progress(self.step + 1);
        let drawn = self.step + self.data_offset;
        let batch = self.batch(drawn)?;
        let step = self.step + 1;
        let lr = self
            .config
            .lr
            .at(self.step, self.config.training.steps.get());
        let microbatches = batch.microbatches(self.batches.microbatches());
        let inputs = self.state.inputs(&microbatches)?;
        self.state.prepare(step, lr);
        let metrics = self.compute(direction, inputs, self.state.emas_are_due(step))?;
        let times = self.config.laid_out_times_at(drawn);
        self.unread.push((StepPlan { step, lr, times }, metrics));
        self.step = step;
        self.note_progress(step);
        if !self.config.compute.async_metrics {
            self.read_metrics()?;
        }
        Ok(())
    }

    /// Tells whoever supervises several processes that this one does something.
    fn note_progress(&self, step: u64) {
        if let Some(control) = &self.control {
            control.note(step);
        }
    }

    /// Tells the others, where there are any and this is the first, that the next step is to be done.
    fn lead(&mut self) -> Result<(), TrainError> {
        let Some(control) = self.control.as_ref().filter(|control| control.leads()) else {
            return Ok(());
        };
        if self.is_ahead {
            let (step, data_offset) = (self.step, self.data_offset);
            control.tell(Order::State { step, data_offset })?;
            self.state.take_from_first()?;
            self.is_ahead = false;
        }
        control.tell(Order::Step)
    }

    /// Does what the first process says until the run has ended, and how.
    ///
    /// # Errors
    /// If another process was lost; those of libtorch and of the data.
    pub(crate) fn follow(mut self) -> Result<Outcome, TrainError> {
        loop {
            let order = self.control.as_ref().map(Control::hear);
            match order.unwrap_or(Ok(Order::End(Outcome::Finished)))? {
                Order::State { step, data_offset } => {
                    self.state.take_from_first()?;
                    (self.step, self.data_offset) = (step, data_offset);
                }
                Order::Step => {
                    self.advance()?;
                    // What they say is the business of the first.
                    self.unread.clear();
                    self.read.clear();
                }
                Order::Collect(set) => self.state.collect(set)?,
                Order::End(outcome) => return Ok(outcome),
            }
        }
    }

    /// Tells the other processes that the run has ended.
    ///
    /// # Errors
    /// If one was lost.
    pub(crate) fn dismiss(&self, outcome: Outcome) -> Result<(), TrainError> {
        match &self.control {
            Some(control) => control.tell(Order::End(outcome)),
            None => Ok(()),
        }
    }

    /// The next step and the averages, as a graph where there is one.
    fn compute(
        &mut self,
        direction: Tangent,
        mut inputs: Vec<StepInputs>,
        emas_are_due: bool,
    ) -> Result<DeviceMetrics, TrainError> {
        // A graph knows one direction.
        if let Some(graphed) = &mut self.graphed
            && direction == Tangent::TRAJECTORY
        {
            return Ok(graphed.step(&mut self.state, inputs, emas_are_due)?);
        }
        Ok(self.state.step(direction, &mut inputs, emas_are_due)?)
    }

    /// Reads the metrics that are on the device, and counts the steps that were left out.
    fn read_metrics(&mut self) -> Result<(), TrainError> {
        for mut metrics in DeviceMetrics::to_host(&std::mem::take(&mut self.unread))? {
            self.skipped_in_row = if metrics.is_finite {
                0
            } else {
                self.skipped_in_row + 1
            };
            metrics.skipped_in_row = self.skipped_in_row;
            self.read.push(metrics);
        }
        Ok(())
    }

    /// Gives up at the step of this index, which ends training.
    fn end(&mut self, index: usize) -> TrainError {
        let metrics = self.ended_by.insert(self.read.remove(index));
        let StepMetrics {
            step,
            skipped_in_row: skipped,
            largest_weight,
            ..
        } = *metrics;
        if largest_weight.is_finite() {
            TrainError::NotFinite { step, skipped }
        } else {
            TrainError::WeightsNotFinite { step }
        }
    }

    /// How the threads of the CPU share a step.
    pub fn sharing(&self) -> Sharing {
        self.state.sharing()
    }

    /// The picture of the recipe's samples, drawn with the average: a part for each number of steps, seeds 0, 1, 2, ….
    ///
    /// # Errors
    /// As [`Trainer::samples`].
    pub(crate) fn picture(&self) -> Result<Picture, TrainError> {
        let wanted = &self.config.sampling;
        let seeds: Vec<u64> = (0..wanted.count() as u64).collect();
        let labels = balanced(&seeds, self.average().0.config().classes);
        let captions = Captions {
            nfe: &wanted.nfe,
            labels: labels.as_deref(),
            names: self.class_names.as_deref(),
        };
        let (sets, columns) = (self.samples()?, wanted.grid[1].get());
        let is_plane = sets.first().is_some_and(|samples| samples.shape == [2]);
        let sheet = |samples: &Samples| latents::sheet(samples, self.decoder.as_ref(), columns);
        let sheets = sets.iter().map(sheet).collect::<Result<Vec<_>, _>>()?;
        Ok(comparison(sheets, columns, is_plane, &captions)?)
    }

    /// Draws the recipe's samples with the average: one set for each number of steps, seeds 0, 1, 2, ….
    ///
    /// # Errors
    /// Those of libtorch.
    pub fn samples(&self) -> Result<Vec<Samples>, TrainError> {
        self.with_set(FIRST_AVERAGE, || self.draw())
    }

    /// As [`Trainer::samples`], with an average that is here.
    fn draw(&self) -> Result<Vec<Samples>, TrainError> {
        let (model, _) = self.average();
        let wanted = &self.config.sampling;
        let seeds: Vec<u64> = (0..wanted.count() as u64).collect();
        let labels = balanced(&seeds, model.config().classes);
        let draw = |steps: &NonZeroUsize| {
            let (grid, watch) = (uniform_grid(steps.get()), |_| self.note_progress(self.step));
            let sampler = (&grid[..], Solver::Jump);
            let drawn = Samples::draw_watched(model, &seeds, labels.as_deref(), sampler, watch)?;
            Ok(drawn.0)
        };
        wanted.nfe.iter().map(draw).collect()
    }

    /// Writes all tensors into a folder: the model, every average, the optimiser. Returns the fingerprints of the files, as
    /// [`Checkpoints::save`](crate::Checkpoints::save) wants them.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path) -> Result<Fingerprints, TrainError> {
        self.snapshot(Snapshot::default())?.write(folder)
    }

    /// Does some work with a whole set of [`TrainState::collect`], of which this process has only a part where several share the optimiser.
    fn with_set<T>(
        &self,
        set: usize,
        work: impl FnOnce() -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        // What the others do not have yet is whole.
        let Some(control) = self
            .control
            .as_ref()
            .filter(|_| self.state.is_sharded() && !self.is_ahead)
        else {
            return work();
        };
        control.tell(Order::Collect(set))?;
        self.state.collect(set)?;
        let done = work();
        self.state.release(set);
        done
    }

    /// A copy of all tensors on the host, which training does not change, in the place of an earlier one.
    ///
    /// # Errors
    /// If another process was lost.
    pub(crate) fn snapshot(&self, mut snapshot: Snapshot) -> Result<Snapshot, TrainError> {
        for (index, (name, model, decay)) in self.models().enumerate() {
            self.note_progress(self.step);
            let metadata = model.described(self.metadata(decay));
            let add = || {
                snapshot.add(&name, &model.parameters().named(), metadata);
                Ok(())
            };
            // The first is the model itself, which all have.
            match index.checked_sub(1) {
                Some(set) => self.with_set(set, add)?,
                None => add()?,
            }
        }
        let [first, second] = self.state.sets_of_optimizer().collect::<Vec<_>>()[..] else {
            return Ok(snapshot);
        };
        self.with_set(first, || {
            self.with_set(second, || {
                let optimizer = self.state.optimizer.state();
                snapshot.add(OPTIMIZER, &optimizer, self.metadata(None));
                Ok(())
            })
        })?;
        Ok(snapshot)
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
        self.state.hold_all();
        for (name, model, _) in self.models() {
            self.note_progress(step);
            weights::load_strict(&folder.join(name), &model.parameters().named())?;
        }
        weights::load_strict(&folder.join(OPTIMIZER), &self.state.optimizer.state())?;
        (self.step, self.skipped_in_row) = (step, skipped_in_row);
        self.unread.clear();
        self.read.clear();
        self.ended_by = None;
        self.is_ahead = true;
        Ok(())
    }

    /// From now on a step sees the data, noise and times that the step so many later would.
    pub fn set_data_offset(&mut self, steps: u64) {
        self.data_offset = steps;
        self.is_ahead = true;
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
        let averages = self.state.emas.iter().map(|one| {
            let name = one.schedule.name();
            (format!("ema-{name}.safetensors"), &one.model, Some(name))
        });
        std::iter::once(("model.safetensors".to_owned(), &self.state.model, None)).chain(averages)
    }

    fn metadata(&self, decay: Option<String>) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([
            ("format".to_owned(), "meanflow".to_owned()),
            ("step".to_owned(), self.step.to_string()),
            (RECIPE_KEY.to_owned(), self.config.shareable().to_toml()),
        ]);
        metadata.extend(decay.map(|decay| ("ema_decay".to_owned(), decay)));
        let names = self.class_names.as_ref();
        metadata.extend(names.map(|names| (CLASS_NAMES_KEY.to_owned(), json_of(names))));
        let latents = self.latents.as_ref();
        metadata.extend(latents.map(|facts| (LATENTS_KEY.to_owned(), json_of(facts))));
        metadata
    }
}

fn json_of<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("names and facts are representable in JSON")
}

/// Whether nothing can go on after a step: it was one too many to be left out, or its update has overflowed.
fn ends_training(metrics: &StepMetrics) -> bool {
    metrics.skipped_in_row >= PATIENCE || !metrics.largest_weight.is_finite()
}

/// The set of [`TrainState::collect`] that is the average to sample from.
const FIRST_AVERAGE: usize = 0;
const OPTIMIZER: &str = "optimizer.safetensors";
