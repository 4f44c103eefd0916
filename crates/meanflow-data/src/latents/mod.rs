//! Latents of a VAE, computed once and kept on the disk; read row by row, since those of ImageNet take 42 GB.
//!
//! A folder holds
//! - `moments.npy`, `[N, 2·C, H, W]`: mean, then logarithm of the variance, of the encoder's normal law; or, without
//!   it, `means.npy`, `[N, C, H, W]`: the means alone; `<f2` or `<f4`;
//! - `moments_flip.npy` (or `means_flip.npy`), if wanted: the same of the mirrored pictures;
//! - `labels.npy`, `[N]`, `<i8`, unless there are no classes;
//! - `latents.toml`: what the numbers are, [`Facts`];
//!
//! or all of it is one file, `latents.safetensors`, or of another name when it is opened itself: tensors `moments` or `means`,
//! `moments_flip` or `means_flip`, `labels`; `vae` and `scale` in its metadata.
//!
//! A draw samples the law anew, `(mean + std · noise − shift) · scale`, as the official implementation does at every step.

mod tensors;

use std::fs;
use std::path::{Path, PathBuf};

use meanflow_core::random::{Purpose, Stream};
use serde::{Deserialize, Serialize};

use crate::npy::{self, NpyData};
use crate::rows::Rows;
use crate::{DataError, Examples, Source, write_bytes};

use tensors::Tensors;

/// Smallest and largest logarithm of a variance; outside them the encoder's output is cut off, as in diffusers'
/// `DiagonalGaussianDistribution`.
const LOG_VARIANCES: (f32, f32) = (-30.0, 20.0);

/// Longest `latents.toml` that is read.
const MAX_FACTS: u64 = 1 << 16;

/// Means and logarithms of variances.
pub const MOMENTS: &str = "moments.npy";
/// The same of the mirrored pictures.
pub const MOMENTS_FLIP: &str = "moments_flip.npy";
/// The classes.
pub const LABELS: &str = "labels.npy";
/// What the numbers are.
const FACTS: &str = "latents.toml";

/// `latents.toml`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Which VAE made the latents and turns them back into pictures, such as `sd-vae-ft-mse`.
    pub vae: String,
    /// What the latents are multiplied by to have a variance of about 1, such as 0.18215.
    pub scale: f64,
    /// What is subtracted before; 0 where the file does not say, as for every VAE of Stable Diffusion 1 and 2.
    #[serde(default)]
    pub shift: f64,
    /// SHA-256 of the VAE's weights file, in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae_sha256: Option<String>,
}

/// Writes `latents.toml` into a folder, whole or not at all.
///
/// # Errors
/// [`DataError::Io`].
pub fn write_facts(folder: &Path, facts: &Facts) -> Result<(), DataError> {
    let text = toml::to_string(facts).expect("facts are representable in TOML");
    write_bytes(&folder.join(FACTS), text.as_bytes())
}

/// An open folder of latents.
#[derive(Debug)]
pub struct Latents {
    /// The pictures as they are, and, if asked for, mirrored.
    files: Vec<Rows>,
    /// Whether a row holds logarithms of variances behind the means.
    has_variances: bool,
    shape: [usize; 3],
    classes: usize,
    labels: Vec<i64>,
    facts: Facts,
}

impl Latents {
    /// Opens a folder or a safetensors file; with `flip` every row of a draw is mirrored or not, with even odds. The labels are read, all
    /// else stays on the disk.
    ///
    /// # Errors
    /// [`DataError::Io`] with the file that is missing; [`DataError::Field`] for arrays of other shapes or elements
    /// than described above, for a label outside `0..classes` and for unusable facts; [`DataError::Length`] for a file
    /// whose length is not what its header says.
    pub fn open(folder: &Path, classes: usize, flip: bool) -> Result<Self, DataError> {
        let tensors = folder.join("latents.safetensors");
        if folder.is_file() {
            return Self::open_tensors(folder, classes, flip);
        }
        if tensors.is_file() {
            return Self::open_tensors(&tensors, classes, flip);
        }
        Self::open_arrays(folder, classes, flip)
    }

    /// Opens the arrays in a folder.
    fn open_arrays(folder: &Path, classes: usize, flip: bool) -> Result<Self, DataError> {
        let facts = read_facts(&folder.join(FACTS))?;
        let moments = folder.join(MOMENTS);
        let has_variances = moments.is_file();
        let path = if has_variances {
            moments
        } else {
            folder.join("means.npy")
        };
        let first = Rows::open(&path)?;
        let labels = if classes == 0 {
            Vec::new()
        } else {
            read_labels(&folder.join(LABELS), first.count(), classes)?
        };
        let second = flip.then(|| Rows::open(&mirrored(&path))).transpose()?;
        Self::new((first, second), has_variances, (classes, labels), facts)
    }

    /// Opens the tensors of a safetensors file.
    fn open_tensors(path: &Path, classes: usize, flip: bool) -> Result<Self, DataError> {
        let file = Tensors::open(path)?;
        let facts = file.facts()?;
        let has_variances = file.has("moments");
        let name = if has_variances { "moments" } else { "means" };
        let first = file.rows(name)?;
        let labels = if classes == 0 {
            Vec::new()
        } else {
            file.labels(first.count(), classes)?
        };
        let second = flip
            .then(|| file.rows(&format!("{name}_flip")))
            .transpose()?;
        Self::new((first, second), has_variances, (classes, labels), facts)
    }

