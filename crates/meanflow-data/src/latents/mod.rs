//! Latents of a VAE, computed once and kept on the disk; read row by row, since those of ImageNet take 42 GB.
//!
//! A folder holds
//! - `moments.npy`, `[N, 2·C, H, W]`: mean, then logarithm of the variance, of the encoder's normal law; or, without
//!   it, `means.npy`, `[N, C, H, W]`: the means alone; `<f2` or `<f4`;
//! - `moments_flip.npy` (or `means_flip.npy`), if wanted: the same of the mirrored pictures;
//! - `labels.npy`, `[N]`, of any integer type, unless there are no classes;
//! - `latents.toml`: what the numbers are, [`Facts`];
//!
//! or all of it is one file, `latents.safetensors`, or of another name when it is opened itself: tensors `moments` or `means`,
//! `moments_flip` or `means_flip`, `labels`; `vae` and `scale` in its metadata.
//!
//! A draw samples the law anew, `(mean + std · noise − shift) · scale`, as the official implementation does at every step.

mod tensors;

use std::path::Path;

use meanflow_core::random::{Purpose, RngStream};
use serde::{Deserialize, Serialize};

use crate::collection::classes_of;
use crate::file::{open_regular, read_text};
use crate::fingerprint::Fingerprint;
use crate::npy;
use crate::npy_header::{self, bytes_of};
use crate::rows::ArrayRows;
use crate::{DataError, Dataset, DatasetInfo, Examples, write_bytes};

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
/// All of it in one file.
const TENSORS: &str = "latents.safetensors";
/// Scales that latents of variance about 1 can need: beyond them their numbers are something else.
const SCALES: std::ops::RangeInclusive<f64> = 1e-6..=1e6;
/// Most classes where nobody says how many: larger labels are something else.
const MOST_CLASSES: usize = 1_000_000;
/// Most samples whose numbers go into a fingerprint.
const SOME: usize = 256;

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

/// The arrays of latents by their names, with what is said of them.
trait Arrays {
    fn facts(&self) -> Result<Facts, DataError>;

    fn has(&self, name: &str) -> bool;

    /// The rows of an array of floating-point numbers.
    fn rows(&self, name: &str) -> Result<ArrayRows, DataError>;

    /// `labels`, `[count]` of any integer type, each in `0..classes` where it is known how many there are.
    fn labels(&self, count: usize, classes: Option<usize>) -> Result<Vec<i64>, DataError>;
}

/// A folder with a file for each array.
impl Arrays for Path {
    fn facts(&self) -> Result<Facts, DataError> {
        read_facts(&self.join(FACTS))
    }

    fn has(&self, name: &str) -> bool {
        self.join(format!("{name}.npy")).is_file()
    }

    fn rows(&self, name: &str) -> Result<ArrayRows, DataError> {
        ArrayRows::open(&self.join(format!("{name}.npy")))
    }

    fn labels(&self, count: usize, classes: Option<usize>) -> Result<Vec<i64>, DataError> {
        read_labels(&self.join(LABELS), count, classes)
    }
}

/// An open folder of latents.
#[derive(Debug)]
pub struct Latents {
    /// The pictures as they are, and, if asked for, mirrored.
    files: Vec<ArrayRows>,
    /// Whether a row holds logarithms of variances behind the means.
    has_variances: bool,
    info: DatasetInfo,
    facts: Facts,
}

impl Latents {
    /// Opens a folder or a safetensors file of latents in so many classes; with `flip` every row of a draw is mirrored or not, with even odds. The labels are read, all
    /// else stays on the disk.
    ///
    /// # Errors
    /// [`DataError::Io`] with the file that is missing; [`DataError::Field`] for arrays of other shapes or elements
    /// than described above, for a label outside `0..classes` and for unusable facts; [`DataError::Length`] for a file
    /// whose length is not what its header says.
    pub fn open(folder: &Path, classes: usize, flip: bool) -> Result<Self, DataError> {
        Self::open_with(folder, Some(classes), flip)
    }

