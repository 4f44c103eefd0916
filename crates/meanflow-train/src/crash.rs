//! What is kept of a step at which training went astray: enough to look at it and to do it again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use meanflow_data::write_bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{StepMetrics, TrainError};

/// The layout that this version writes.
const FORMAT: u32 = 1;
/// Steps before the last one whose numbers are kept.
const STEPS: usize = 64;
/// Longest file that is read: of a batch of a million rows.
const MAX_BYTES: u64 = 1 << 28;

/// A divergence, as `crash-N.json` of a run directory tells it: the N-th of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashBundle {
    /// The layout of the file.
    pub format_version: u32,
    /// What was found, for a person.
    pub reason: String,
    /// The step that ended training, counted from 1.
    pub step: u64,
    /// The seed of the recipe.
    pub seed: u64,
    /// How many steps ahead the data of a step was.
    pub data_offset: u64,
    /// What the steps can be done again from.
    pub start: CrashStart,
    /// The hash of the data.
    pub data: String,
    /// The rows of the batch of the step.
    pub rows: Vec<CrashRow>,
    /// The last steps in their order, that one included.
    pub steps: Vec<CrashStep>,
    /// The resolved recipe.
    pub recipe: String,
}

/// What the steps until a divergence begin with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashStart {
    /// The folder of a checkpoint, relative to the run directory where it is in there; none for the beginning of the run.
    pub checkpoint: Option<PathBuf>,
    /// The weights that the run was begun with in the place of drawn ones.
    pub init_from: Option<PathBuf>,
    /// Whether those were allowed to fit in part.
    pub init_partial: bool,
}

impl CrashStart {
    /// The checkpoint in this folder.
    pub(crate) fn at(checkpoint: &Path) -> Self {
        Self {
            checkpoint: Some(checkpoint.to_owned()),
            ..Self::default()
        }
    }

    /// The same, told from the run directory `root`, so that the two can be moved together.
    pub(crate) fn within(mut self, root: &Path) -> Self {
        let told = |path: PathBuf| match path.strip_prefix(root) {
            Ok(inside) => inside.to_owned(),
            Err(_) => absolute(&path),
        };
        self.checkpoint = self.checkpoint.map(told);
        self.init_from = self.init_from.map(|path| absolute(&path));
        self
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A row of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashRow {
    /// Which sample of the data it is, counted from 0.
    pub sample: usize,
    /// Its class, where the data have classes.
    pub label: Option<i64>,
    /// Whether the network was not given the class.
    pub dropped: bool,
    /// The start of the interval.
    pub r: f64,
    /// The end of the interval.
    pub t: f64,
    /// `‖u − v_t‖²`.
    #[serde(with = "any_number")]
    pub v_loss: f64,
}

/// The numbers of a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashStep {
    /// The step, counted from 1.
    pub step: u64,
    /// The learning rate.
    #[serde(with = "any_number")]
    pub lr: f64,
    /// The weighted loss.
    #[serde(with = "any_number")]
    pub loss: f64,
    /// The norm of the gradient before clipping.
    #[serde(with = "any_number")]
    pub grad_norm: f64,
    /// The largest magnitude among the weights afterwards.
    #[serde(with = "any_number")]
    pub largest_weight: f64,
}

impl CrashStep {
    /// Those of these metrics.
    pub(crate) fn of(metrics: &StepMetrics) -> Self {
        Self {
            step: metrics.step,
            lr: metrics.lr,
            loss: metrics.loss,
            grad_norm: metrics.grad_norm,
            largest_weight: metrics.largest_weight,
        }
    }

    /// Whether another step has the same numbers, bit for bit; all NaNs count as one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let numbers = |one: &Self| [one.lr, one.loss, one.grad_norm, one.largest_weight];
        let pairs = numbers(self).into_iter().zip(numbers(other));
        self.step == other.step && pairs.into_iter().all(|(one, other)| is_same(one, other))
    }
}

/// Whether two numbers are the same, bit for bit; all NaNs count as one.
pub(crate) fn is_same(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan()
}

impl CrashBundle {
    /// The layout of the bundles that are made.
    pub(crate) const FORMAT: u32 = FORMAT;

