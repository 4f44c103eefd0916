//! From a recipe's data section to batches of tensors.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use meanflow_core::random::{Purpose, RngStream};
use meanflow_core::times::TimeDraw;
use meanflow_data::augment::Augmented;
use meanflow_data::cifar::{self, Part, Variant};
use meanflow_data::custom;
use meanflow_data::latents::Latents;
use meanflow_data::renumber::{Renumbered, empty_classes};
use meanflow_data::{
    BadPictures, DataError, Dataset, EpochOrder, Examples, ImageArchive, ImageDataset, Links,
    MemoryDataset, Prefetch, digits, idx, toy,
};
use meanflow_torch::{Batch, Device, LibtorchError, ModelConfig, OwnMicrobatches, Tensor, host};

use crate::TrainError;
use crate::config::{
    CifarConfig, DataConfig, EmptyClasses, Expected, LatentsConfig, PicturesConfig, Share,
    TrainConfig,
};

/// What a recipe's data is made of, known without reading it where the recipe or the format says it.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFacts {
    /// Shape of one sample.
    pub shape: Vec<usize>,
    /// Number of classes; 0 when the samples carry no label.
    pub classes: usize,
    /// Number of samples.
    pub samples: usize,
}

impl DataConfig {
    /// Opens or makes the data set.
    ///
    /// # Errors
    /// With the file that is missing or damaged, or that does not hold what the recipe says; with the pictures that
    /// can be transparent and the classes that no sample has, where the recipe does not say what to do with them.
    pub fn load(&self, seed: u64) -> Result<Box<dyn Dataset>, TrainError> {
        let data: Box<dyn Dataset> = match self {
            Self::Digits { .. } => Box::new(digits::load()?),
            Self::Idx { path, expect, .. } => Box::new(pictures(path, expect.as_ref())?),
            Self::Cifar10(config) => Box::new(cifar(config, Variant::Ten)?),
            Self::Cifar100(config) => Box::new(cifar(config, Variant::Hundred)?),
            Self::Folder(config) | Self::Zip(config) | Self::Tar(config) => {
                let pictures = self.collection().expect("these kinds are collections")?;
                Box::new(config.set(pictures)?)
            }
            Self::Latents(config) => Box::new(latents(config)?),
            Self::Custom { name, config, .. } => custom::load(name, config, seed)?,
            Self::Checkerboard { size } => Box::new(toy::checkerboard(size.get(), seed)?),
        };
        self.settle_classes(data)
    }

    /// The encoded pictures that the recipe names, looked at as it says; none for data of another kind.
    pub fn collection(&self) -> Option<Result<ImageArchive, DataError>> {
        let (config, opened) = match self {
            Self::Folder(config) => {
                let links = if config.follow_links {
                    Links::Follow
                } else {
                    Links::Inside
                };
                (config, ImageArchive::open_folder_by(&config.path, links))
            }
            Self::Zip(config) => (config, ImageArchive::open_zip(&config.path)),
            Self::Tar(config) => (config, ImageArchive::open_tar(&config.path)),
            _ => return None,
        };
        Some(opened.map(|pictures| pictures.viewed(config.view())))
    }

    /// Refuses, keeps or leaves out classes that no sample has, as the recipe says.
    fn settle_classes(&self, data: Box<dyn Dataset>) -> Result<Box<dyn Dataset>, TrainError> {
        let may_say = matches!(self, Self::Idx { .. } | Self::Zip(_) | Self::Tar(_));
        if !self.is_conditional() || !may_say {
            return Ok(data);
        }
        let empty = empty_classes(&*data);
        match self.empty_classes() {
            _ if empty.is_empty() => Ok(data),
            Some(EmptyClasses::Keep) => Ok(data),
            Some(EmptyClasses::Renumber) => Ok(Box::new(Renumbered::new(data))),
            None => {
                let (classes, count) = (data.classes(), empty.len());
                let error = DataError::Shape {
                    what: "classes",
                    expected: "a sample of every class, or data.empty_classes = \"renumber\" (without them) or \"keep\"".to_owned(),
                    got: format!("{count} of {classes} classes without samples: {}", listed(&empty)),
                };
                Err(error.into())
            }
        }
    }

