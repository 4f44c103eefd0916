//! Samples drawn from a model, and the picture of them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use meanflow_core::random::{Purpose, RngStream};
use meanflow_data::caption::{captioned, columns_named};
use meanflow_data::density::{self, DensityStyle};
use meanflow_data::grid::{self, GridStyle};
use meanflow_data::{DataError, Picture, Pictures};
use meanflow_torch::sampler::{self, Drawn, Interpolation, Request, Solver, uniform_grid};
use meanflow_torch::{Device, LibtorchError, Model, Tensor, TorchError};
use tch::TchError;

use crate::TrainError;

/// Samples on the CPU, in model space.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// `[N, …shape]`, row-major.
    pub values: Vec<f32>,
    /// `[C, H, W]` of a picture, `[2]` of a point.
    pub shape: Vec<usize>,
}

impl Samples {
    /// One sample for each seed with `steps` network evaluations; `labels` as the sampler takes them.
    ///
    /// # Errors
    /// When the labels do not fit the model or the seeds.
    pub fn draw(
        model: &Model,
        seeds: &[u64],
        labels: Option<&[i64]>,
        steps: usize,
    ) -> Result<Self, TrainError> {
        let drawn = Self::draw_by(model, seeds, labels, &uniform_grid(steps), Solver::Jump)?;
        Ok(drawn.0)
    }

    /// One sample for each seed by any way over any grid, and how many evaluations each took.
    ///
    /// # Errors
    /// As [`sampler::sample_by`]; [`TrainError::SamplesNotFinite`] where a sample holds NaN or infinity.
    pub fn draw_by(
        model: &Model,
        seeds: &[u64],
        labels: Option<&[i64]>,
        grid: &[f64],
        solver: Solver,
    ) -> Result<(Self, Vec<usize>), TrainError> {
        let request = Request {
            seeds,
            labels,
            grid,
            batch_size: batch_size(model),
        };
        Self::of(model, sampler::sample_by(model, &request, solver)?)
    }

    /// As [`Samples::draw_by`], some seeds after the others; `progress` gets the number of samples drawn so far.
    ///
    /// # Errors
    /// As [`Samples::draw_by`].
    pub fn draw_watched(
        model: &Model,
        seeds: &[u64],
        labels: Option<&[i64]>,
        (grid, solver): (&[f64], Solver),
        mut progress: impl FnMut(usize),
    ) -> Result<(Self, Vec<usize>), TrainError> {
        let (mut all, mut nfe) = (Self::none(model), Vec::new());
        let block = batch_size(model);
        for start in (0..seeds.len()).step_by(block) {
            let range = start..(start + block).min(seeds.len());
            let labels = labels.and_then(|labels| labels.get(range.clone()));
            let (samples, took) = Self::draw_by(model, &seeds[range], labels, grid, solver)?;
            progress(samples.len());
            all.values.extend(samples.values);
            nfe.extend(took);
        }
        Ok((all, nfe))
    }

    /// No samples of the shape of a model's.
    fn none(model: &Model) -> Self {
        let shape = &model.config().shape;
        Self {
            values: Vec::new(),
            shape: shape.iter().map(|&side| side as usize).collect(),
        }
    }

    /// `count` samples of one class from the sample of one seed to that of another, and how many evaluations each took.
    ///
    /// # Errors
    /// As [`sampler::interpolate`].
    pub fn between(
        model: &Model,
        seeds: [u64; 2],
        count: usize,
        class: Option<i64>,
        (grid, solver): (&[f64], Solver),
    ) -> Result<(Self, Vec<usize>), TrainError> {
        let request = Interpolation {
            seeds,
            count,
            class,
            grid,
            batch_size: batch_size(model),
        };
        Self::of(model, sampler::interpolate(model, &request, solver)?)
    }

    fn of(model: &Model, drawn: Drawn) -> Result<(Self, Vec<usize>), TrainError> {
        let samples = Self::from_tensor(model, &drawn.samples)?;
        Ok((samples, drawn.nfe))
    }

    /// Samples of a model that were made by other means, `[N, …shape]`.
    ///
    /// # Errors
    /// [`TrainError::SamplesNotFinite`] where a sample holds NaN or infinity.
    pub fn from_tensor(model: &Model, samples: &Tensor) -> Result<Self, TrainError> {
        let values = to_vec(samples)?;
        let none = Self::none(model);
        let each = none.shape.iter().product::<usize>().max(1);
        let is_bad = |sample: &&[f32]| sample.iter().any(|value| !value.is_finite());
        let (bad, of) = (
            values.chunks(each).filter(is_bad).count(),
            values.len() / each,
        );
        if bad > 0 {
            return Err(TrainError::SamplesNotFinite { bad, of });
        }
        Ok(Self { values, ..none })
    }