    /// As [`Latents::open`] without flips, of whatever classes the labels say: the largest plus one, or none without labels.
    ///
    /// # Errors
    /// As [`Latents::open`].
    pub fn open_as_found(folder: &Path) -> Result<Self, DataError> {
        Self::open_with(folder, None, false)
    }

    fn open_with(folder: &Path, classes: Option<usize>, flip: bool) -> Result<Self, DataError> {
        let tensors = folder.join(TENSORS);
        if !folder.is_dir() {
            return Self::of(&Tensors::open(folder)?, classes, flip);
        }
        if tensors.exists() {
            return Self::of(&Tensors::open(&tensors)?, classes, flip);
        }
        Self::of(folder, classes, flip)
    }

    fn of(
        arrays: &(impl Arrays + ?Sized),
        classes: Option<usize>,
        flip: bool,
    ) -> Result<Self, DataError> {
        let facts = arrays.facts()?;
        let has_variances = arrays.has("moments");
        let name = if has_variances { "moments" } else { "means" };
        let first = arrays.rows(name)?;
        let has_labels = classes.map_or_else(|| arrays.has("labels"), |classes| classes > 0);
        let labels = if has_labels {
            arrays.labels(first.count(), classes)?
        } else {
            Vec::new()
        };
        let shape = shape_of(&first, has_variances)?;
        let mut files = vec![first];
        if flip {
            let second = arrays.rows(&format!("{name}_flip"))?;
            refuse_difference(&files[0], &second)?;
            files.push(second);
        }
        let info = DatasetInfo {
            shape: shape.to_vec(),
            len: files[0].count(),
            classes: classes.unwrap_or_else(|| classes_of(&labels)),
            labels,
            class_names: None,
            latents: Some(facts.clone()),
        };
        Ok(Self {
            files,
            has_variances,
            info,
            facts,
        })
    }

