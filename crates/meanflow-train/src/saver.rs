//! Checkpoints written in the background, from a copy of the state: training waits for the copy alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::mem;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use meanflow_data::write_bytes;
use meanflow_torch::{Device, Tensor, weights};

use crate::TrainError;
use crate::checkpoint::{CheckpointState, Checkpoints};
use crate::manifest::Fingerprints;
use crate::run_dir::publish;

/// A copy of all tensors of a trainer, on the host. The next copy is made into the same memory: memory that is new to the process
/// costs more than the copy.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    files: BTreeMap<String, TensorFile>,
}

#[derive(Debug, Default)]
struct TensorFile {
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
        let file = self.files.entry(name.to_owned()).or_default();
        let mut before = mem::take(&mut file.tensors).into_iter();
        let copy = |(name, tensor): &(String, Tensor)| {
            let mut copy = before
                .next()
                .map(|(_, copy)| copy)
                .filter(|copy| copy.size() == tensor.size() && copy.kind() == tensor.kind())
                .unwrap_or_else(|| Tensor::empty(tensor.size(), (tensor.kind(), Device::Cpu)));
            copy.copy_(&tensor.detach());
            (name.clone(), copy)
        };
        file.tensors = tensors.iter().map(copy).collect();
        file.metadata = metadata;
    }

    /// Writes the files into a folder, syncs each, reads it back and compares every byte.
    pub(crate) fn write(&self, folder: &Path) -> Result<Fingerprints, TrainError> {
        let write = |(name, file): (&String, &TensorFile)| {
            let path = folder.join(name);
            let known = weights::save_compared(&path, &file.tensors, file.metadata.clone())?;
            Ok((name.clone(), known))
        };
        self.files.iter().map(write).collect()
    }
}

/// All that a checkpoint and what goes with it is made of.
pub(crate) struct Save {
    pub(crate) checkpoints: Checkpoints,
    pub(crate) state: CheckpointState,
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
    pub(crate) fn run(&self) -> Result<PathBuf, TrainError> {
        let (curve, text) = &self.curve;
        self.metrics
            .sync_all()
            .map_err(TrainError::io("sync the metrics of", curve))?;
        let path = self
            .checkpoints
            .save(&self.state, |folder| self.snapshot.write(folder))?;
        publish(&path, &self.average, &self.weights)?;
        write_bytes(curve, text.as_bytes())?;
        Ok(path)
    }
}

/// What else the process does while a save is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    /// It trains on.
    Trains,
    /// It waits for the save.
    Waits,
}

/// At most one save under way. It is waited for when the saver is dropped: a run that fails leaves no half of one.
#[derive(Debug, Default)]
pub(crate) struct Saver {
    job: Option<JoinHandle<(Result<PathBuf, TrainError>, Snapshot)>>,
    /// The copy that the last save has written.
    snapshot: Snapshot,
}

impl Saver {
    /// The copy of the last save, to make the next one into.
    pub(crate) fn take_snapshot(&mut self) -> Snapshot {
        mem::take(&mut self.snapshot)
    }

    /// Begins a save; the one before has been collected.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(&mut self, save: Save, meanwhile: Meanwhile) -> Result<(), TrainError> {
        debug_assert!(self.job.is_none(), "one save at a time");
        let weights = save.weights.clone();
        let job = thread::Builder::new().spawn(move || {
            if meanwhile == Meanwhile::Trains {
                give_way();
            }
            (save.run(), save.snapshot)
        });
        let refused = TrainError::io("start a thread to write", &weights);
        self.job = Some(job.map_err(refused)?);
        Ok(())
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
            Ok((result, snapshot)) => {
                self.snapshot = snapshot;
                result.map(Some)
            }
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Lets the threads that train have the cores first: where all are taken, this thread gets about a tenth of one.
fn give_way() {
    // Of this thread alone, which only Linux has.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}

impl Drop for Saver {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            // Nobody is left to hear of its result.
            let _ = job.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(snapshot: &mut Snapshot, tensors: &[(&str, Tensor)]) -> Vec<(String, Tensor)> {
        let named = |(name, tensor): &(&str, Tensor)| ((*name).to_owned(), tensor.shallow_clone());
        let tensors: Vec<_> = tensors.iter().map(named).collect();
        snapshot.add("a.safetensors", &tensors, BTreeMap::new());
        let copies = &snapshot.files["a.safetensors"].tensors;
        let pairs = copies
            .iter()
            .map(|(name, copy)| (name.clone(), copy.shallow_clone()));
        pairs.collect()
    }

    #[test]
    fn the_next_copy_lies_where_the_one_before_did() {
        let mut snapshot = Snapshot::default();
        let (mut one, two) = (
            Tensor::from(1.5_f32).repeat([40]),
            Tensor::from_slice(&[7_i64]),
        );
        let before = copied(
            &mut snapshot,
            &[("one", one.shallow_clone()), ("two", two.copy())],
        );
        let _ = one.fill_(2.5);
        assert_eq!(before[0].1, Tensor::from(1.5_f32).repeat([40]), "a copy");
        let after = copied(
            &mut snapshot,
            &[("one", one.shallow_clone()), ("two", two.copy())],
        );
        assert_eq!(after[0], ("one".to_owned(), one.shallow_clone()));
        assert_eq!(before[0].1.data_ptr(), after[0].1.data_ptr());
        // Other shapes and types get memory of their own.
        let others = copied(
            &mut snapshot,
            &[("one", two.shallow_clone()), ("new", one.reshape([8, 5]))],
        );
        assert_eq!(others[0], ("one".to_owned(), two));
        assert_eq!(others[1], ("new".to_owned(), one.reshape([8, 5])));
        assert_eq!(after[0].1, one, "what was copied before is as it was");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_thread_that_writes_gives_way_alone() {
        // The 19th field of proc_pid_stat(5), the 17th behind the name in parentheses.
        let nice = || -> i32 {
            let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields = text.rsplit_once(')').unwrap().1;
            fields.split_whitespace().nth(16).unwrap().parse().unwrap()
        };
        let before = nice();
        let there = thread::spawn(move || {
            give_way();
            nice()
        });
        assert_eq!(there.join().unwrap(), (before + 10).min(19));
        assert_eq!(nice(), before);
    }
}
