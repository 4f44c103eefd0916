//! The folder of a run, locked while a process trains in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use meanflow_data::write_bytes;
use meanflow_files::is_leftover;
use toml::Table;

use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::files::{self, create_folder, names, remove_leftovers};
use crate::{DataRecord, TrainConfig, TrainError, origin};

const LOCK: &str = ".lock";
const CONFIG: &str = "config.toml";
const WEIGHTS: &str = "model.safetensors";
const SAMPLES: &str = "samples";
const CHECKPOINTS: &str = "checkpoints";

/// The files of a run directory, to look at whether or not a process trains in it.
#[derive(Clone, Debug)]
pub struct RunFiles {
    root: PathBuf,
}

impl RunFiles {
    /// Those of the folder `root`, whatever is in it.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Whether the folder is that of a run: it has a checkpoint, or a resolved recipe.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn are_there(&self) -> Result<bool, TrainError> {
        Ok(self.root.is_dir() && is_run(&self.root)?)
    }

    /// The steps of which there are pictures of samples, in their order.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sampled_steps(&self) -> Result<Vec<u64>, TrainError> {
        let folder = self.root.join(SAMPLES);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let step = |name: &String| {
            name.strip_prefix("step-")?
                .strip_suffix(".png")?
                .parse()
                .ok()
        };
        let mut steps: Vec<u64> = names(&folder)?.iter().filter_map(step).collect();
        steps.sort_unstable();
        Ok(steps)
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

    /// The picture of the data, as the network sees them.
    pub fn data_picture(&self) -> PathBuf {
        self.root.join("data.png")
    }

    /// The recipe as it was written, with its comments.
    pub fn recipe(&self) -> PathBuf {
        self.root.join(origin::RECIPE)
    }

    /// Every start of the run: when, where, by which command.
    pub fn starts(&self) -> PathBuf {
        self.root.join(origin::RECORD)
    }

    /// What `meanflow eval` found.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.json")
    }

    /// The picture of samples after `step` steps.
    pub fn samples(&self, step: u64) -> PathBuf {
        self.root.join(SAMPLES).join(format!("step-{step:06}.png"))
    }

    /// The checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.root.join(CHECKPOINTS))
    }
}

/// A run directory. The lock is the operating system's: it ends with the process, however that ends.
#[derive(Debug)]
pub struct RunDir {
    files: RunFiles,
    lock: File,
}

/// A run directory is its files, held for one process.
impl Deref for RunDir {
    type Target = RunFiles;

    fn deref(&self) -> &RunFiles {
        &self.files
    }
}

impl RunDir {
    /// Opens or creates the folder and locks it.
    ///
    /// # Errors
    /// [`TrainError::InUse`] when another process has it, [`TrainError::NotARun`] when it holds other files.
    pub fn open(root: &Path) -> Result<Self, TrainError> {
        create_folder(root)?;
        if !(is_fresh(root)? || is_run(root)?) {
            return Err(TrainError::NotARun {
                path: root.to_owned(),
            });
        }
        let (lock, files) = (lock(root)?, RunFiles::new(root));
        Ok(Self { files, lock })
    }

    /// Locks the folder again where it or its lock file was removed or replaced meanwhile; whether that was so.
    ///
    /// # Errors
    /// [`TrainError::InUse`] when another process has the new one.
    pub(crate) fn renew(&mut self) -> Result<bool, TrainError> {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let named = fs::metadata(self.root.join(LOCK)).ok().map(identity);
        if named.is_some() && named == self.lock.metadata().ok().map(identity) {
            return Ok(false);
        }
        create_folder(&self.root)?;
        self.lock = lock(&self.root)?;
        Ok(true)
    }

    /// Removes what killed processes left unfinished, and writes down recipe and data.
    pub(crate) fn begin(&self, config: &TrainConfig, data: &DataRecord) -> Result<(), TrainError> {
        remove_leftovers(&self.root)?;
        remove_leftovers(&self.root.join(SAMPLES))?;
        write_bytes(&self.config(), config.to_toml().as_bytes())?;
        Ok(data.write(&self.root)?)
    }
}

/// Makes the file `weights` a copy of those of this average in a checkpoint; whether it was not.
pub(crate) fn publish(
    checkpoint: &Path,
    average: &str,
    weights: &Path,
) -> Result<bool, TrainError> {
    let saved = checkpoint.join(average_file(average));
    let is_there = files::are_equal(&saved, weights);
    if !is_there {
        files::copy(&saved, weights)?;
    }
    Ok(!is_there)
}