    /// What the numbers are.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// A sample of the law of a row of a file; `values` holds the noise and is replaced.
    fn read(&self, file: &ArrayRows, index: usize, values: &mut [f32]) -> Result<(), DataError> {
        assert!(index < self.len(), "sample {index} of {}", self.len());
        self.sample(&file.row(index)?, values);
        let Some(value) = values.iter().find(|value| !value.is_finite()) else {
            return Ok(());
        };
        let expected = "a finite number once it is scaled";
        DataError::refuse(file.path(), 0, "latent", expected, value)
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

impl Dataset for Latents {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn fingerprint(&self) -> Result<String, DataError> {
        let mut hash = Fingerprint::new("latents");
        hash.sizes(self.shape());
        hash.sizes(&[self.len(), self.classes(), self.files.len()]);
        hash.text(&self.facts.vae);
        hash.numbers(&[self.facts.scale, self.facts.shift].map(f64::to_bits));
        hash.labels(self.labels());
        for index in (0..self.len()).step_by(self.len().div_ceil(SOME)) {
            for file in &self.files {
                hash.values(&file.row(index)?);
            }
        }
        Ok(hash.finish())
    }

    fn batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<Examples, DataError> {
        let rows: Vec<usize> = (0..indices.len()).collect();
        self.batch_rows(indices, &rows, seed, step)
    }

    fn batch_rows(
        &self,
        indices: &[usize],
        rows: &[usize],
        seed: u64,
        step: u64,
    ) -> Result<Examples, DataError> {
        let mut stream = RngStream::new(seed, Purpose::Posterior, step);
        let files: Vec<&ArrayRows> = indices
            .iter()
            .map(|_| &self.files[stream.below(self.files.len() as u64) as usize])
            .collect();
        let size = self.shape().iter().product::<usize>();
        let mut values = vec![0.0; rows.len() * size];
        for (values, &row) in values.chunks_exact_mut(size).zip(rows) {
            if self.has_variances {
                stream.normals_from((row * size) as u64, values);
            }
            self.read(files[row], indices[row], values)?;
        }
        let labels = if self.classes() == 0 { &[] } else { rows };
        let label = |&row: &usize| self.labels()[indices[row]];
        Ok(Examples {
            values,
            labels: labels.iter().map(label).collect(),
            augment: None,
        })
    }
}

/// `[C, H, W]` of the latents in a file.
fn shape_of(rows: &ArrayRows, has_variances: bool) -> Result<[usize; 3], DataError> {
    let parts = if has_variances { 2 } else { 1 };
    match *rows.shape() {
        [channels, height, width] if channels.is_multiple_of(parts) => {
            Ok([channels / parts, height, width])
        }
        ref other => {
            let channels = if has_variances {
                "2·channels"
            } else {
                "channels"
            };
            let expected = format!("[{channels}, height, width] a row");
            DataError::refuse(rows.path(), 0, "shape", expected, format!("{other:?}"))
        }
    }
}

/// Refuses latents of the mirrored pictures that have not the shape of the others.
fn refuse_difference(plain: &ArrayRows, rows: &ArrayRows) -> Result<(), DataError> {
    let described = |rows: &ArrayRows| format!("{} rows of shape {:?}", rows.count(), rows.shape());
    let (expected, got) = (described(plain), described(rows));
    if expected == got {
        return Ok(());
    }
    DataError::refuse(rows.path(), 0, "shape", expected, got)
}

/// Whether there are latents in a folder.
pub(crate) fn is_there(folder: &Path) -> bool {
    [FACTS, TENSORS]
        .iter()
        .any(|name| folder.join(name).is_file())
}

fn read_labels(path: &Path, count: usize, classes: Option<usize>) -> Result<Vec<i64>, DataError> {
    let array = npy::read(path, 8 * count as u64)?;
    let Some(labels) = array.labels() else {
        let (field, expected, got) = ("element type", "integers", "floating-point numbers");
        return DataError::refuse(path, 0, field, expected, got);
    };
    if array.shape != [count] {
        let (expected, got) = (format!("[{count}]"), format!("{:?}", array.shape));
        return DataError::refuse(path, 0, "shape", expected, got);
    }
    let Some((place, end)) = unknown(&labels, classes) else {
        return Ok(labels);
    };
    let header = npy_header::read(&mut open_regular(path)?.0, path)?;
    let offset = header.length + place as u64 * bytes_of(header.dtype);
    DataError::refuse(path, offset, "label", format!("0..{end}"), labels[place])
}

/// Where a label stands that is not in `0..classes`, or, of unknown classes, is more than a class; and the end of that range.
fn unknown(labels: &[i64], classes: Option<usize>) -> Option<(usize, usize)> {
    let end = classes.unwrap_or(MOST_CLASSES);
    let known = |label: i64| usize::try_from(label).is_ok_and(|label| label < end);
    let place = labels.iter().position(|&label| !known(label))?;
    Some((place, end))
}

fn read_facts(path: &Path) -> Result<Facts, DataError> {
    let text = read_text(path, MAX_FACTS)?;
    let refused = |error: &toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start) as u64;
        let expected = "vae = \"name\" and scale = number";
        DataError::field(path, offset, "text", expected, error.message())
    };
    let facts: Facts = toml::from_str(&text).map_err(|error| refused(&error))?;
    let place = text.find("scale").unwrap_or(0) as u64;
    refuse_facts(path, place, &facts)?;
    Ok(facts)
}

/// Refuses a scale or shift that no latents have.
fn refuse_facts(path: &Path, place: u64, facts: &Facts) -> Result<(), DataError> {
    if SCALES.contains(&facts.scale) && facts.shift.abs() <= *SCALES.end() {
        return Ok(());
    }
    let expected = "a number from 1e-6 to 1e6, and a shift of at most 1e6";
    let got = format!("{:e} and {:e}", facts.scale, facts.shift);
    DataError::refuse(path, place, "scale", expected, got)
}
