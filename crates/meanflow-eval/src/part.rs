//! The file of a shard: named tensors, taken out one by one and checked as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meanflow_torch::weights;
use tch::{Kind, Tensor};

use crate::EvalError;

/// Tensors by name, to be written to a [`PartFile`].
pub type Named = Vec<(String, Tensor)>;

/// The tensors of a file that have not been taken yet.
#[derive(Debug)]
pub struct PartFile {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl PartFile {
    /// Reads a safetensors file, and its free text by key.
    ///
    /// # Errors
    /// If it is no such file.
    pub fn read(path: &Path) -> Result<(Self, BTreeMap<String, String>), EvalError> {
        let metadata = weights::header(path)?.metadata;
        let tensors = weights::read(path)?;
        let path = path.to_owned();
        Ok((Self { path, tensors }, metadata))
    }

    /// Whether a tensor of this name is still there.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Takes out a tensor of so many axes and this type.
    ///
    /// # Errors
    /// [`EvalError::File`] if there is none, or it is another one.
    pub fn take(&mut self, name: &str, axes: usize, kind: Kind) -> Result<Tensor, EvalError> {
        let tensor = self.tensors.remove(name);
        let fits = |tensor: &Tensor| tensor.kind() == kind && tensor.dim() == axes;
        let got = match &tensor {
            Some(tensor) => format!("{:?} of {:?}", tensor.size(), tensor.kind()),
            None => "none".to_owned(),
        };
        tensor.filter(fits).ok_or_else(|| {
            self.problem(format!(
                "{name}: expected {axes} axes of {kind:?}, got {got}"
            ))
        })
    }

    /// Takes out sums, which are finite.
    pub(crate) fn take_sums(&mut self, name: &str, axes: usize) -> Result<Tensor, EvalError> {
        let sums = self.take(name, axes, Kind::Double)?;
        if sums.isfinite().all().int64_value(&[]) == 0 {
            return Err(self.problem(format!("{name}: not finite")));
        }
        Ok(sums)
    }

    /// Takes out numbers of things, which are not negative.
    ///
    /// # Errors
    /// As [`PartFile::take`]; [`EvalError::File`] for a negative number.
    pub fn take_counts(&mut self, name: &str, axes: usize) -> Result<Tensor, EvalError> {
        let counts = self.take(name, axes, Kind::Int64)?;
        if counts.lt(0).any().int64_value(&[]) != 0 {
            return Err(self.problem(format!("{name}: negative")));
        }
        Ok(counts)
    }

    /// An error that names the file.
    pub fn problem(&self, problem: String) -> EvalError {
        let path = self.path.clone();
        EvalError::File { path, problem }
    }
}