/// The file of a checkpoint with the weights of this average.
pub(crate) fn average_file(name: &str) -> String {
    format!("ema-{name}.safetensors")
}

fn lock(root: &Path) -> Result<File, TrainError> {
    let path = root.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let lock = file.map_err(TrainError::io("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(TrainError::InUse {
            path: root.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(TrainError::io("lock", &path)(source)),
    }
}

/// The checkpoints of a run directory, which stays unlocked: they are only read.
pub(crate) fn checkpoints_of(root: &Path) -> Checkpoints {
    Checkpoints::new(root.join(CHECKPOINTS))
}

/// Whether there is nothing in a folder that a run could overwrite.
fn is_fresh(root: &Path) -> Result<bool, TrainError> {
    let ours = |name: &String| name == LOCK || is_leftover(name);
    Ok(names(root)?.iter().all(ours))
}

/// Whether a folder is that of a run: it has a checkpoint, or a resolved recipe. A lock file is no sign: others have
/// such files too, and it may be lost.
fn is_run(root: &Path) -> Result<bool, TrainError> {
    let recipe = || {
        let text = fs::read_to_string(root.join(CONFIG)).unwrap_or_default();
        let table = text.parse::<Table>().unwrap_or_default();
        SECTIONS.iter().all(|section| table.contains_key(*section))
    };
    Ok(Checkpoints::new(root.join(CHECKPOINTS)).any()? || recipe())
}

/// Sections that every resolved recipe has.
const SECTIONS: [&str; 4] = ["data", "network", "optimizer", "training"];

/// The weights file that a path given by a user means: the file itself, or that of a run directory.
pub fn weights_of(path: &Path) -> PathBuf {
    let is_folder = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_folder {
        path.join(WEIGHTS)
    } else {
        path.to_owned()
    }
}

/// The weights file of a checkpoint of a run: of the one after `step` steps, or the newest; of the average called `ema`, or
/// the first of the recipe. Without both it is [`weights_of`].
///
/// # Errors
/// [`TrainError::NoWeights`] with those that there are.
pub fn weights_within(
    path: &Path,
    step: Option<u64>,
    ema: Option<&str>,
) -> Result<PathBuf, TrainError> {
    if step.is_none() && ema.is_none() {
        return Ok(weights_of(path));
    }
    let checkpoints = checkpoints_of(path);
    let steps = checkpoints.steps()?;
    let none = |wanted: String, there: Vec<String>| TrainError::NoWeights {
        path: path.to_owned(),
        wanted,
        there,
    };
    let there = || steps.iter().map(u64::to_string).collect();
    let found = match step {
        Some(step) => steps.iter().find(|one| **one == step),
        None => steps.first(),
    };
    let step = *found.ok_or_else(|| {
        let wanted = step.map_or("a checkpoint".to_owned(), |step| {
            format!("a checkpoint after step {step}")
        });
        none(wanted, there())
    })?;
    let checkpoint = Checkpoint::read(&checkpoints.path(step))?;
    let recipe = TrainConfig::parse(&checkpoint.path, &checkpoint.state.recipe, &[])?;
    let averages = recipe.ema.names();
    let name = ema.unwrap_or(averages[0].as_str());
    if averages.iter().any(|average| average == name) {
        return Ok(checkpoint.path.join(average_file(name)));
    }
    Err(none(format!("an average called {name}"), averages))
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
    fn a_lock_file_makes_no_run_and_its_loss_ends_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [LOCK, WEIGHTS, SAMPLES] {
            fs::write(root.join(name), "").unwrap();
        }
        fs::write(root.join(CONFIG), "[server]\nport = 1\n").unwrap();
        assert!(matches!(
            RunDir::open(root),
            Err(TrainError::NotARun { .. })
        ));
        let recipe = "[data]\n[network]\n[optimizer]\n[training]\n";
        fs::write(root.join(CONFIG), recipe).unwrap();
        fs::remove_file(root.join(LOCK)).unwrap();
        let mut run = RunDir::open(root).unwrap();
        assert!(!run.renew().unwrap());
        fs::remove_file(root.join(LOCK)).unwrap();
        assert!(run.renew().unwrap());
        assert!(matches!(RunDir::open(root), Err(TrainError::InUse { .. })));
        fs::remove_dir_all(root).unwrap();
        assert!(run.renew().unwrap());
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
