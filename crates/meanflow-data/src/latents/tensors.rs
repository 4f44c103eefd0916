//! Latents in a safetensors file: its header read whole and checked, its rows left on the disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use meanflow_files::{SafetensorsError, SafetensorsHeader};
use safetensors::tensor::{Metadata, TensorInfo};

use super::{Arrays, Facts, refuse_facts, unknown};
use crate::DataError;
use crate::file::{open_regular, read_at};
use crate::npy::NpyData;
use crate::rows::ArrayRows;

/// Longest header that is read; a few tensors need a thousandth of it.
const MAX_HEADER: u64 = 1 << 20;

/// An open file.
pub(super) struct Tensors {
    path: PathBuf,
    file: File,
    header: Metadata,
    /// Bytes before the first tensor.
    start: u64,
}

impl Tensors {
    /// Opens a file; header and length must agree to the byte.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let (mut file, size) = open_regular(path)?;
        let header = SafetensorsHeader::read(&mut file, size, MAX_HEADER);
        let SafetensorsHeader { metadata, start } = header.map_err(|error| refusal(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header: metadata,
            start,
        })
    }

    /// Where a tensor begins in the file, and what is known of it.
    fn tensor(&self, name: &str) -> Result<(u64, &TensorInfo), DataError> {
        let missing = || DataError::field(&self.path, 8, "tensors", name, "none of this name");
        let info = self.header.info(name).ok_or_else(missing)?;
        Ok((self.start + info.data_offsets.0 as u64, info))
    }
}

impl Arrays for Tensors {
    fn facts(&self) -> Result<Facts, DataError> {
        let value = |key| self.header.metadata().as_ref()?.get(key);
        let refuse = |field, expected, got: Option<&String>| {
            let got = got.map_or("nothing", String::as_str);
            DataError::field(&self.path, 8, field, expected, got)
        };
        let vae = value("vae").ok_or_else(|| refuse("vae in the metadata", "a name", None))?;
        let number = |key, field| {
            let number = value(key).and_then(|text| text.parse().ok());
            number.ok_or_else(|| refuse(field, "a number", value(key)))
        };
        let shift = match value("shift") {
            None => 0.0,
            Some(_) => number("shift", "shift in the metadata")?,
        };
        let facts = Facts {
            vae: vae.clone(),
            scale: number("scale", "scale in the metadata")?,
            shift,
            vae_sha256: value("vae_sha256").cloned(),
        };
        refuse_facts(&self.path, 8, &facts)?;
        Ok(facts)
    }

    fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    fn rows(&self, name: &str) -> Result<ArrayRows, DataError> {
        let (start, info) = self.tensor(name)?;
        let file = self.file.try_clone().map_err(DataError::io(&self.path))?;
        ArrayRows::part(
            &self.path.join(name),
            file,
            (info.dtype, &info.shape),
            start,
        )
    }

    fn labels(&self, count: usize, classes: Option<usize>) -> Result<Vec<i64>, DataError> {
        let ((start, info), path) = (self.tensor("labels")?, self.path.join("labels"));
        if info.shape != [count] {
            let (expected, got) = (format!("[{count}]"), format!("{:?}", info.shape));
            return DataError::refuse(&path, start, "shape of labels", expected, got);
        }
        let size = (info.data_offsets.1 - info.data_offsets.0) as u64;
        let bytes = read_at(&self.file, &path, start, size)?;
        let labels = NpyData::from_bytes(info.dtype, bytes).and_then(|data| data.labels());
        let Some(labels) = labels else {
            let got = format!("{:?}", info.dtype);
            return DataError::refuse(&path, start, "labels", "integers below 2⁶³", got);
        };
        let Some((place, end)) = unknown(&labels, classes) else {
            return Ok(labels);
        };
        let offset = start + place as u64 * (size / count as u64);
        DataError::refuse(&path, offset, "label", format!("0..{end}"), labels[place])
    }
}

/// What is wrong with the header of a file.
fn refusal(path: &Path, error: SafetensorsError) -> DataError {
    match error {
        SafetensorsError::Read(source) => DataError::io(path)(source),
        SafetensorsError::Short(got) => DataError::length(path, "header", 8, got),
        SafetensorsError::Length { expected, got } => {
            DataError::length(path, "tensors", expected, got)
        }
        error => {
            let expected = "the description of tensors of a safetensors file";
            DataError::field(path, 0, "header", expected, error)
        }
    }
}
