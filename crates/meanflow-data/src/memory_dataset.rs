//! Samples in memory, handed out in model space.
//!
//! Legend: `N` samples, `C` channels, `H` height, `W` width.

use crate::fingerprint::Fingerprint;
use crate::picture::Pictures;
use crate::{DataError, DatasetInfo};

/// A data set in memory: pictures as bytes, or vectors as they are.
#[derive(Clone, Debug)]
pub struct MemoryDataset {
    info: DatasetInfo,
    values: Values,
}

/// How the samples are stored; a picture takes a quarter of what its `f32` values would.
#[derive(Clone, Debug)]
enum Values {
    /// Pictures, `[N, C, H, W]`.
    Bytes(Vec<u8>),
    /// Anything that is in model space already, `[N, …shape]`.
    Floats(Vec<f32>),
}

/// Some samples of a data set, in the order asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// `[N, …shape]`, row-major, in model space: pictures in [−1, 1].
    pub values: Vec<f32>,
    /// One label a sample, each in `0..classes`; empty when the data set has no classes.
    pub labels: Vec<i64>,
    /// The augmentation as the condition of the network, `[N, `[`LABELS`](crate::augment::LABELS)`]`; none: nothing.
    pub augment: Option<Vec<f32>>,
}

impl Examples {
    /// Some rows of `count` examples, in this order.
    fn rows_of<T: Copy>(values: &[T], rows: &[usize], count: usize) -> Vec<T> {
        let size = values.len() / count.max(1);
        let row = |row: &usize| values[row * size..(row + 1) * size].iter().copied();
        rows.iter().flat_map(row).collect()
    }

    /// These rows of `count` examples, in this order.
    pub(crate) fn rows(&self, rows: &[usize], count: usize) -> Self {
        let augment = self.augment.as_ref();
        Self {
            values: Self::rows_of(&self.values, rows, count),
            labels: Self::rows_of(&self.labels, rows, count),
            augment: augment.map(|numbers| Self::rows_of(numbers, rows, count)),
        }
    }
}

impl MemoryDataset {
    /// Pictures from bytes.
    ///
    /// # Shapes
    /// `bytes` is `[N, C, H, W]` with `shape = [C, H, W]`; `labels` is `[N]`, or empty with `classes = 0`.
    ///
    /// # Errors
    /// [`DataError::Shape`] when there is no sample, when the lengths do not fit or when a label is outside `0..classes`.
    pub fn from_pictures(
        bytes: Vec<u8>,
        shape: [usize; 3],
        labels: Vec<i64>,
        classes: usize,
    ) -> Result<Self, DataError> {
        Self::new(Values::Bytes(bytes), shape.to_vec(), labels, classes)
    }

    /// Samples that are in model space already, such as 2-D points.
    ///
    /// # Shapes
    /// `values` is `[N, …shape]`; `labels` is `[N]`, or empty with `classes = 0`.
    ///
    /// # Errors
    /// As [`MemoryDataset::from_pictures`], and for a value that is not finite.
    pub fn from_values(
        values: Vec<f32>,
        shape: Vec<usize>,
        labels: Vec<i64>,
        classes: usize,
    ) -> Result<Self, DataError> {
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return DataError::misfit("values", "finite numbers", value);
        }
        Self::new(Values::Floats(values), shape, labels, classes)
    }

    fn new(
        values: Values,
        shape: Vec<usize>,
        labels: Vec<i64>,
        classes: usize,
    ) -> Result<Self, DataError> {
        let stored = values.len();
        let size = shape
            .iter()
            .try_fold(1_usize, |size, &side| size.checked_mul(side));
        let Some(size) = size.filter(|&size| size > 0 && stored > 0 && stored.is_multiple_of(size))
        else {
            let expected = format!("one or more samples of shape {shape:?}");
            return DataError::misfit("values", expected, stored);
        };
        let expected = if classes == 0 { 0 } else { stored / size };
        if labels.len() != expected {
            return DataError::misfit("number of labels", expected, labels.len());
        }
        let known = |label: i64| usize::try_from(label).is_ok_and(|label| label < classes);
        if let Some(label) = labels.iter().find(|&&label| !known(label)) {
            return DataError::misfit("label", format!("0..{classes}"), label);
        }
        let info = DatasetInfo {
            shape,
            len: stored / size,
            classes,
            labels,
            class_names: None,
            latents: None,
        };
        Ok(Self { info, values })
    }

    /// The same samples with names for their classes, if there are any.
    ///
    /// # Errors
    /// [`DataError::Shape`] unless there is one name a class.
    pub fn with_class_names(mut self, names: Option<Vec<String>>) -> Result<Self, DataError> {
        let (expected, got) = (self.info.classes, names.as_ref().map(Vec::len));
        if let Some(got) = got.filter(|got| *got != expected) {
            return DataError::misfit("number of class names", expected, got);
        }
        self.info.class_names = names;
        Ok(self)
    }

    /// A hash of everything in it.
    pub fn fingerprint(&self) -> String {
        let mut hash = Fingerprint::new("samples");
        hash.sizes(&self.info.shape);
        hash.names(self.info.class_names.as_deref());
        hash.labels(&self.info.labels);
        match &self.values {
            Values::Bytes(bytes) => hash.bytes(bytes),
            Values::Floats(floats) => hash.values(floats),
        }
        hash.finish()
    }

    /// What is known of it without drawing.
    pub fn info(&self) -> &DatasetInfo {
        &self.info
    }

    /// The samples `indices` in that order, repetitions included.
    ///
    /// # Panics
    /// When an index is not below [`DatasetInfo::len`], as slices do.
    pub fn examples(&self, indices: &[usize]) -> Examples {
        let size = self.info.shape.iter().product::<usize>();
        let mut values = Vec::with_capacity(indices.len() * size);
        for row in indices.iter().map(|index| index * size..(index + 1) * size) {
            match &self.values {
                Values::Bytes(bytes) => values.extend(bytes[row].iter().copied().map(from_byte)),
                Values::Floats(floats) => values.extend_from_slice(&floats[row]),
            }
        }
        let labels = if self.info.classes == 0 { &[] } else { indices };
        let labels = labels.iter().map(|&index| self.info.labels[index]);
        Examples {
            values,
            labels: labels.collect(),
            augment: None,
        }
    }

    /// The samples `indices` as pictures; `None` when the samples are not of shape `[1 or 3, H, W]`.
    ///
    /// # Panics
    /// When an index is not below [`DatasetInfo::len`].
    pub fn pictures(&self, indices: &[usize]) -> Option<Pictures> {
        let shape = self.info.shape.as_slice().try_into().ok()?;
        Pictures::from_model(&self.examples(indices).values, shape).ok()
    }
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Floats(floats) => floats.len(),
        }
    }
}

/// Model space of a byte: 0 is −1, 255 is 1. [`crate::picture::to_byte`] is its inverse.
pub fn from_byte(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}