    /// Rows of one evaluation of a model, into which samples that are asked for together are put.
    pub fn rows_an_evaluation(model: &Model) -> usize {
        batch_size(model)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.values.len() / self.shape.iter().product::<usize>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The samples as pictures, where their shape is that of pictures.
    ///
    /// # Errors
    /// When it is not `[1 or 3, H, W]`.
    pub fn pictures(&self) -> Result<Pictures, DataError> {
        let shape = self
            .shape
            .as_slice()
            .try_into()
            .map_err(|_| DataError::Shape {
                what: "samples",
                expected: "pictures [channels, height, width]".to_owned(),
                got: format!("{:?}", self.shape),
            })?;
        Pictures::from_model(&self.values, shape)
    }

    /// One picture of all samples: a grid with so many columns, or the density of points of the plane. Of a latent
    /// the channels are drawn, grey, one above the other.
    ///
    /// # Errors
    /// When the samples are neither pictures nor latents nor points of the plane.
    pub fn sheet(&self, columns: usize) -> Result<Picture, DataError> {
        let pictures = match *self.shape {
            [2] => return density::draw(&self.values, &PLANE),
            [channels, height, width] if !matches!(channels, 1 | 3) => Self {
                values: self.values.iter().map(|x| x / LATENT_RANGE).collect(),
                shape: vec![1, channels * height, width],
            }
            .pictures()?,
            _ => self.pictures()?,
        };
        let height = pictures.shape()[1];
        grid::sheet(&pictures, &GridStyle::legible(columns, height))
    }
}

/// The labels that go round through the classes: seed `s` has class `s mod classes`; none for a model without.
pub fn balanced(seeds: &[u64], classes: i64) -> Option<Vec<i64>> {
    let classes = u64::try_from(classes).ok().filter(|&classes| classes > 0)?;
    Some(seeds.iter().map(|seed| (seed % classes) as i64).collect())
}

/// The classes of seeds in the proportions of a data set, whose samples have these labels: seed `s` has label `s mod N` of an order whose
/// every beginning has nearly the proportions of the whole, however the data is sorted. As many seeds in a row as there are samples
/// have exactly its labels. Empty where there are none.
///
/// In that order, sample `j` of the `n` of a class has its place at `(j + u)/n` of the whole, `u` being uniform.
pub fn data_labels(seeds: &[u64], labels: &[i64]) -> Vec<i64> {
    let mut counts = BTreeMap::<i64, u64>::new();
    for &label in labels {
        *counts.entry(label).or_default() += 1;
    }
    let mut places = Vec::with_capacity(labels.len());
    for (&label, &count) in &counts {
        let mut stream = RngStream::new(0, Purpose::Labels, label.unsigned_abs());
        let place = |j| ((j as f64 + stream.uniform()) / count as f64, label);
        places.extend((0..count).map(place));
    }
    places.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let label = |seed: &u64| places[(seed % places.len() as u64) as usize].1;
    if places.is_empty() {
        return Vec::new();
    }
    seeds.iter().map(label).collect()
}

/// What stands on a picture of samples.
pub(crate) struct Captions<'a> {
    /// Network evaluations of each set of samples.
    pub(crate) nfe: &'a [NonZeroUsize],
    /// The class of each sample of a set; none without classes.
    pub(crate) labels: Option<&'a [i64]>,
    /// The names of the classes, where they have any.
    pub(crate) names: Option<&'a [String]>,
}

/// One picture of the sheets of several numbers of steps, each with its caption: grids from top to bottom, densities of the
/// plane from left to right.
pub(crate) fn comparison(
    sheets: Vec<Picture>,
    columns: usize,
    is_plane: bool,
    captions: &Captions<'_>,
) -> Result<Picture, DataError> {
    let classes = captions.of_columns(columns);
    let sheets = sheets
        .into_iter()
        .zip(captions.nfe)
        .map(|(mut sheet, nfe)| {
            if let Some(classes) = classes.as_ref().filter(|_| !is_plane) {
                sheet = columns_named(&sheet, classes)?;
            }
            let plural = if nfe.get() == 1 { "" } else { "s" };
            captioned(
                &sheet,
                &format!("{nfe} network evaluation{plural} a sample"),
            )
        });
    let sheets = sheets.collect::<Result<Vec<_>, _>>()?;
    if is_plane {
        return grid::beside(&sheets, SEPARATOR, 128);
    }
    grid::below(&sheets, SEPARATOR, 255)
}

