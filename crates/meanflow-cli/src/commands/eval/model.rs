//! What is evaluated: a model that draws, or pictures drawn before.

use std::num::NonZeroUsize;

use meanflow_core::random::{Purpose, RngStream};
use meanflow_eval::{SampleBatch, pictures};
use meanflow_torch::sampler::Solver;
use meanflow_torch::{Device, Model, Tensor};
use meanflow_train::{Samples, TrainConfig, class_names_of, data_labels, recipe_of};

use super::identity::Identity;
use super::options::{Eval, Labels};
use crate::commands::decode::Decoding;
use crate::commands::located::located;
use crate::commands::opening::load_model;
use crate::commands::picture_data::{self, PictureData};
use crate::usage::Usage;

/// A model or pictures.
pub(super) enum ModelUnderTest {
    Model(Box<Generator>),
    Pictures(Identity, PictureData),
}

/// A model that draws.
pub(super) struct Generator {
    pub(super) model: Model,
    /// The recipe it was trained by, if its file says so.
    pub(super) recipe: Option<TrainConfig>,
    pub(super) class_names: Option<Vec<String>>,
    identity: Identity,
    /// What makes pictures of its latents.
    decoding: Option<Decoding>,
    /// Of one picture.
    shape: Vec<usize>,
}

impl ModelUnderTest {
    pub(super) fn open(args: &Eval, device: Device) -> anyhow::Result<Self> {
        let path = &located(&args.model, &args.reading)?;
        let weights = args.checkpoint.weights(path)?;
        let is_model = weights.extension().is_some_and(|end| end == "safetensors");
        if !(is_model && weights.is_file()) {
            return Ok(Self::Pictures(
                Identity::of_path(path)?,
                picture_data::open(path, None, &args.look)?,
            ));
        }
        let (model, metadata) = load_model(&weights, device, &args.reading)?;
        let decoding = args
            .vae
            .as_deref()
            .map(|vae| Decoding::new(vae, &model, &metadata));
        let decoding = decoding.transpose()?;
        let shape = shape(&model, decoding.as_ref())?;
        Ok(Self::Model(Box::new(Generator {
            model,
            recipe: recipe_of(&weights, &metadata)?,
            class_names: class_names_of(&metadata),
            identity: Identity::of_path(&weights)?,
            decoding,
            shape,
        })))
    }

    /// Name and hash.
    pub(super) fn identity(&self) -> &Identity {
        match self {
            Self::Model(generator) => &generator.identity,
            Self::Pictures(identity, _) => identity,
        }
    }

    /// `[C, H, W]` of its pictures.
    pub(super) fn shape(&self) -> anyhow::Result<[usize; 3]> {
        let shape = match self {
            Self::Model(generator) => &generator.shape[..],
            Self::Pictures(_, data) => data.source.shape(),
        };
        let known = <[usize; 3]>::try_from(shape).ok();
        let pictures = known.filter(|[channels, ..]| matches!(channels, 1 | 3));
        Ok(pictures.ok_or_else(|| {
            Usage(format!(
                "expected pictures of 1 or 3 channels, got samples of shape {shape:?}; --vae turns latents into pictures"
            ))
        })?)
    }

    /// How often samples are drawn anew, of so many times asked: pictures are there only once.
    pub(super) fn repeats(&self, asked: NonZeroUsize) -> u64 {
        match self {
            Self::Model(_) => asked.get() as u64,
            Self::Pictures(..) => 1,
        }
    }

    /// Classes that its samples can be asked to have.
    pub(super) fn classes(&self) -> u64 {
        match self {
            Self::Model(generator) => generator.model.config().classes as u64,
            Self::Pictures(_, data) => data.source.classes() as u64,
        }
    }

    /// The names of its classes, where they are known.
    pub(super) fn class_names(&self) -> Option<&[String]> {
        match self {
            Self::Model(generator) => generator.class_names.as_deref(),
            Self::Pictures(_, data) => data.class_names.as_deref(),
        }
    }

    /// The data that the model was trained on, as it is.
    pub(super) fn trained_on(&self) -> Option<&TrainConfig> {
        match self {
            Self::Model(generator) => generator.recipe.as_ref(),
            Self::Pictures(..) => None,
        }
    }
}

impl Generator {
    /// Whether its samples are latents, of which pictures are made.
    pub(super) fn has_latents(&self) -> bool {
        self.decoding.is_some()
    }

    /// The classes of seeds; none for a model without classes.
    pub(super) fn labels(&self, how: Labels, seeds: &[u64], data: &[i64]) -> Option<Vec<i64>> {
        let classes = self.model.config().classes as u64;
        if classes == 0 {
            return None;
        }
        let random = |&seed: &u64| RngStream::new(seed, Purpose::Labels, 0).below(classes) as i64;
        Some(match how {
            Labels::Data => data_labels(seeds, data),
            Labels::Balanced => seeds.iter().map(|seed| (seed % classes) as i64).collect(),
            Labels::Random => seeds.iter().map(random).collect(),
        })
    }

    /// Pictures of seeds.
    pub(super) fn draw(
        &self,
        seeds: &[u64],
        labels: Option<Vec<i64>>,
        (grid, solver): (&[f64], Solver),
    ) -> anyhow::Result<SampleBatch> {
        if let Some(decoding) = &self.decoding {
            return self.decoded(decoding, seeds, labels, (grid, solver));
        }
        let (samples, nfe) = Samples::draw_by(&self.model, seeds, labels.as_deref(), grid, solver)?;
        Ok(SampleBatch {
            pictures: pictures::to_bytes(&samples.values, &samples.shape),
            labels,
            nfe: nfe.iter().sum::<usize>() as u64,
        })
    }

    /// Pictures of the latents of seeds, some at a time.
    fn decoded(
        &self,
        decoding: &Decoding,
        seeds: &[u64],
        labels: Option<Vec<i64>>,
        how: (&[f64], Solver),
    ) -> anyhow::Result<SampleBatch> {
        let (mut pictures, mut nfe) = (Vec::new(), 0);
        for start in (0..seeds.len()).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(seeds.len());
            let labels = labels.as_deref().map(|labels| &labels[block.clone()]);
            let (decoded, took) = decoding.draw(&self.model, (&seeds[block], labels), how)?;
            let size = decoded.shape().map(|side| side as i64);
            let bytes = Tensor::from_slice(decoded.pixels()).reshape(size);
            pictures.push(bytes.permute([0, 3, 1, 2]));
            nfe += took.iter().sum::<usize>() as u64;
        }
        Ok(SampleBatch {
            pictures: Tensor::cat(&pictures, 0).contiguous(),
            labels,
            nfe,
        })
    }
}

/// Latents that are drawn before they are decoded: whole evaluations of the network.
const BLOCK: usize = 64;

/// The shape of a picture; of latents that of one that is drawn and decoded.
fn shape(model: &Model, decoding: Option<&Decoding>) -> anyhow::Result<Vec<usize>> {
    let Some(decoding) = decoding else {
        let shape = model.config().shape.iter();
        return Ok(shape.map(|&side| side as usize).collect());
    };
    let labels = (model.config().classes > 0).then_some(&[0][..]);
    let how = (&[1.0, 0.0][..], Solver::Jump);
    let (decoded, _) = decoding.draw(model, (&[0], labels), how)?;
    let [_, height, width, channels] = decoded.shape();
    Ok(vec![channels, height, width])
}
