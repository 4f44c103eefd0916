//! A golden file in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use meanflow_torch::convert::{self, Layout};
use meanflow_torch::{Model, TorchError, weights};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::{Kind, Tensor};

use crate::{Comparison, Report, Setting, Tolerance};

/// The tensors of a golden, its name and its configuration.
#[derive(Debug)]
pub(crate) struct GoldenFile {
    path: PathBuf,
    name: String,
    config: serde_json::Value,
    tensors: BTreeMap<String, Tensor>,
}

/// What of the `.json` beside a golden is read.
#[derive(Deserialize)]
struct Description {
    /// Without it, the name of the file counts.
    name: Option<String>,
    config: serde_json::Value,
}

impl GoldenFile {
    /// Reads `path` and the `.json` beside it.
    pub(crate) fn read(path: &Path) -> Result<Self, TorchError> {
        let beside = path.with_extension("json");
        let description: Description =
            serde_json::from_slice(&read(&beside)?).map_err(|error| TorchError::File {
                path: beside,
                problem: format!("no description of a golden: {error}"),
            })?;
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            path: path.to_owned(),
            name: description.name.unwrap_or(stem),
            config: description.config,
            tensors: weights::read(path)?,
        })
    }

    /// What the description calls it; its beginning is the kind.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The configuration as its kind knows it.
    pub(crate) fn config<T: DeserializeOwned>(&self) -> Result<T, TorchError> {
        serde_json::from_value(self.config.clone()).map_err(|error| TorchError::File {
            path: self.path.with_extension("json"),
            problem: format!("config: {error}"),
        })
    }

    /// A file or folder beside the golden.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// An error that names the file.
    pub(crate) fn problem(&self, problem: String) -> TorchError {
        TorchError::File {
            path: self.path.clone(),
            problem,
        }
    }

    /// The tensor of that name as it is in the file.
    pub(crate) fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The tensor of that name, which has to be there.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn require(&self, name: &str) -> Result<&Tensor, TorchError> {
        self.get(name)
            .ok_or_else(|| self.problem(format!("missing: {name}")))
    }

    /// An input in the type and on the device of the setting.
    pub(crate) fn input(&self, name: &str, setting: &Setting) -> Result<Tensor, TorchError> {
        let tensor = self.require(name)?;
        Ok(tensor.to_kind(setting.kind).to_device(setting.device))
    }

    /// An input picture, `[B, H, W, C]` in the file, as `[B, C, H, W]`.
    pub(crate) fn picture(&self, name: &str, setting: &Setting) -> Result<Tensor, TorchError> {
        let tensor = self.input(name, setting)?;
        if tensor.dim() != 4 {
            return Err(self.problem(format!(
                "{name}: expected [B, H, W, C], got {:?}",
                tensor.size()
            )));
        }
        Ok(tensor.permute([0, 3, 1, 2]).contiguous())
    }

    /// A tensor of the file as it is, in the type and on the device of the setting, if it is there.
    pub(crate) fn optional(&self, name: &str, setting: &Setting) -> Option<Tensor> {
        let tensor = self.get(name)?;
        Some(tensor.to_kind(setting.kind).to_device(setting.device))
    }

    /// A list of numbers.
    pub(crate) fn numbers(&self, name: &str) -> Result<Vec<f64>, TorchError> {
        let tensor = self.require(name)?.to_kind(Kind::Double);
        Vec::<f64>::try_from(tensor).map_err(|error| self.problem(format!("{name}: {error}")))
    }

    /// A list of whole numbers: labels, masks.
    ///
    /// # Errors
    /// If it is not there, or no list.
    pub(crate) fn integers(&self, name: &str) -> Result<Vec<i64>, TorchError> {
        Vec::<i64>::try_from(self.require(name)?)
            .map_err(|error| self.problem(format!("{name}: {error}")))
    }

    /// The names below a prefix, without it.
    pub(crate) fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors
            .keys()
            .filter_map(move |name| name.strip_prefix(prefix))
    }

    /// Sets the parameters of a model to those below `params/`, exactly those.
    pub(crate) fn fill(&self, model: &Model, layout: Layout) -> Result<(), TorchError> {
        let given = self.below("params/").map(|name| {
            let tensor = &self.tensors[&format!("params/{name}")];
            (name.to_owned(), tensor.shallow_clone())
        });
        convert::import(model, layout, &given.collect(), &self.path).map(|_| ())
    }

    /// Compares results that the file has, and names those that nobody computed: of the names that `is_result` knows.
    ///
    /// # Errors
    /// If a result has another number of elements, or the file has none of them.
    pub(crate) fn report(
        &self,
        results: &[Computed],
        extra: Vec<Comparison>,
        is_result: impl Fn(&str) -> bool,
    ) -> Result<Report, TorchError> {
        let mut comparisons = Vec::new();
        for Computed {
            name,
            value,
            tolerance,
        } in results
        {
            let Some(official) = self.get(name) else {
                continue;
            };
            if official.numel() != value.numel() {
                return Err(self.problem(format!(
                    "{name}: expected shape {:?}, got {:?}",
                    value.size(),
                    official.size()
                )));
            }
            let value = value.reshape(official.size());
            comparisons.push(Comparison::new(name, &value, official, *tolerance));
        }
        comparisons.extend(extra);
        if comparisons.is_empty() {
            return Err(self.problem("there is nothing in it to compare".into()));
        }
        let computed = |name: &String| results.iter().any(|result| result.name == *name);
        let unchecked = self.tensors.keys();
        let unchecked = unchecked.filter(|name| is_result(name) && !computed(name));
        Ok(Report {
            name: self.name.clone(),
            unchecked: unchecked.cloned().collect(),
            comparisons,
        })
    }
}

/// One result of ours, in the file's layout.
#[derive(Debug)]
pub(crate) struct Computed {
    /// Its name in the file.
    pub(crate) name: String,
    /// What we get.
    pub(crate) value: Tensor,
    /// How far it may be from what the file has.
    pub(crate) tolerance: Tolerance,
}

impl Computed {
    /// A result that the file may have under `name`.
    pub(crate) fn new(name: impl Into<String>, value: Tensor, tolerance: Tolerance) -> Self {
        Self {
            name: name.into(),
            value,
            tolerance,
        }
    }

    /// A picture `[B, C, H, W]` of ours as the file has it, `[B, H, W, C]`.
    pub(crate) fn picture(name: &str, value: &Tensor, tolerance: Tolerance) -> Self {
        Self::new(name, value.permute([0, 2, 3, 1]).contiguous(), tolerance)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TorchError> {
    fs::read(path).map_err(|source| TorchError::Io {
        operation: "read",
        path: path.to_owned(),
        source,
    })
}