    fn new(
        (first, second): (Rows, Option<Rows>),
        has_variances: bool,
        (classes, labels): (usize, Vec<i64>),
        facts: Facts,
    ) -> Result<Self, DataError> {
        let shape = shape_of(&first, has_variances)?;
        let mut files = vec![first];
        if let Some(second) = second {
            refuse_difference(&files[0], &second)?;
            files.push(second);
        }
        Ok(Self {
            files,
            has_variances,
            shape,
            classes,
            labels,
            facts,
        })
    }

    /// What the numbers are.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// One sample of the law of a row, scaled; `values` holds the noise and is replaced.
    fn sample(&self, row: &[f32], values: &mut [f32]) {
        let (scale, shift) = (self.facts.scale as f32, self.facts.shift as f32);
        let (means, log_variances) = row.split_at(values.len());
        if !self.has_variances {
            for (value, mean) in values.iter_mut().zip(means) {
                *value = (mean - shift) * scale;
            }
            return;
        }
        for ((value, mean), log_variance) in values.iter_mut().zip(means).zip(log_variances) {
            let (low, high) = LOG_VARIANCES;
            let std = libm::expf(0.5 * log_variance.clamp(low, high));
            *value = (mean + std * *value - shift) * scale;
        }
    }
}

impl Source for Latents {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn labels(&self) -> &[i64] {
        &self.labels
    }

    fn len(&self) -> usize {
        self.files[0].count()
    }

    fn latents(&self) -> Option<&Facts> {
        Some(&self.facts)
    }

    fn draw(&self, indices: &[usize], seed: u64, step: u64) -> Result<Examples, DataError> {
        let mut stream = Stream::new(seed, Purpose::Augment, step);
        let files: Vec<&Rows> = indices
            .iter()
            .map(|_| &self.files[stream.below(self.files.len() as u64) as usize])
            .collect();
        let size = self.shape.iter().product::<usize>();
        let mut values = vec![0.0; indices.len() * size];
        if self.has_variances {
            stream.fill_normal(&mut values);
        }
        for ((values, file), &index) in values.chunks_exact_mut(size).zip(files).zip(indices) {
            assert!(index < self.len(), "sample {index} of {}", self.len());
            self.sample(&file.row(index)?, values);
        }
        let labels = if self.classes == 0 { &[] } else { indices };
        Ok(Examples {
            values,
            labels: labels.iter().map(|&index| self.labels[index]).collect(),
            augment: None,
        })
    }
}

/// `[C, H, W]` of the latents in a file.
fn shape_of(rows: &Rows, has_variances: bool) -> Result<[usize; 3], DataError> {
    let parts = if has_variances { 2 } else { 1 };
    match *rows.shape() {
        [channels, height, width] if channels.is_multiple_of(parts) => {
            Ok([channels / parts, height, width])
        }
        ref other => {
            let expected = if has_variances {
                "[2·channels, height, width] a row"
            } else {
                "[channels, height, width] a row"
            };
            let got = format!("{other:?}");
            Err(DataError::field(rows.path(), 0, "shape", expected, got))
        }
    }
}

/// `moments_flip.npy` for `moments.npy`.
fn mirrored(path: &Path) -> PathBuf {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}_flip.npy"))
}

/// Refuses latents of the mirrored pictures that have not the shape of the others.
fn refuse_difference(plain: &Rows, rows: &Rows) -> Result<(), DataError> {
    let described = |rows: &Rows| format!("{} rows of shape {:?}", rows.count(), rows.shape());
    let (expected, got) = (described(plain), described(rows));
    if expected == got {
        return Ok(());
    }
    Err(DataError::field(rows.path(), 0, "shape", expected, got))
}

fn read_labels(path: &Path, count: usize, classes: usize) -> Result<Vec<i64>, DataError> {
    let array = npy::read(path, 8 * count as u64)?;
    let NpyData::I64(labels) = array.data else {
        let (field, expected, got) = ("element type", "'<i8'", "another");
        return Err(DataError::field(path, 0, field, expected, got));
    };
    if array.shape != [count] {
        let (expected, got) = (format!("[{count}]"), format!("{:?}", array.shape));
        return Err(DataError::field(path, 0, "shape", expected, got));
    }
    let Some(place) = unknown(&labels, classes) else {
        return Ok(labels);
    };
    let size = fs::metadata(path).map_err(DataError::io(path))?.len();
    let offset = size.saturating_sub(8 * (count - place) as u64);
    let (expected, got) = (format!("0..{classes}"), labels[place]);
    Err(DataError::field(path, offset, "label", expected, got))
}

/// Where a label stands that is not in `0..classes`.
fn unknown(labels: &[i64], classes: usize) -> Option<usize> {
    let known = |label: i64| usize::try_from(label).is_ok_and(|label| label < classes);
    labels.iter().position(|&label| !known(label))
}

fn read_facts(path: &Path) -> Result<Facts, DataError> {
    let size = fs::metadata(path).map_err(DataError::io(path))?.len();
    if size > MAX_FACTS {
        return Err(DataError::Limit {
            file: path.to_owned(),
            what: "file size in bytes",
            limit: MAX_FACTS,
            got: size.into(),
        });
    }
    let text = fs::read_to_string(path).map_err(DataError::io(path))?;
    let refused = |error: &toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start) as u64;
        let expected = "vae = \"name\" and scale = number";
        DataError::field(path, offset, "text", expected, error.message())
    };
    let facts: Facts = toml::from_str(&text).map_err(|error| refused(&error))?;
    if facts.scale.is_finite() && facts.scale > 0.0 && facts.shift.is_finite() {
        return Ok(facts);
    }
    let place = text.find("scale").unwrap_or(0) as u64;
    let expected = "a number above 0, and a finite shift";
    let got = format!("{} and {}", facts.scale, facts.shift);
    Err(DataError::field(path, place, "scale", expected, got))
}
