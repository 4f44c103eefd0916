//! What is evaluated: a model that draws, or pictures drawn before.

use std::num::NonZeroUsize;
use std::path::Path;

use meanflow_core::random::{Purpose, Stream};
use meanflow_data::Source;
use meanflow_torch::sampler::Solver;
use meanflow_torch::{Device, Model, Tensor};
use meanflow_train::{Samples, TrainConfig, recipe_of, weights_of};

use super::pictures;
use super::protocol::Identity;
use crate::args::Reading;
use crate::commands::load_model;
use crate::failure::Usage;

/// Which classes a model is asked for.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(super) enum Labels {
    /// Seed s has the class of sample s of the reference.
    Data,
    /// Seed s has class s modulo their number.
    Balanced,
    /// Uniform, from the seed.
    Random,
}

impl Labels {
    /// Its name in a protocol.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Data => "data: seed s has the class of sample s of the reference",
            Self::Balanced => "balanced: seed s has class s modulo their number",
            Self::Random => "random: uniform, from the seed",
        }
    }
}

/// A model or pictures.
pub(super) enum Subject {
    Model(Box<Drawer>),
    Pictures(Identity, Box<dyn Source>),
}

/// A model that draws.
pub(super) struct Drawer {
    pub(super) model: Model,
    /// The recipe it was trained by, if its file says so.
    pub(super) recipe: Option<TrainConfig>,
    identity: Identity,
}

impl Subject {
    pub(super) fn open(path: &Path, device: Device, reading: &Reading) -> anyhow::Result<Self> {
        let weights = weights_of(path);
        let is_model = weights.extension().is_some_and(|end| end == "safetensors");
        if !(is_model && weights.is_file()) {
            // Grey pictures stay grey.
            let channels = if is_grey(path) { 1 } else { 3 };
            let source = pictures::open(path, channels)?;
            return Ok(Self::Pictures(Identity::of_data(path)?, source));
        }
        let (model, metadata) = load_model(&weights, device, reading)?;
        Ok(Self::Model(Box::new(Drawer {
            model,
            recipe: recipe_of(&weights, &metadata)?,
            identity: super::identity(&weights)?,
        })))
    }

    /// Name and hash.
    pub(super) fn identity(&self) -> &Identity {
        match self {
            Self::Model(drawer) => &drawer.identity,
            Self::Pictures(identity, _) => identity,
        }
    }

    /// `[C, H, W]` of its pictures.
    pub(super) fn shape(&self) -> anyhow::Result<[usize; 3]> {
        let shape: Vec<usize> = match self {
            Self::Model(drawer) => drawer
                .model
                .config()
                .shape
                .iter()
                .map(|&n| n as usize)
                .collect(),
            Self::Pictures(_, source) => source.shape().to_vec(),
        };
        let known = <[usize; 3]>::try_from(&shape[..]).ok();
        let pictures = known.filter(|[channels, ..]| matches!(channels, 1 | 3));
        Ok(pictures.ok_or_else(|| {
            Usage(format!(
                "expected pictures of 1 or 3 channels, got samples of shape {shape:?}; for latents: \
                 `meanflow sample MODEL --vae VAE --out batch.npz`, then `meanflow eval batch.npz`"
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
            Self::Model(drawer) => drawer.model.config().classes as u64,
            Self::Pictures(_, source) => source.classes() as u64,
        }
    }

    /// The data that the model was trained on, as it is.
    pub(super) fn trained_on(&self) -> Option<&TrainConfig> {
        match self {
            Self::Model(drawer) => drawer.recipe.as_ref(),
            Self::Pictures(..) => None,
        }
    }
}

impl Drawer {
    /// The classes of seeds; none for a model without classes.
    pub(super) fn labels(
        &self,
        how: Labels,
        seeds: &[u64],
        data: &[i64],
    ) -> anyhow::Result<Option<Vec<i64>>> {
        let classes = self.model.config().classes;
        if classes == 0 {
            return Ok(None);
        }
        if how == Labels::Data && data.is_empty() {
            let text = "--labels data: the reference has no classes; balanced or random?";
            return Err(Usage(text.to_owned()).into());
        }
        let label = |&seed: &u64| match how {
            Labels::Data => data[(seed % data.len() as u64) as usize],
            Labels::Balanced => (seed % classes as u64) as i64,
            Labels::Random => Stream::new(seed, Purpose::Labels, 0).below(classes as u64) as i64,
        };
        Ok(Some(seeds.iter().map(label).collect()))
    }

    /// Pictures of seeds as bytes `[B, C, H, W]`, and the evaluations of each.
    pub(super) fn draw(
        &self,
        seeds: &[u64],
        labels: Option<&[i64]>,
        (grid, solver): (&[f64], Solver),
    ) -> anyhow::Result<(Tensor, Vec<usize>)> {
        let (samples, evaluations) = Samples::draw_by(&self.model, seeds, labels, grid, solver)?;
        Ok((
            pictures::bytes(&samples.values, &samples.shape),
            evaluations,
        ))
    }
}

/// Whether the first picture of a folder or archive of encoded pictures is grey.
fn is_grey(path: &Path) -> bool {
    use meanflow_data::{Collection, decode::Channels};
    let open = match path.extension().and_then(|end| end.to_str()) {
        Some("npz" | "toml") => return false,
        Some("zip") => Collection::open_zip(path),
        Some("tar") => Collection::open_tar(path),
        _ => Collection::open_folder(path),
    };
    let first = open.and_then(|pictures| pictures.decode(0, Channels::Color));
    first.is_ok_and(|picture| {
        picture
            .pixels()
            .chunks(3)
            .all(|p| p[0] == p[1] && p[1] == p[2])
    })
}