    /// What a person should know of the data, a sentence each.
    pub fn remarks(&self, data: &dyn Dataset) -> Vec<String> {
        let mut remarks = data.remarks();
        if self.is_conditional() {
            let empty = empty_classes(data);
            if !empty.is_empty() {
                let classes = listed(&empty);
                remarks.push(format!(
                    "no sample has class {classes}: samples of it will be noise"
                ));
            }
        } else if data.classes() > 0 {
            let classes = data.classes();
            remarks.push(format!(
                "the data have {classes} classes, which the network is not given (data.conditional)"
            ));
        }
        remarks
    }

    /// Shape, classes and number of the samples; reads files only where these are written nowhere else.
    ///
    /// # Errors
    /// As [`DataConfig::load`].
    pub fn facts(&self, seed: u64) -> Result<DataFacts, TrainError> {
        let cifar = |variant: Variant| DataFacts {
            shape: cifar::SHAPE.to_vec(),
            classes: variant.classes(),
            samples: cifar::TRAINING_PICTURES,
        };
        let renumbered = self.empty_classes() == Some(EmptyClasses::Renumber);
        Ok(match self {
            Self::Cifar10(_) => cifar(Variant::Ten),
            Self::Cifar100(_) => cifar(Variant::Hundred),
            Self::Latents(config) => config.facts(),
            Self::Idx {
                expect: Some(expected),
                ..
            } if !renumbered => expected.facts(),
            _ => DataFacts::of(&*self.load(seed)?),
        })
    }
}

/// The first of some classes.
fn listed(classes: &[usize]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = classes.iter().take(SHOWN).map(usize::to_string).collect();
    let more = if classes.len() > SHOWN { ", …" } else { "" };
    shown.join(", ") + more
}

impl DataFacts {
    /// Those of data that are open.
    pub fn of(data: &dyn Dataset) -> Self {
        Self {
            shape: data.shape().to_vec(),
            classes: data.classes(),
            samples: data.len(),
        }
    }
}

impl Expected {
    fn facts(&self) -> DataFacts {
        DataFacts {
            shape: self.shape.map(NonZeroUsize::get).to_vec(),
            classes: self.classes,
            samples: self.samples.get(),
        }
    }
}

impl PicturesConfig {
    /// The pictures as the recipe wants them, if they have the classes that it wants.
    fn set(&self, pictures: ImageArchive) -> Result<Augmented, DataError> {
        if self.conditional && pictures.classes() == 0 {
            return Err(DataError::Shape {
                what: "classes of the pictures",
                expected: "at least one, for a network that is given the class".to_owned(),
                got: format!(
                    "none in {}; classes are read from {}{}",
                    self.path.display(),
                    pictures.labels_are(),
                    pictures
                        .remarks()
                        .first()
                        .map_or_else(String::new, |text| format!(" ({text})"))
                ),
            });
        }
        pictures.refuse_transparent()?;
        let bad = self
            .skip_damaged
            .map_or(BadPictures::Refuse, |share| BadPictures::Skip(share.get()));
        let set = ImageDataset::new(pictures, self.size.get(), self.channels.get(), bad)?;
        Augmented::new(set, self.flip, self.augment_probability.map(Share::get))
    }
}

impl LatentsConfig {
    fn facts(&self) -> DataFacts {
        DataFacts {
            shape: self.shape.map(NonZeroUsize::get).to_vec(),
            classes: self.classes,
            samples: self.samples.get(),
        }
    }
}

fn cifar(config: &CifarConfig, variant: Variant) -> Result<Augmented, DataError> {
    let pictures = cifar::read_directory(&config.path, variant, Part::Train)?;
    let probability = config.augment_probability.map(Share::get);
    Augmented::new(pictures, config.flip, probability)
}

/// The latents, if they are what the recipe says.
fn latents(config: &LatentsConfig) -> Result<Latents, DataError> {
    let latents = Latents::open(&config.path, config.classes, config.flip)?;
    let what = "latents that the recipe describes";
    compare(what, &config.facts(), &latents, &config.path)?;
    Ok(latents)
}

