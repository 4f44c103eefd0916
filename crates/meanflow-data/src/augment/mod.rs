//! Augmentation of pictures that the network is told of: that of EDM, as MeanFlow's CIFAR-10 recipe uses it.
//!
//! Karras, Aittala, Aila and Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", 2022,
//! appendix F.2 (table 6). Of its transformations the recipe keeps four: mirror, scale, stretch and shift; there is no
//! flip upside down and no rotation.

mod draw;
mod resample;

use std::path::PathBuf;

use meanflow_core::random::{Purpose, RngStream};
use rayon::prelude::*;

pub use draw::{Augmentation, LABELS};
pub use resample::{Affine, resample};

use crate::{DataError, Dataset, DatasetInfo, Examples};

/// Whether a picture is mirrored, of which the network is not told, and how it is augmented.
type Plan = (bool, Option<Augmentation>);

/// Pictures of a source that are never twice the same.
#[derive(Debug)]
pub struct Augmented {
    data: Box<dyn Dataset>,
    shape: [usize; 3],
    flip: bool,
    probability: Option<f64>,
}

impl Augmented {
    /// Augments the pictures of `data`.
    ///
    /// With `flip` every picture is first mirrored with even odds, and the network is not told. With `probability`
    /// every picture then goes through an [`Augmentation`] drawn with it, and the network is told.
    ///
    /// # Errors
    /// [`DataError::Shape`] when the samples are not `[C, H, W]`, or the probability is outside [0, 1].
    pub fn new(
        data: impl Dataset + 'static,
        flip: bool,
        probability: Option<f64>,
    ) -> Result<Self, DataError> {
        let shape = <[usize; 3]>::try_from(data.shape()).map_err(|_| {
            let got = format!("{:?}", data.shape());
            DataError::shape("samples to augment", "[channels, height, width]", got)
        })?;
        if let Some(probability) = probability.filter(|p| !(0.0..=1.0).contains(p)) {
            let what = "probability of an augmentation";
            return DataError::misfit(what, "a number in [0, 1]", probability);
        }
        Ok(Self {
            data: Box::new(data),
            shape,
            flip,
            probability,
        })
    }

    /// Whether each of `rows` pictures of a batch is mirrored untold, and how it is augmented.
    fn plan(&self, rows: usize, seed: u64, step: u64) -> Vec<Plan> {
        let mut stream = RngStream::new(seed, Purpose::Augment, step);
        let mut row = || {
            let flip = self.flip && stream.uniform() < 0.5;
            let augmentation = self.probability.map(|p| Augmentation::draw(p, &mut stream));
            (flip, augmentation)
        };
        (0..rows).map(|_| row()).collect()
    }

    /// All pictures, each as planned. All that is random is drawn: the number of threads changes no picture.
    fn augment(&self, mut examples: Examples, plan: &[Plan]) -> Examples {
        examples.augment = self.probability.map(|_| {
            let told = plan.iter().filter_map(|(_, augmentation)| *augmentation);
            told.flat_map(Augmentation::labels).collect()
        });
        let size = self.shape.iter().product::<usize>();
        let pictures = examples.values.par_chunks_exact_mut(size).zip(plan);
        pictures.for_each(|(picture, &step)| self.apply(step, picture));
        examples
    }

    /// One picture, in its place.
    fn apply(&self, (flip, augmentation): Plan, picture: &mut [f32]) {
        if flip {
            mirror(picture, self.shape[2]);
        }
        if let Some(augmentation) = augmentation {
            augmentation.apply(picture, self.shape);
        }
    }
}

impl Dataset for Augmented {
    fn info(&self) -> &DatasetInfo {
        self.data.info()
    }

    fn fingerprint(&self) -> Result<String, DataError> {
        self.data.fingerprint()
    }

    fn remarks(&self) -> Vec<String> {
        self.data.remarks()
    }

    fn batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<Examples, DataError> {
        let plan = self.plan(indices.len(), seed, step);
        Ok(self.augment(self.data.batch(indices, seed, step)?, &plan))
    }

    fn batch_rows(
        &self,
        indices: &[usize],
        rows: &[usize],
        seed: u64,
        step: u64,
    ) -> Result<Examples, DataError> {
        let plan = self.plan(indices.len(), seed, step);
        let plan: Vec<Plan> = rows.iter().map(|&row| plan[row]).collect();
        let examples = self.data.batch_rows(indices, rows, seed, step)?;
        Ok(self.augment(examples, &plan))
    }

    fn skipped(&self) -> Vec<(PathBuf, String)> {
        self.data.skipped()
    }
}

/// Left becomes right, in rows of `width` pixels.
fn mirror(picture: &mut [f32], width: usize) {
    picture.chunks_exact_mut(width).for_each(<[f32]>::reverse);
}
