//! Where a run comes from: `run.json` of its directory, an entry for each time that it was started, and `recipe.toml`, the
//! recipe as it was written.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use meanflow_data::write_bytes;
use meanflow_torch::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::TrainError;
use crate::config::RecipeSource;

pub(crate) const RECORD: &str = "run.json";
pub(crate) const RECIPE: &str = "recipe.toml";

/// What started a run, as far as only the program that did knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The recipe as it was given.
    pub recipe: RecipeSource,
    /// When it did, in UTC, as RFC 3339 writes it.
    pub time: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// The revision of the source that the program was built from.
    pub revision: String,
    /// The version of libtorch that is loaded.
    pub libtorch: String,
}

/// One start of a run.
#[derive(Serialize)]
struct Start<'a> {
    time: &'a str,
    after_step: u64,
    command: &'a [String],
    working_folder: Option<PathBuf>,
    recipe: &'a Path,
    overrides: &'a [String],
    meanflow: &'static str,
    revision: &'a str,
    libtorch: &'a str,
    host: Option<String>,
    system: String,
    cores: Option<usize>,
    threads: i32,
    device: String,
}

/// The file.
#[derive(Default, Deserialize, Serialize)]
struct Record {
    starts: Vec<Value>,
}

impl Origin {
    /// Adds a start on this device after so many steps to the record of a run directory, and keeps the text of the recipe. A record that cannot be
    /// read begins anew.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn record(&self, root: &Path, step: u64, device: Device) -> Result<(), TrainError> {
        let path = root.join(RECORD);
        let before = fs::read(&path).unwrap_or_default();
        let mut record: Record = serde_json::from_slice(&before).unwrap_or_default();
        let start = serde_json::to_value(self.start(step, device));
        record
            .starts
            .push(start.expect("a start is made of strings and numbers"));
        let text = serde_json::to_string_pretty(&record).expect("it was JSON before");
        write_bytes(&path, text.as_bytes())?;
        Ok(write_bytes(
            &root.join(RECIPE),
            self.recipe.text.as_bytes(),
        )?)
    }

    fn start(&self, step: u64, device: Device) -> Start<'_> {
        let line = |path| Some(fs::read_to_string(path).ok()?.trim().to_owned());
        let kernel = line("/proc/sys/kernel/osrelease").unwrap_or_default();
        let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
        Start {
            time: &self.time,
            after_step: step,
            command: &self.command,
            working_folder: std::env::current_dir().ok(),
            recipe: &self.recipe.path,
            overrides: &self.recipe.overrides,
            meanflow: env!("CARGO_PKG_VERSION"),
            revision: &self.revision,
            libtorch: &self.libtorch,
            host: line("/proc/sys/kernel/hostname"),
            system: format!("{system} {kernel} {architecture}"),
            cores: thread::available_parallelism().ok().map(usize::from),
            threads: tch::get_num_threads(),
            device: format!("{device:?}").to_lowercase(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_is_added_to_those_before() {
        let folder = tempfile::tempdir().unwrap();
        let text = "# a comment\nseed = 1\n";
        let file = folder.path().join("mine.toml");
        fs::write(&file, text).unwrap();
        let overrides = ["seed=2".to_owned()];
        let origin = Origin {
            recipe: RecipeSource::read(&file, &overrides).unwrap(),
            time: "2026-11-27T12:30:00Z".to_owned(),
            command: vec!["meanflow".to_owned(), "train".to_owned()],
            revision: "abc".to_owned(),
            libtorch: "2.11.0".to_owned(),
        };
        let root = folder.path();
        origin.record(root, 0, Device::Cpu).unwrap();
        origin.record(root, 7, Device::Cpu).unwrap();
        let record: Value =
            serde_json::from_slice(&fs::read(root.join("run.json")).unwrap()).unwrap();
        let starts = record["starts"].as_array().unwrap();
        assert_eq!(starts.len(), 2);
        assert_eq!(
            (&starts[0]["after_step"], &starts[1]["after_step"]),
            (&0.into(), &7.into())
        );
        assert_eq!(starts[1]["overrides"], serde_json::json!(["seed=2"]));
        assert_eq!(starts[1]["device"], "cpu");
        assert_eq!(fs::read_to_string(root.join("recipe.toml")).unwrap(), text);
        fs::write(root.join("run.json"), "{").unwrap();
        origin.record(root, 9, Device::Cpu).unwrap();
        let again = fs::read_to_string(root.join("run.json")).unwrap();
        assert!(again.contains("\"after_step\": 9"), "{again}");
    }
}
