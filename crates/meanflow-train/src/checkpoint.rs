//! Checkpoints as folders that appear whole or not at all.
//!
//! A checkpoint is written into a hidden folder beside the others, every file synced, the manifest of hashes last,
//! then renamed: the rename is the moment from which it counts. Reading takes the newest folder that is exactly what
//! its manifest says, so a checkpoint that was damaged later is passed over, by name and reason.

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use meanflow_data::write_bytes;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::config::CheckpointsConfig;
use crate::files::{create_folder, names, remove_folder, rename, sync_folder};
use crate::guard::Guard;
use crate::manifest::{self, Fingerprints, Flaw};

const PREFIX: &str = "step-";
const TEMPORARY: &str = ".tmp-";
const REJECTED: &str = "rejected-";
const SUPERSEDED: &str = "superseded-";
const STATE: &str = "state.json";

/// Everything a run needs besides tensors. All random numbers follow from the seed and the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointState {
    /// Steps done.
    pub step: u64,
    /// Steps skipped in a row until now, because loss or gradient were not finite.
    pub skipped_in_row: u32,
    /// Length of the metrics file at that step.
    pub metrics_bytes: u64,
    /// Seconds of training until then.
    pub seconds: f64,
    /// The resolved recipe, as text.
    pub recipe: String,
    /// The hash of the data, as [`DataRecord`](crate::DataRecord) has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Changes of the recipe on the way, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<RecipeChange>,
    /// Steps left out, and returns to a checkpoint because of them.
    #[serde(default, skip_serializing_if = "Guard::is_untouched")]
    pub guard: Guard,
}

/// Keys of the recipe that were changed when the run was gone on with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeChange {
    /// Steps done before the change.
    pub after_step: u64,
    /// One line a key: the key, what it was and what it is.
    pub differences: Vec<String>,
}

/// The folder of a run's checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    kept: CheckpointsConfig,
}

/// A checkpoint that is whole.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// What it says besides tensors.
    pub state: CheckpointState,
}

/// What there is to go on from.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The newest that is whole.
    pub checkpoint: Option<Checkpoint>,
    /// The newer ones that are not: path and reason.
    pub rejected: Vec<(PathBuf, String)>,
}

