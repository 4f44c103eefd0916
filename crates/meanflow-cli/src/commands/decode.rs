//! Latents drawn and decoded, some at a time.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use meanflow_data::Pictures;
use meanflow_data::latents::Facts;
use meanflow_torch::Model;
use meanflow_torch::sampler::{Decoder, Solver};
use meanflow_train::latents::LatentDecoder;
use meanflow_train::{LATENTS_KEY, Samples};

use crate::output::note;

/// Samples that are drawn before they are decoded: whole evaluations of the network.
const BLOCK: usize = 64;

/// A VAE that makes pictures of what a model draws.
pub(crate) struct Decoding(LatentDecoder);

impl Decoding {
    /// Reads the VAE. What the weights of the model say of their latents counts, then what the VAE's own configuration says.
    pub(crate) fn new(
        path: &Path,
        model: &Model,
        metadata: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let facts = metadata.get(LATENTS_KEY).map(|json| {
            serde_json::from_str::<Facts>(json)
                .with_context(|| format!("unreadable \"{LATENTS_KEY}\" in the weights"))
        });
        let (facts, shape) = (facts.transpose()?, &model.config().shape);
        let decoder = LatentDecoder::open(path, model.device(), shape, facts.as_ref())?;
        if let Some(text) = decoder.note() {
            note(format_args!("note: {text}"));
        }
        Ok(Self(decoder))
    }

    /// The same for a graph of the sampler.
    pub(crate) fn for_trace(&self) -> Decoder<'_> {
        self.0.for_trace()
    }

    /// Draws and decodes all seeds, of which no more than one block is in memory, and gives the pictures and seeds of one block after the
    /// other to `keep`; what each took.
    pub(crate) fn run(
        &self,
        model: &Model,
        (seeds, labels): (&[u64], Option<&[i64]>),
        (grid, solver): (&[f64], Solver),
        mut keep: impl FnMut(&Pictures, &[u64]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<usize>> {
        let mut nfe = Vec::new();
        for start in (0..seeds.len()).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(seeds.len());
            let labels = labels.map(|labels| &labels[block.clone()]);
            let seeds = &seeds[block];
            let (pictures, took) = self.draw(model, (seeds, labels), (grid, solver))?;
            keep(&pictures, seeds)?;
            nfe.extend(took);
        }
        Ok(nfe)
    }

    /// `[channels, height, width]` of the pictures of a model's samples.
    pub(crate) fn shape(&self, model: &Model) -> [usize; 3] {
        self.0.picture_shape(&model.config().shape)
    }

    /// Draws and decodes a few seeds: their pictures, and the network evaluations of each.
    pub(crate) fn draw(
        &self,
        model: &Model,
        (seeds, labels): (&[u64], Option<&[i64]>),
        (grid, solver): (&[f64], Solver),
    ) -> anyhow::Result<(Pictures, Vec<usize>)> {
        let (samples, nfe) = Samples::draw_by(model, seeds, labels, grid, solver)?;
        Ok((self.0.decode(&samples)?, nfe))
    }
}
