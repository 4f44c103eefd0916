//! Checkpoints written in the background, from a copy of the state: training waits for the copy alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use meanflow_data::write_bytes;
use meanflow_torch::{Device, Tensor, weights};

use crate::TrainError;
use crate::checkpoint::{Checkpoints, State};
use crate::run_dir::publish;

/// A copy of all tensors of a trainer, on the host.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    files: Vec<TensorFile>,
}

#[derive(Debug)]
struct TensorFile {
    name: String,
    tensors: Vec<(String, Tensor)>,
    metadata: BTreeMap<String, String>,
}

impl Snapshot {
    /// Copies the tensors of one file.
    pub(crate) fn add(
        &mut self,
        name: &str,
        tensors: &[(String, Tensor)],
        metadata: BTreeMap<String, String>,
    ) {
        let copy = |tensor: &Tensor| match tensor.device() {
            Device::Cpu => tensor.detach().copy(),
            _ => tensor.detach().to_device(Device::Cpu),
        };
        let copied = tensors.iter().map(|(name, one)| (name.clone(), copy(one)));
        self.files.push(TensorFile {
            name: name.to_owned(),
            tensors: copied.collect(),
            metadata,
        });
    }

    /// Writes the files into a folder, syncs each, and reads each back against the hash of what was to be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), TrainError> {
        for file in &self.files {
            let path = folder.join(&file.name);
            weights::save(&path, &file.tensors, file.metadata.clone())?;
            weights::verify(&path)?;
        }
        Ok(())
    }
}

/// All that a checkpoint and what goes with it is made of.
pub(crate) struct Save {
    pub(crate) checkpoints: Checkpoints,
    pub(crate) state: State,
    pub(crate) snapshot: Snapshot,
    /// The metrics file, whose lines the checkpoint counts.
    pub(crate) metrics: File,
    /// Where the weights of which average are exported to.
    pub(crate) weights: PathBuf,
    pub(crate) average: String,
    /// Where which picture of the loss goes.
    pub(crate) curve: (PathBuf, String),
}

impl Save {
    /// Writes it all; the folder of the checkpoint.
    pub(crate) fn run(self) -> Result<PathBuf, TrainError> {
        let (curve, text) = &self.curve;
        self.metrics
            .sync_all()
            .map_err(TrainError::io("sync the metrics of", curve))?;
        let snapshot = self.snapshot;
        let path = self
            .checkpoints
            .save(&self.state, |folder| snapshot.write(folder))?;
        publish(&path, &self.average, &self.weights)?;
        write_bytes(curve, text.as_bytes())?;
        Ok(path)
    }
}

/// At most one save under way. It is waited for when the saver is dropped: a run that fails leaves no half of one.
#[derive(Debug, Default)]
pub(crate) struct Saver {
    job: Option<JoinHandle<Result<PathBuf, TrainError>>>,
}

impl Saver {
    /// Begins a save; the one before has been collected.
    pub(crate) fn start(&mut self, save: Save) {
        debug_assert!(self.job.is_none(), "one save at a time");
        self.job = Some(thread::spawn(|| save.run()));
    }

    /// Whether a save has ended and was not collected.
    pub(crate) fn is_done(&self) -> bool {
        self.job.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits for the save under way; the folder of its checkpoint.
    pub(crate) fn collect(&mut self) -> Result<Option<PathBuf>, TrainError> {
        let Some(job) = self.job.take() else {
            return Ok(None);
        };
        match job.join() {
            Ok(result) => result.map(Some),
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            // Nobody is left to hear of its result.
            let _ = job.join();
        }
    }
}