/// The pictures of an IDX folder, if they are what the recipe says.
fn pictures(path: &Path, expected: Option<&Expected>) -> Result<MemoryDataset, DataError> {
    let pictures = idx::read_directory(path)?;
    if let Some(expected) = expected {
        let what = "pictures that data.expect describes";
        compare(what, &expected.facts(), &pictures, path)?;
    }
    Ok(pictures)
}

fn compare(
    what: &'static str,
    expected: &DataFacts,
    data: &dyn Dataset,
    path: &Path,
) -> Result<(), DataError> {
    let got = DataFacts::of(data);
    if *expected == got {
        return Ok(());
    }
    let described = |facts: &DataFacts| {
        let DataFacts {
            shape,
            classes,
            samples,
        } = facts;
        format!("{samples} of shape {shape:?} in {classes} classes")
    };
    Err(DataError::Shape {
        what,
        expected: described(expected),
        got: format!("{} in {}", described(&got), path.display()),
    })
}

impl TrainConfig {
    /// The model that this recipe trains on samples of this shape in so many classes.
    ///
    /// # Errors
    /// When the sizes describe no network for them.
    pub fn model(&self, shape: &[usize], classes: usize) -> Result<ModelConfig, TrainError> {
        let config = ModelConfig {
            network: self.network.clone(),
            shape: shape.iter().map(|&side| side as i64).collect(),
            classes: if self.is_conditional() {
                classes as i64
            } else {
                0
            },
            schedule: self.path,
            prediction: self.prediction,
        };
        config.validate()?;
        Ok(config)
    }
}

impl TrainConfig {
    /// The times of a step's batch, counted from 0.
    pub(crate) fn times_at(&self, step: u64) -> TimeDraw {
        let rows = self.training.batch_size.get();
        let mut stream = RngStream::new(self.seed, Purpose::Times, step);
        self.times.draw(rows, &mut stream)
    }

    /// As [`TrainConfig::times_at`], with as many MeanFlow rows in every step where steps have to be the same work.
    pub(crate) fn laid_out_times_at(&self, step: u64) -> TimeDraw {
        let times = self.times_at(step);
        match self.compute.cuda_graph {
            true => {
                let rows = self.training.batch_size.get();
                times.padded(self.times.mean_flow_ratio.most(rows))
            }
            false => times,
        }
    }

    /// Which rows of a step's batch, whose first `jumps` rows have `r < t`, are trained without their label.
    pub(crate) fn dropped(&self, jumps: usize, step: u64) -> Vec<bool> {
        let rows = self.training.batch_size.get();
        let mut stream = RngStream::new(self.seed, Purpose::Labels, step);
        let drop = self.class_dropout.as_ref();
        drop.map_or_else(
            || vec![false; rows],
            |drop| drop.draw(rows, jumps, &mut stream),
        )
    }
}

/// What is slow to make of a batch: samples and noise.
#[derive(Debug)]
struct Draft {
    examples: Examples,
    noise: Vec<f32>,
}

/// The order in which steps see so many samples.
fn order(config: &TrainConfig, len: usize) -> EpochOrder {
    let len = NonZeroUsize::new(len).expect("a data set is never empty");
    EpochOrder::new(len, config.training.batch_size, config.seed)
}

/// What makes the draft of these rows of a step, in whatever thread.
fn drafting(
    config: &TrainConfig,
    data: Arc<dyn Dataset>,
    rows: Vec<usize>,
) -> impl Fn(u64) -> Result<Draft, DataError> + Send + Sync + use<> {
    let seed = config.seed;
    let order = Mutex::new(order(config, data.len()));
    move |step| {
        let mut order = order.lock().unwrap_or_else(PoisonError::into_inner);
        let indices = order.batch_at(step);
        drop(order);
        let examples = data.batch_rows(&indices, &rows, seed, step)?;
        let mut noise = vec![0.0; examples.values.len()];
        let (stream, size) = (
            RngStream::new(seed, Purpose::Noise, step),
            noise.len() / rows.len(),
        );
        for (row, noise) in rows.iter().zip(noise.chunks_exact_mut(size)) {
            stream.normals_from((row * size) as u64, noise);
        }
        Ok(Draft { examples, noise })
    }
}