impl Checkpoints {
    /// Checkpoints in this folder, which is created on the first save.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            kept: CheckpointsConfig::default(),
        }
    }

    /// The same folder, of which other checkpoints are kept.
    pub fn keeping(self, kept: CheckpointsConfig) -> Self {
        Self { kept, ..self }
    }

    /// The folder of the checkpoint after `step` steps.
    pub fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{step:08}"))
    }

    /// Writes a checkpoint: `fill` puts the tensor files into the folder it is given, syncs each, and returns the fingerprints that
    /// it knows.
    /// One that is there for this step already stays as it is. Those that are not to be kept are removed.
    ///
    /// # Errors
    /// Those of `fill` and of the file system; the checkpoints that were there are then untouched.
    pub fn save(
        &self,
        state: &CheckpointState,
        fill: impl FnOnce(&Path) -> Result<Fingerprints, TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let path = self.path(state.step);
        if !path.exists() {
            create_folder(&self.folder)?;
            let temporary = self.folder.join(format!("{TEMPORARY}{:08}", state.step));
            let written = self.write(&temporary, &path, state, fill);
            if written.is_err() {
                // The first error is the one worth reporting.
                let _ = remove_folder(&temporary);
            }
            written?;
        }
        self.prune()?;
        Ok(path)
    }

    fn write(
        &self,
        temporary: &Path,
        path: &Path,
        state: &CheckpointState,
        fill: impl FnOnce(&Path) -> Result<Fingerprints, TrainError>,
    ) -> Result<(), TrainError> {
        remove_folder(temporary)?;
        create_folder(temporary)?;
        let known = fill(temporary)?;
        let text =
            serde_json::to_string_pretty(state).expect("a state is made of strings and numbers");
        write_bytes(&temporary.join(STATE), text.as_bytes())?;
        manifest::write(temporary, known)?;
        sync_folder(temporary)?;
        rename(temporary, path)?;
        sync_folder(&self.folder)
    }

    /// The newest checkpoint that is whole, and why newer ones are not.
    ///
    /// # Errors
    /// [`TrainError::NoneWhole`] when there are checkpoints and all are damaged, [`TrainError::Newer`] where a later
    /// version wrote one of them.
    pub fn newest(&self) -> Result<Found, TrainError> {
        let mut found = Found::default();
        for path in self.newest_first()? {
            match read(&path) {
                Ok(state) => {
                    found.checkpoint = Some(Checkpoint { path, state });
                    return Ok(found);
                }
                Err(Flaw::Damaged(reason)) => found.rejected.push((path, reason)),
                Err(Flaw::Newer(version)) => return Err(TrainError::Newer { path, version }),
            }
        }
        if found.rejected.is_empty() {
            return Ok(found);
        }
        Err(TrainError::NoneWhole {
            path: self.folder.clone(),
            rejected: found.rejected,
        })
    }

    /// Makes room for going on: damaged checkpoints get another name, leftovers of killed saves are removed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn tidy(&self, rejected: &[(PathBuf, String)]) -> Result<(), TrainError> {
        for name in names(&self.folder)?
            .iter()
            .filter(|name| name.starts_with(TEMPORARY))
        {
            remove_folder(&self.folder.join(name))?;
        }
        for (path, _) in rejected {
            self.set_aside(path, REJECTED)?;
        }
        Ok(())
    }

    /// Gives every checkpoint after `step` another name: a run that goes on from there writes its own.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn supersede(&self, step: u64) -> Result<(), TrainError> {
        for path in self.newest_first()? {
            if path > self.path(step) {
                self.set_aside(&path, SUPERSEDED)?;
            }
        }
        Ok(())
    }

    fn set_aside(&self, path: &Path, prefix: &str) -> Result<(), TrainError> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let aside = self.folder.join(format!("{prefix}{name}"));
        remove_folder(&aside)?;
        rename(path, &aside)
    }

    /// Whether there is a folder of a checkpoint with its manifest, whole or not.
    pub(crate) fn any(&self) -> Result<bool, TrainError> {
        let paths = self.newest_first()?;
        Ok(paths.iter().any(|path| manifest::is_in(path)))
    }

    /// The steps after which there are checkpoints, the newest first.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn steps(&self) -> Result<Vec<u64>, TrainError> {
        let paths = self.newest_first()?;
        Ok(paths.iter().filter_map(|path| step_of(path)).collect())
    }

    fn newest_first(&self) -> Result<Vec<PathBuf>, TrainError> {
        let names = names(&self.folder)?;
        let paths = names.iter().map(|name| self.folder.join(name));
        let mut steps: Vec<(u64, PathBuf)> = paths
            .filter_map(|path| Some((step_of(&path)?, path)))
            .collect();
        steps.sort_unstable_by(|one, other| other.cmp(one));
        Ok(steps.into_iter().map(|(_, path)| path).collect())
    }

    /// Removes all that are not to be kept. A folder loses its manifest's trust first: it is renamed, then deleted.
    fn prune(&self) -> Result<(), TrainError> {
        let all = self.newest_first()?;
        let kept_for_ever = |path: &Path| {
            let every = self.kept.keep_every.map(NonZeroU64::get);
            every.is_some_and(|every| step_of(path).is_some_and(|step| step.is_multiple_of(every)))
        };
        let old = all.iter().skip(self.kept.keep_last.get());
        for (index, path) in old.filter(|path| !kept_for_ever(path)).enumerate() {
            let trash = self.folder.join(format!("{TEMPORARY}trash-{index}"));
            remove_folder(&trash)?;
            rename(path, &trash)?;
            remove_folder(&trash)?;
        }
        Ok(())
    }
}

fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix(PREFIX)?.parse().ok()
}

fn read(path: &Path) -> Result<CheckpointState, Flaw> {
    manifest::verify(path)?;
    let text = fs::read_to_string(path.join(STATE)).map_err(|error| format!("{STATE}: {error}"))?;
    let state: CheckpointState =
        serde_json::from_str(&text).map_err(|error| format!("{STATE}: {error}"))?;
    match step_of(path) {
        Some(step) if step != state.step => Err(Flaw::Damaged(format!(
            "{STATE}: expected step {step}, as the folder is called, got {}",
            state.step
        ))),
        _ => Ok(state),
    }
}

