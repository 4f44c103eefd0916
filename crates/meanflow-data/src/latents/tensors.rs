//! Latents in a safetensors file: its header read whole and checked, its rows left on the disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use meanflow_files::{SafetensorsError, SafetensorsHeader};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::{Facts, refuse_facts, unknown};
use crate::DataError;
use crate::file::open_regular;
use crate::npy::words;
use crate::npy_header::DType;
use crate::read_at::read_at;
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

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// What the metadata says of the numbers.
    pub(super) fn facts(&self) -> Result<Facts, DataError> {
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

    /// The rows of a tensor of `F16` or `F32`.
    pub(super) fn rows(&self, name: &str) -> Result<ArrayRows, DataError> {
        let info = self.info(name)?;
        let dtype = match info.dtype {
            Dtype::F16 => Some(DType::F16),
            Dtype::F32 => Some(DType::F32),
            _ => None,
        };
        let file = self.file.try_clone().map_err(DataError::io(&self.path))?;
        let start = self.start + info.data_offsets.0 as u64;
        ArrayRows::part(&self.path.join(name), file, (dtype, &info.shape), start)
    }

    /// `labels`, `[count]` of any integer type, each in `0..classes` where it is known how many there are.
    pub(super) fn labels(
        &self,
        count: usize,
        classes: Option<usize>,
    ) -> Result<Vec<i64>, DataError> {
        let info = self.info("labels")?;
        let path = self.path.join("labels");
        let start = self.start + info.data_offsets.0 as u64;
        if info.shape != [count] {
            let got = format!("{:?}", info.shape);
            let expected = format!("[{count}]");
            return Err(DataError::field(
                &path,
                start,
                "shape of labels",
                expected,
                got,
            ));
        }
        let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
        read_at(&self.file, &mut bytes, start).map_err(DataError::io(&path))?;
        let labels: Vec<i64> = match info.dtype {
            Dtype::I64 => words(&bytes, i64::from_le_bytes),
            Dtype::I32 => words(&bytes, |word| i32::from_le_bytes(word).into()),
            Dtype::I16 => words(&bytes, |word| i16::from_le_bytes(word).into()),
            Dtype::I8 => words(&bytes, |word| i8::from_le_bytes(word).into()),
            Dtype::U32 => words(&bytes, |word| u32::from_le_bytes(word).into()),
            Dtype::U16 => words(&bytes, |word| u16::from_le_bytes(word).into()),
            Dtype::U8 => words(&bytes, |word| u8::from_le_bytes(word).into()),
            other => {
                let got = format!("{other:?}");
                return Err(DataError::field(&path, start, "labels", "integers", got));
            }
        };
        let Some((place, end)) = unknown(&labels, classes) else {
            return Ok(labels);
        };
        let offset = start + (place * (bytes.len() / count)) as u64;
        let (expected, got) = (format!("0..{end}"), labels[place]);
        Err(DataError::field(&path, offset, "label", expected, got))
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, DataError> {
        let missing = || DataError::field(&self.path, 8, "tensors", name, "none of this name");
        self.header.info(name).ok_or_else(missing)
    }
}

/// What is wrong with the header of a file.
fn refusal(path: &Path, error: SafetensorsError) -> DataError {
    let length = |part, expected, got| DataError::Length {
        file: path.to_owned(),
        part,
        expected,
        got,
    };
    match error {
        SafetensorsError::Read(source) => DataError::io(path)(source),
        SafetensorsError::Short(got) => length("header", 8, got),
        SafetensorsError::Length { expected, got } => length("tensors", expected, got),
        error => {
            let expected = "the description of tensors of a safetensors file";
            DataError::field(path, 0, "header", expected, error)
        }
    }
}