/// One a core, at most four: more would be for pictures that are larger than networks can take. Beside a CUDA device, which
/// is done with a step much sooner, at most sixteen, and two cores are left to those who feed it.
fn default_workers(device: Device) -> NonZeroUsize {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = match device {
        Device::Cuda(_) => cores.saturating_sub(2).clamp(cores.min(4), 16),
        _ => cores.min(4),
    };
    NonZeroUsize::new(workers).unwrap_or(NonZeroUsize::MIN)
}

/// Batches as functions of the step: whatever is random comes from a stream of (seed, purpose, step).
#[derive(Debug)]
pub(crate) struct Batches {
    data: Arc<dyn Dataset>,
    drafts: Prefetch<Result<Draft, DataError>>,
    device: Device,
    conditional: bool,
    own: OwnMicrobatches,
    /// The rows of a batch that are in them.
    rows: Vec<usize>,
}

impl Batches {
    /// Batches for the recipe, which the data set was made for: of every batch the rows of these microbatches.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub(crate) fn new(
        config: &TrainConfig,
        data: Box<dyn Dataset>,
        device: Device,
        own: OwnMicrobatches,
    ) -> Result<Self, TrainError> {
        let rows = own.rows(config.training.batch_size.get());
        let data: Arc<dyn Dataset> = data.into();
        let workers = config
            .training
            .num_workers
            .unwrap_or_else(|| default_workers(device));
        let ahead = workers.saturating_add(1);
        let make = drafting(config, Arc::clone(&data), rows.clone());
        let drafts = Prefetch::new(workers, ahead, make)
            .map_err(|error| LibtorchError::call("start threads", error))?;
        Ok(Self {
            drafts,
            data,
            device,
            conditional: config.is_conditional(),
            own,
            rows,
        })
    }

    /// How many microbatches the rows are cut into.
    pub(crate) fn microbatches(&self) -> usize {
        self.own.range.len()
    }

    /// The batch of a step, counted from 0.
    ///
    /// # Errors
    /// When the samples cannot be read.
    pub(crate) fn at(&mut self, config: &TrainConfig, step: u64) -> Result<Batch, TrainError> {
        let Draft { examples, noise } = self.drafts.take(step)?;
        let dropped = config.dropped(config.times_at(step).jumps, step);
        let times = config.laid_out_times_at(step);
        let rows = self.rows.len() as i64;
        let told = |labels: Vec<f32>| host::upload(&labels, self.device).reshape([rows, -1]);
        let seed = RngStream::new(config.seed, Purpose::Dropout, step).below(u64::MAX);
        Ok(Batch {
            data: self.tensor(&examples.values),
            noise: self.tensor(&noise),
            labels: self.conditional.then_some(examples.labels),
            times: TimeDraw {
                intervals: self.rows.iter().map(|&row| times.intervals[row]).collect(),
                jumps: self.rows.partition_point(|&row| row < times.jumps),
            },
            dropped: self.rows.iter().map(|&row| dropped[row]).collect(),
            augment: examples.augment.map(told),
            // Every microbatch has a seed of its own, counted from that of the first.
            dropout: Some(seed.wrapping_add(self.own.range.start as u64)),
        })
    }

    /// Which samples the batch of a step has, counted from 0 both, with their classes where they have any.
    pub(crate) fn samples(&self, config: &TrainConfig, step: u64) -> Vec<(usize, Option<i64>)> {
        let labels = self.data.labels();
        let mut order = order(config, self.data.len());
        let samples = order.batch_at(step).into_iter();
        samples
            .map(|sample| (sample, labels.get(sample).copied()))
            .collect()
    }

    /// How long steps have waited for their samples, all together.
    pub(crate) fn waited(&self) -> Duration {
        self.drafts.waited()
    }

    /// The samples that others were taken for until now, with the reasons.
    pub(crate) fn skipped(&self) -> Vec<(PathBuf, String)> {
        self.data.skipped()
    }

    /// `[B, …]` from its values.
    fn tensor(&self, values: &[f32]) -> Tensor {
        let mut shape = vec![-1];
        shape.extend(self.data.shape().iter().map(|&side| side as i64));
        host::upload(values, self.device).reshape(shape)
    }
}