    /// Reads a bundle.
    ///
    /// # Errors
    /// [`TrainError::Io`] where the file cannot be read, [`TrainError::Bundle`] where it is none.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let refused = |problem: String| TrainError::Bundle {
            path: path.to_owned(),
            problem,
        };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
            .map_err(TrainError::io("read", path))?;
        let bundle: Self =
            serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
        if bundle.format_version != FORMAT {
            return Err(refused(format!(
                "expected format_version {FORMAT}, got {}",
                bundle.format_version
            )));
        }
        Ok(bundle)
    }

    /// Writes the bundle of the `number`-th divergence into a run directory; its path.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write(&self, root: &Path, number: u32) -> Result<PathBuf, TrainError> {
        let path = root.join(format!("crash-{number}.json"));
        let text =
            serde_json::to_string_pretty(self).expect("a bundle is made of strings and numbers");
        write_bytes(&path, text.as_bytes())?;
        Ok(path)
    }
}

/// The last steps of a run.
#[derive(Debug, Default)]
pub(crate) struct LastSteps {
    steps: VecDeque<CrashStep>,
    /// `‖u − v_t‖²` of the rows of the last one.
    v_loss_by_row: Vec<f64>,
}

impl LastSteps {
    /// Takes note of the next step.
    pub(crate) fn push(&mut self, metrics: &StepMetrics) {
        if self.steps.len() == STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(CrashStep::of(metrics));
        self.v_loss_by_row.clone_from(&metrics.v_loss_by_row);
    }

    /// Forgets all, and returns them with the numbers of the rows of the last one.
    pub(crate) fn take(&mut self) -> (Vec<CrashStep>, Vec<f64>) {
        let steps = std::mem::take(&mut self.steps);
        (steps.into(), std::mem::take(&mut self.v_loss_by_row))
    }
}

/// Numbers that may be NaN or infinite, which JSON has no numbers for: they are strings there.
mod any_number {
    use super::*;

    pub(super) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if number.is_finite() {
            serializer.serialize_f64(*number)
        } else {
            serializer.serialize_str(&number.to_string())
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Number(f64),
            Text(String),
        }
        match Any::deserialize(deserializer)? {
            Any::Number(number) => Ok(number),
            Any::Text(text) => match text.as_str() {
                "NaN" => Ok(f64::NAN),
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                other => Err(de::Error::custom(format!(
                    "expected a number, \"NaN\", \"inf\" or \"-inf\", got {other:?}"
                ))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(loss: f64) -> CrashBundle {
        CrashBundle {
            format_version: FORMAT,
            reason: "no number".into(),
            step: 7,
            seed: u64::MAX,
            data_offset: 3 << 32,
            start: CrashStart::default(),
            data: "0f".into(),
            rows: vec![CrashRow {
                sample: 3,
                label: Some(2),
                dropped: true,
                r: 0.1,
                t: 0.1 + 0.2,
                v_loss: loss,
            }],
            steps: vec![CrashStep {
                step: 7,
                lr: 1e-4,
                loss,
                grad_norm: 5e-324,
                largest_weight: 1.0 / 3.0,
            }],
            recipe: "seed = 1".into(),
        }
    }

    #[test]
    fn whatever_the_numbers_are_they_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        for loss in [1.0 / 3.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0] {
            let written = bundle(loss);
            let path = written.write(folder.path(), 1).unwrap();
            let read = CrashBundle::read(&path).unwrap();
            assert!(read.steps[0].is_same(&written.steps[0]), "{loss}");
            assert!(is_same(read.rows[0].v_loss, loss), "{loss}");
            let without = |mut bundle: CrashBundle| {
                (bundle.steps[0].loss, bundle.rows[0].v_loss) = (0.0, 0.0);
                bundle
            };
            assert_eq!(without(read), without(written));
        }
    }

    #[test]
    fn other_files_are_no_bundles() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crash-1.json");
        let text = serde_json::to_string(&bundle(1.0)).unwrap();
        for other in [
            String::new(),
            "[]".into(),
            text.replacen("\"format_version\":1", "\"format_version\":2", 1),
            text.replacen("\"loss\":1.0", "\"loss\":\"one\"", 1),
        ] {
            std::fs::write(&path, other).unwrap();
            let error = CrashBundle::read(&path).unwrap_err();
            assert!(matches!(error, TrainError::Bundle { .. }), "{error}");
        }
    }
}
