//! A disk without room is noticed before anything is written, and costs no checkpoint.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use meanflow_files::layer::{Effect, Layer, Operation, under};
use meanflow_torch::Device;
use meanflow_train::{
    Checkpoints, Event, Observer, Outcome, Silent, TrainConfig, TrainError, fingerprint,
    is_out_of_space, train,
};

mod common;

use common::recipe;

const ENOUGH: u64 = 1 << 40;

/// A disk that is said to have so many bytes free, each time that somebody asks; the last answer stays.
#[derive(Debug)]
struct Room {
    answers: Vec<u64>,
    asked: usize,
}

impl Layer for Room {
    fn before(&mut self, _operation: Operation) -> Effect {
        Effect::Whole
    }

    fn free_space(&mut self, _folder: &Path) -> Option<u64> {
        self.asked += 1;
        let last = self.answers.last();
        self.answers.get(self.asked - 1).or(last).copied()
    }
}

/// The steps whose checkpoints could not be written.
#[derive(Debug, Default)]
struct Failures(Vec<u64>);

impl Observer for Failures {
    fn notice(&mut self, event: Event<'_>) {
        if let Event::SaveFailed { step, .. } = event {
            self.0.push(step);
        }
    }
}

fn train_with_room(
    config: TrainConfig,
    root: &Path,
    answers: &[u64],
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    let layer = Rc::new(RefCell::new(Room {
        answers: answers.to_vec(),
        asked: 0,
    }));
    let stop = AtomicBool::new(false);
    under(layer, || train(config, root, Device::Cpu, &stop, observer))
}

/// The refusal of a run, which asks for so many bytes where so many are free.
fn needed(error: &TrainError) -> (u64, u64) {
    assert!(is_out_of_space(error), "{error}");
    match error {
        TrainError::NoRoom { needed, free, .. } => (*needed, *free),
        _ => panic!("{error}"),
    }
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| entry.metadata().unwrap().len()).sum()
}

#[test]
fn a_run_begins_with_room_for_two_saves_only() {
    let folder = tempfile::tempdir().unwrap();
    // A network beside whose numbers headers and recipes are small.
    let wide = ["network.width=256", "training.steps=4"];
    let begin = |root: &Path, free| train_with_room(recipe(&wide), root, &[free], &mut Silent);
    let root = folder.path().join("run");
    let (bytes, free) = needed(&begin(&root, 1000).unwrap_err());
    assert_eq!(free, 1000);
    assert!(!root.join("checkpoints").exists() && !root.join("model.safetensors").exists());
    needed(&begin(&root, bytes - 1).unwrap_err());
    assert_eq!(begin(&root, bytes).unwrap(), Outcome::Finished);
    let written = size(&root.join("checkpoints/step-00000004"))
        + fs::metadata(root.join("model.safetensors")).unwrap().len();
    // Twice what a save writes, and a tenth.
    let saves = bytes as f64 / written as f64;
    assert!((2.0..=2.2).contains(&saves), "{saves} times {written}");
}

#[test]
fn a_save_without_room_ends_a_run_whose_checkpoints_stay() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, root] = ["whole", "run"].map(|name| folder.path().join(name));
    let finish = |root: &Path| train_with_room(recipe(&[]), root, &[ENOUGH], &mut Silent);
    finish(&whole).unwrap();
    // Asked at the start, for the save after step 6, and for the one after step 12.
    let ended = train_with_room(recipe(&[]), &root, &[ENOUGH, ENOUGH, 1000], &mut Silent);
    assert_eq!(needed(&ended.unwrap_err()).1, 1000);
    let checkpoints = Checkpoints::new(root.join("checkpoints"));
    let found = checkpoints.newest().unwrap();
    assert!(found.rejected.is_empty());
    assert_eq!(found.checkpoint.unwrap().state.step, 6);
    // A start without room loses nothing either.
    needed(&train_with_room(recipe(&[]), &root, &[1000], &mut Silent).unwrap_err());
    assert_eq!(checkpoints.steps().unwrap(), [6]);
    finish(&root).unwrap();
    for name in [
        "model.safetensors",
        "checkpoints/step-00000020/optimizer.safetensors",
    ] {
        let hashes = [&whole, &root].map(|run| fingerprint(&run.join(name)).unwrap().1);
        assert_eq!(hashes[0], hashes[1], "{name}");
    }
}

#[test]
fn a_run_that_shall_only_warn_trains_on_without_room() {
    let folder = tempfile::tempdir().unwrap();
    let config = recipe(&["checkpoints={ on_save_error = \"warn\" }"]);
    let mut failures = Failures::default();
    let answers = [ENOUGH, 1000, 1000, ENOUGH];
    let outcome = train_with_room(config, folder.path(), &answers, &mut failures);
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    assert_eq!(failures.0, [6, 12]);
    let steps = Checkpoints::new(folder.path().join("checkpoints")).steps();
    assert_eq!(steps.unwrap(), [20, 18]);
}
