//! A checkpoint or the weights are damaged in every way that a disk or a hand can: it is noticed, named, and the run ends as if
//! nothing had been.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::common::recipe;
use crate::damage::inputs;
use meanflow_core::random::{Purpose, RngStream};
use meanflow_torch::Device;
use meanflow_train::{Event, Observer, TrainError, fingerprint, train};
use serde_json::Value;
use tempfile::TempDir;

/// The newest of the three that a run of twenty steps leaves.
const NEWEST: &str = "checkpoints/step-00000020";
const PAGE: usize = 4096;

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// One bit is turned.
    Flip,
    /// The end is missing.
    Truncation,
    /// A page holds zeros.
    Zeros,
    /// It is not there.
    Missing,
    /// It holds what another file of the run holds.
    Swapped,
}

impl Damage {
    /// Does it; whether anything has changed by it.
    fn strike(self, path: &Path, others: &[PathBuf], random: &mut RngStream) -> bool {
        let whole = fs::read(path).unwrap();
        let mut bytes = whole.clone();
        let place = random.below(whole.len() as u64) as usize;
        match self {
            Self::Flip => bytes[place] ^= 1 << random.below(8),
            Self::Truncation => bytes.truncate(place),
            Self::Zeros => {
                let begin = place - place % PAGE;
                let end = (begin + PAGE).min(bytes.len());
                bytes[begin..end].fill(0);
            }
            Self::Missing => {
                fs::remove_file(path).unwrap();
                return true;
            }
            Self::Swapped => {
                let other = &others[random.below(others.len() as u64) as usize];
                bytes = fs::read(other).unwrap();
            }
        }
        fs::write(path, &bytes).unwrap();
        // A manifest with other blanks says the same.
        let said = [&whole, &bytes].map(|bytes| serde_json::from_slice::<Value>(bytes).ok());
        bytes != whole && (said[0].is_none() || said[0] != said[1])
    }
}

/// What a start said was damaged, or made again.
#[derive(Debug, Default)]
struct Noticed(Vec<PathBuf>);

impl Observer for Noticed {
    fn notice(&mut self, event: Event<'_>) {
        if let Event::Rejected { path, .. } | Event::Restored(path) = event {
            self.0.push(path.to_owned());
        }
    }
}

/// In memory where that is possible: every start syncs a dozen files.
fn folder() -> TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).unwrap()
}

fn start(root: &Path) -> Result<Noticed, TrainError> {
    let (stop, mut noticed) = (AtomicBool::new(false), Noticed::default());
    train(recipe(&[]), root, Device::Cpu, &stop, &mut noticed)?;
    Ok(noticed)
}

/// The hash of every file of tensors that a run ends with.
fn results(root: &Path) -> BTreeMap<PathBuf, String> {
    let tensors = files(root, NEWEST).into_iter().filter(|path| {
        let extension = path.extension();
        extension.is_some_and(|extension| extension == "safetensors")
    });
    tensors
        .chain([root.join("model.safetensors"), root.join("loss.svg")])
        .map(|path| {
            (
                path.strip_prefix(root).unwrap().to_owned(),
                fingerprint(&path).unwrap().1,
            )
        })
        .collect()
}

/// The files of a folder below the run, in order.
fn files(root: &Path, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in files(from, "") {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn damages_of_every_kind_are_noticed_and_change_no_bit() {
    let folder = folder();
    // The name shows in the title of the curve.
    let (kept, root) = (folder.path().join("kept"), folder.path().join("run"));
    start(&root).unwrap();
    let expected = results(&root);
    fs::rename(&root, &kept).unwrap();
    let mut random = RngStream::new(1, Purpose::Data, 5);
    let flips = inputs(1000);
    for (damage, count) in [
        (Damage::Flip, flips),
        (Damage::Truncation, flips.div_ceil(10)),
        (Damage::Zeros, flips.div_ceil(50)),
        (Damage::Missing, flips.div_ceil(50)),
        (Damage::Swapped, flips.div_ceil(50)),
    ] {
        for number in 0..count {
            copy(&kept, &root);
            let mut targets = files(&root, NEWEST);
            targets.push(root.join("model.safetensors"));
            let path = targets[random.below(targets.len() as u64) as usize].clone();
            let changed = damage.strike(&path, &targets, &mut random);
            let noticed = start(&root).unwrap();
            let is_named = noticed.0.iter().any(|named| path.starts_with(named));
            assert!(
                is_named || !changed,
                "{damage:?} {number} of {path:?}: {noticed:?}"
            );
            assert_eq!(results(&root), expected, "{damage:?} {number} of {path:?}");
            fs::remove_dir_all(&root).unwrap();
        }
        println!("{damage:?}: {count}");
    }
}

#[test]
fn damages_of_all_checkpoints_end_a_run_before_anything_is_trained_over() {
    let folder = folder();
    let root = folder.path().join("run");
    start(&root).unwrap();
    let mut random = RngStream::new(1, Purpose::Data, 6);
    for checkpoint in files(&root, "checkpoints") {
        let path = checkpoint.join("optimizer.safetensors");
        assert!(Damage::Flip.strike(&path, &[], &mut random));
    }
    let before: Vec<_> = files(&root, "checkpoints");
    let error = start(&root).unwrap_err();
    let TrainError::NoneWhole { rejected, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(rejected.len(), 3, "{error}");
    assert_eq!(files(&root, "checkpoints"), before);
}
