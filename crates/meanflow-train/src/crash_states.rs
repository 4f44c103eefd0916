//! What a save leaves on the disk when the power is cut, or a call fails, at any moment.
//!
//! A save is recorded change by change. Then, for every number of changes that were made, the folder is put together as a
//! disk may hold it: what was synced is there, what was not may be there, be lost, be torn, or be there without what came
//! before it. From each of these states a run must go on from the old checkpoint or the new one, with weights that fit.

mod disk;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use meanflow_core::random::{Purpose, RngStream};
use meanflow_files::layer::{Effect, Layer, Operation, under};
use meanflow_torch::{Tensor, weights};
use tempfile::TempDir;

use self::disk::{Choice, Disk};
use crate::checkpoint::{CheckpointState, Checkpoints};
use crate::guard::Guard;
use crate::run_dir::publish;
use crate::saver::{Save, Snapshot};
use crate::{TrainError, is_out_of_space};

const WEIGHTS: &str = "model.safetensors";
const AVERAGE: &str = "0.9";

/// Notes every change, and lets it be made.
#[derive(Debug, Default)]
struct Recorder(Vec<Operation>);

impl Layer for Recorder {
    fn before(&mut self, operation: Operation) -> Effect {
        self.0.push(operation);
        Effect::Whole
    }
}

/// A save of a run whose numbers are all those of its step.
fn save(root: &Path, step: u64) -> Save {
    let mut snapshot = Snapshot::default();
    let numbers = Tensor::from_slice(&vec![step as f32; 300]);
    for name in [
        "model.safetensors",
        "ema-0.9.safetensors",
        "optimizer.safetensors",
    ] {
        let tensors = [("numbers".to_owned(), numbers.shallow_clone())];
        let metadata = BTreeMap::from([("step".to_owned(), step.to_string())]);
        snapshot.add(name, &tensors, metadata);
    }
    Save {
        checkpoints: Checkpoints::new(root.join("checkpoints")),
        state: CheckpointState {
            step,
            skipped_in_row: 0,
            metrics_bytes: 0,
            seconds: 0.0,
            recipe: String::new(),
            changes: Vec::new(),
            data: None,
            guard: Guard::default(),
        },
        snapshot,
        metrics: tempfile::tempfile().unwrap(),
        weights: root.join(WEIGHTS),
        average: AVERAGE.to_owned(),
        curve: (root.join("loss.svg"), format!("<svg>{step}</svg>")),
    }
}

/// The step that a run in this folder goes on from, after what every start does: none where there is no checkpoint.
///
/// Afterwards weights and checkpoint are of the same step, and nothing unfinished is left.
fn recovered(root: &Path) -> Option<u64> {
    let checkpoints = Checkpoints::new(root.join("checkpoints"));
    let found = match checkpoints.newest() {
        // A damaged one beside no whole one: that would be a loss.
        Err(error) => panic!("{error}"),
        Ok(found) => found,
    };
    checkpoints.tidy(&found.rejected).unwrap();
    let checkpoint = found.checkpoint?;
    let step = checkpoint.state.step;
    publish(&checkpoint.path, AVERAGE, &root.join(WEIGHTS)).unwrap();
    for path in [
        root.join(WEIGHTS),
        checkpoint.path.join("model.safetensors"),
    ] {
        weights::verify(&path).unwrap();
        assert_eq!(
            weights::header(&path).unwrap().metadata["step"],
            step.to_string()
        );
    }
    Some(step)
}

/// A run with checkpoints after these steps, of which the last save is recorded: the folder before it and the changes.
fn recorded(root: &Path, steps: &[u64]) -> (Disk, Vec<Operation>) {
    let (last, before) = steps.split_last().unwrap();
    for step in before {
        save(root, *step).run().unwrap();
    }
    let disk = Disk::read(root);
    let recorder = Rc::new(RefCell::new(Recorder::default()));
    under(recorder.clone(), || save(root, *last).run()).unwrap();
    let changes = std::mem::take(&mut recorder.borrow_mut().0);
    (disk, changes)
}

/// What the disk may make of these changes.
fn choices(disk: &Disk, changes: &[Operation], root: &Path) -> Vec<Choice> {
    let pending = disk.pending(changes, root);
    let mut choices = vec![Choice::all(&pending), Choice::none(&pending)];
    for place in 0..pending.len() {
        choices.push(Choice::all(&pending).without(place));
        choices.push(Choice::none(&pending).with(place));
        choices.push(Choice::all(&pending).torn(place));
    }
    let mut random = RngStream::new(7, Purpose::Data, changes.len() as u64);
    for _ in 0..40 {
        choices.push(Choice::random(&pending, |bound| random.below(bound)));
    }
    choices
}