impl Checkpoint {
    /// The checkpoint in this folder.
    ///
    /// # Errors
    /// [`TrainError::NoneWhole`] when it is damaged, [`TrainError::Newer`] when a later version wrote it.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let path = path.to_owned();
        match read(&path) {
            Ok(state) => Ok(Self { path, state }),
            Err(Flaw::Newer(version)) => Err(TrainError::Newer { path, version }),
            Err(Flaw::Damaged(reason)) => Err(TrainError::NoneWhole {
                rejected: vec![(path.clone(), reason)],
                path,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(step: u64) -> CheckpointState {
        CheckpointState {
            step,
            skipped_in_row: 0,
            metrics_bytes: 12,
            seconds: 0.1 + 0.2,
            recipe: "seed = 1".into(),
            changes: Vec::new(),
            data: Some("0f".into()),
            guard: Guard::default(),
        }
    }

    fn save(checkpoints: &Checkpoints, step: u64) -> PathBuf {
        let fill = |folder: &Path| {
            write_bytes(&folder.join("model.safetensors"), &[step as u8; 64])?;
            Ok(Fingerprints::new())
        };
        checkpoints.save(&state(step), fill).unwrap()
    }

    fn flip(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        bytes[10] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn the_newest_is_read_back_and_three_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().join("checkpoints"));
        assert!(checkpoints.newest().unwrap().checkpoint.is_none());
        for step in [5, 10, 100, 20] {
            save(&checkpoints, step);
        }
        assert_eq!(
            checkpoints.newest().unwrap().checkpoint.unwrap().state,
            state(100)
        );
        assert_eq!(
            names(&checkpoints.folder).unwrap(),
            ["step-00000010", "step-00000020", "step-00000100"]
        );
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().to_owned());
        save(&checkpoints, 1);
        let newer = save(&checkpoints, 2);
        flip(&newer.join("model.safetensors"));
        let found = checkpoints.newest().unwrap();
        assert_eq!(found.checkpoint.unwrap().state.step, 1);
        assert_eq!(found.rejected.len(), 1);
        assert!(found.rejected[0].1.contains("model.safetensors"));
        checkpoints.tidy(&found.rejected).unwrap();
        save(&checkpoints, 2);
        assert_eq!(
            checkpoints.newest().unwrap().checkpoint.unwrap().state.step,
            2
        );
    }

    #[test]
    fn when_all_are_damaged_nothing_is_started_over() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().to_owned());
        flip(&save(&checkpoints, 1).join(STATE));
        assert!(matches!(
            checkpoints.newest(),
            Err(TrainError::NoneWhole { .. })
        ));
    }

    #[test]
    fn a_folder_under_the_name_of_another_step_is_no_checkpoint_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().to_owned());
        let nine = save(&checkpoints, 9);
        save(&checkpoints, 6);
        fs::rename(nine, checkpoints.path(12)).unwrap();
        let found = checkpoints.newest().unwrap();
        assert_eq!(found.checkpoint.unwrap().state.step, 6);
        assert!(found.rejected[0].1.contains("expected step 12"));
    }

    #[test]
    fn every_so_many_steps_one_is_kept_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let kept = CheckpointsConfig {
            keep_last: 2.try_into().unwrap(),
            keep_every: NonZeroU64::new(10),
            ..CheckpointsConfig::default()
        };
        let checkpoints = Checkpoints::new(folder.path().to_owned()).keeping(kept);
        for step in 1..=7 {
            save(&checkpoints, 5 * step);
        }
        assert_eq!(checkpoints.steps().unwrap(), [35, 30, 20, 10]);
    }

    #[test]
    fn checkpoints_after_the_one_gone_on_from_are_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().to_owned());
        for step in [1, 2, 3] {
            save(&checkpoints, step);
        }
        checkpoints.supersede(1).unwrap();
        assert_eq!(checkpoints.steps().unwrap(), [1]);
        assert!(folder.path().join("superseded-step-00000003").exists());
    }

    #[test]
    fn a_failed_save_leaves_the_others_and_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().to_owned());
        save(&checkpoints, 1);
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = checkpoints
            .save(&state(2), |folder| {
                Err(TrainError::io("write", folder)(full()))
            })
            .unwrap_err();
        assert!(crate::is_out_of_space(&error));
        assert_eq!(names(folder.path()).unwrap(), ["step-00000001"]);
        assert_eq!(
            checkpoints.newest().unwrap().checkpoint.unwrap().state.step,
            1
        );
    }

    #[test]
    fn a_killed_save_is_no_checkpoint_and_is_cleaned_up() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().to_owned());
        let whole = save(&checkpoints, 1);
        fs::rename(whole, folder.path().join(".tmp-00000001")).unwrap();
        assert!(checkpoints.newest().unwrap().checkpoint.is_none());
        checkpoints.tidy(&[]).unwrap();
        assert!(names(folder.path()).unwrap().is_empty());
    }
}
