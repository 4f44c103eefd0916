//! The folder of a run, locked while a process trains in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::TrainError;
use crate::checkpoint::Checkpoints;
use crate::files::{create_folder, names};

const LOCK: &str = ".lock";
const CONFIG: &str = "config.toml";
const WEIGHTS: &str = "model.safetensors";

/// A run directory. The lock is the operating system's: it ends with the process, however that ends.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Opens or creates the folder and locks it.
    ///
    /// # Errors
    /// [`TrainError::InUse`] when another process has it, [`TrainError::NotARun`] when it holds other files.
    pub fn open(root: &Path) -> Result<Self, TrainError> {
        create_folder(root)?;
        let there = names(root)?;
        if !there.is_empty() && !there.iter().any(|name| name == LOCK) {
            return Err(TrainError::NotARun {
                path: root.to_owned(),
            });
        }
        let path = root.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = file.map_err(TrainError::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                root: root.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(TrainError::InUse {
                path: root.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(TrainError::io("lock", &path)(source)),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved recipe.
    pub fn config(&self) -> PathBuf {
        self.root.join(CONFIG)
    }

    /// The weights to sample from.
    pub fn weights(&self) -> PathBuf {
        self.root.join(WEIGHTS)
    }

    /// One line of JSON a logged step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// The picture of the loss.
    pub fn loss_curve(&self) -> PathBuf {
        self.root.join("loss.svg")
    }

    /// The picture of samples after `step` steps.
    pub fn samples(&self, step: u64) -> PathBuf {
        self.root
            .join("samples")
            .join(format!("step-{step:06}.png"))
    }

    /// The checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.root.join("checkpoints"))
    }
}

/// The weights file that a path given by a user means: the file itself, or that of a run directory.
pub fn weights_of(path: &Path) -> PathBuf {
    let is_folder = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_folder {
        path.join(WEIGHTS)
    } else {
        path.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_can_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("runs/a");
        let first = RunDir::open(&root).unwrap();
        assert!(matches!(RunDir::open(&root), Err(TrainError::InUse { .. })));
        drop(first);
        RunDir::open(&root).unwrap();
    }

    #[test]
    fn a_folder_of_other_things_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(
            RunDir::open(folder.path()),
            Err(TrainError::NotARun { .. })
        ));
        assert_eq!(names(folder.path()).unwrap(), ["thesis.tex"]);
    }

    #[test]
    fn a_run_and_its_weights_file_mean_the_same() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            weights_of(folder.path()),
            folder.path().join("model.safetensors")
        );
        let file = folder.path().join("x.safetensors");
        assert_eq!(weights_of(&file), file);
    }
}