/// A folder in memory where there is one: thousands of real syncs would take minutes, and nothing here depends on them.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory)
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// All states of a save: how many there were. `steps` are the checkpoints before it and its own; changes that are not made are
/// left out.
fn every_state(steps: &[u64], is_made: fn(&Operation) -> bool) -> usize {
    let folder = scratch();
    let root = folder.path().join("run");
    fs::create_dir(&root).unwrap();
    let (disk, mut changes) = recorded(&root, steps);
    changes.retain(is_made);
    let (new, old) = (steps.last().copied(), steps.iter().rev().nth(1).copied());
    let committed = commit(&changes);
    let mut states = 0;
    for made in 0..=changes.len() {
        for choice in choices(&disk, &changes[..made], &root) {
            let place = folder.path().join("state");
            disk.write(&changes[..made], &choice, &root, &place);
            let step = recovered(&place);
            assert!(
                step == new || step == old && made <= committed,
                "after {made} of {} changes: {step:?}",
                changes.len()
            );
            fs::remove_dir_all(&place).unwrap();
            states += 1;
        }
    }
    states
}

/// The place of the sync that makes the renamed checkpoint durable.
fn commit(changes: &[Operation]) -> usize {
    let is_commit = |one: &Operation| matches!(one, Operation::Rename { to, .. } if to.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")));
    let rename = changes.iter().position(is_commit).unwrap();
    let synced = changes[rename..]
        .iter()
        .position(|one| matches!(one, Operation::SyncFolder(_)));
    rename + synced.unwrap()
}

#[test]
fn a_power_cut_in_a_save_leaves_the_old_checkpoint_or_the_new_one() {
    let states = every_state(&[1, 2], |_| true);
    println!("{states} states");
    assert!(states >= 2000, "{states}");
}

/// The fourth checkpoint removes the first.
#[test]
fn a_power_cut_while_an_old_checkpoint_is_removed_costs_nothing() {
    every_state(&[1, 2, 3, 4], |_| true);
}

/// So the states find what they are for.
#[test]
#[should_panic(expected = "changes: ")]
fn without_syncing_files_a_power_cut_would_lose_the_new_checkpoint() {
    every_state(&[1, 2], |change| !matches!(change, Operation::SyncFile(_)));
}

/// Fails one change, or that and all after it.
#[derive(Debug)]
struct Fails {
    from: usize,
    only: bool,
    seen: usize,
    effect: fn() -> Effect,
}

impl Layer for Fails {
    fn before(&mut self, _: Operation) -> Effect {
        self.seen += 1;
        let place = self.seen - 1;
        if place == self.from || place > self.from && !self.only {
            (self.effect)()
        } else {
            Effect::Whole
        }
    }
}

/// Saves with a failure; what came of it, and how many changes there were.
fn save_with(
    root: &Path,
    from: usize,
    only: bool,
    effect: fn() -> Effect,
) -> (Result<PathBuf, TrainError>, usize) {
    let layer = Rc::new(RefCell::new(Fails {
        from,
        only,
        seen: 0,
        effect,
    }));
    let result = under(layer.clone(), || save(root, 2).run());
    let seen = layer.borrow().seen;
    (result, seen)
}

/// Fails every change of a save in turn; how many there were.
fn every_failure(only: bool, effect: fn() -> Effect, check: impl Fn(&TrainError)) -> usize {
    for from in 0.. {
        let folder = scratch();
        let root = folder.path();
        save(root, 1).run().unwrap();
        let (result, seen) = save_with(root, from, only, effect);
        let step = recovered(root);
        match &result {
            Ok(_) => assert_eq!(step, Some(2)),
            Err(error) => {
                check(error);
                assert!(matches!(step, Some(1 | 2)));
            }
        }
        // The same command again.
        save(root, 2).run().unwrap();
        assert_eq!(recovered(root), Some(2));
        if from >= seen {
            return from;
        }
    }
    unreachable!("a save has an end")
}

/// A full disk, a full quota, a bad block, and a file system that became read-only.
const ERRORS: [fn() -> Effect; 4] = [
    || Effect::Failed(Error::from_raw_os_error(28)),
    || Effect::Failed(Error::from_raw_os_error(122)),
    || Effect::Failed(Error::from_raw_os_error(5)),
    || Effect::Failed(Error::from_raw_os_error(30)),
];

#[test]
fn whichever_call_fails_a_checkpoint_is_left_and_the_next_save_succeeds() {
    let mut cases = 0;
    for only in [true, false] {
        for (number, error) in ERRORS.into_iter().enumerate() {
            cases += every_failure(only, error, |error| {
                assert_eq!(is_out_of_space(error), number < 2, "{error}");
            });
        }
    }
    let none = |error: &TrainError| panic!("{error}");
    let interrupted = || Effect::Failed(ErrorKind::Interrupted.into());
    cases += every_failure(true, interrupted, none);
    cases += every_failure(false, || Effect::Short(100), none);
    println!("{cases} cases");
    assert!(cases >= 400, "{cases}");
}