/// Pixels between two sets of samples.
const SEPARATOR: usize = 6;

impl Captions<'_> {
    /// The class of every column, where all samples of a column have one.
    fn of_columns(&self, columns: usize) -> Option<Vec<String>> {
        let labels = self.labels?;
        let columns = columns.min(labels.len());
        let is_one = |(place, label): (usize, &i64)| *label == labels[place % columns];
        if !labels.iter().enumerate().all(is_one) {
            return None;
        }
        let name = |label: &i64| {
            let name = self.names.and_then(|names| names.get(*label as usize));
            name.cloned().unwrap_or_else(|| label.to_string())
        };
        Some(labels[..columns].iter().map(name).collect())
    }
}

/// The part of the plane that toy data lives in, each coordinate with mean 0 and variance 1; a density of 1/6 is
/// drawn at two thirds of the brightness.
const PLANE: DensityStyle = DensityStyle {
    low: -2.25,
    high: 2.25,
    bins: 90,
    scale: 4,
    ceiling: 0.25,
};

/// Latents have a variance of about 1: black is −3, white 3.
const LATENT_RANGE: f32 = 3.0;

/// Rows of one evaluation, the same for any number of samples: libtorch's last bits depend on it.
///
/// A single sample costs as much as all of these rows. On a CPU eight of latents are as fast a row as sixty-four, within a
/// tenth; of small pictures they are not, nor of anything on a CUDA device.
fn batch_size(model: &Model) -> usize {
    let shape = &model.config().shape;
    let large = shape.iter().product::<i64>() >= 1024;
    match shape.len() {
        1 => 1024,
        _ if matches!(model.device(), Device::Cuda(_)) => 256,
        _ if large => 8,
        _ => 64,
    }
}

/// The values of a tensor in f32.
pub(crate) fn to_vec(tensor: &Tensor) -> Result<Vec<f32>, TorchError> {
    let refused = |error: TchError| LibtorchError::call("copy to the host", error);
    Ok(Vec::<f32>::try_from(tensor.reshape([-1])).map_err(refused)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the labels are this one.
    fn count(labels: &[i64], class: i64) -> usize {
        labels.iter().filter(|&&label| label == class).count()
    }

    #[test]
    fn few_seeds_have_the_proportions_of_sorted_data() {
        // Ten classes one after the other, the last of which is four times as large as the others.
        let sorted: Vec<i64> = (0..1300).map(|sample| (sample / 100).min(9)).collect();
        let seeds: Vec<u64> = (0..1300).collect();
        for samples in [130, 260, 650] {
            let drawn = data_labels(&seeds[..samples], &sorted);
            for class in 0..10 {
                let expected = count(&sorted, class) * samples / 1300;
                // Each class is off by less than one sample at a given place of the order, and the place by less than the ten of all.
                let found = count(&drawn, class);
                assert!(
                    found.abs_diff(expected) <= 4,
                    "{class}: {found}, {expected}"
                );
            }
        }
        let mut all = data_labels(&seeds, &sorted);
        assert_ne!(all, sorted);
        all.sort_unstable();
        assert_eq!(all, sorted);
    }

    #[test]
    fn a_column_is_named_where_it_has_one_class() {
        let nfe = [NonZeroUsize::MIN];
        let names = ["cat".to_owned(), "dog".to_owned()];
        let captions = Captions {
            nfe: &nfe,
            labels: Some(&[0, 1, 0, 1, 0, 1]),
            names: Some(&names),
        };
        assert_eq!(captions.of_columns(2).unwrap(), ["cat", "dog"]);
        assert_eq!(captions.of_columns(3), None);
        let bare = Captions {
            names: None,
            ..captions
        };
        assert_eq!(bare.of_columns(5), None);
        assert_eq!(bare.of_columns(6).unwrap(), ["0", "1", "0", "1", "0", "1"]);
    }

    #[test]
    fn a_seed_has_its_label_whatever_the_others_are() {
        let labels = [0, 0, 0, 1, 1, 2];
        let all = data_labels(&[0, 1, 2, 3, 4, 5, 6], &labels);
        assert_eq!(data_labels(&[4], &labels), all[4..5]);
        assert_eq!(all[6], all[0]);
        assert!(data_labels(&[1], &[]).is_empty());
    }
}
