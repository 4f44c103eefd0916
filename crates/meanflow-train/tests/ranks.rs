//! A run on several processes, here threads, has the digits of one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use meanflow_data::custom::{self, DatasetBuilder};
use meanflow_data::{DataError, Dataset, DatasetInfo, Examples, toy};
use meanflow_torch::{Device, LibtorchError, Store, TorchError, World};
use meanflow_train::{
    Observer, Outcome, RunOptions, Silent, TrainConfig, TrainError, fingerprint, metrics,
    train_among,
};
use serde::Deserialize;

mod common;
#[path = "common/rollbacks.rs"]
mod rollbacks;

use common::{StopAt, recipe};
use rollbacks::Rollbacks;

/// Enough for a busy machine; nothing here waits so long unless it is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// Twelve microbatches can be shared by 1, 2, 3 and 4 processes; 32 rows are 2 or 3 in each.
const SHARED: &str = "training.microbatches=12";

/// What each of `size` ranks makes of a run; rank 0 tells `observer`.
fn run(
    root: &Path,
    size: usize,
    config: impl Fn(usize) -> TrainConfig + Sync,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Vec<Result<Outcome, TrainError>> {
    run_with(root, size, config, &RunOptions::default(), stop, observer)
}

fn run_with(
    root: &Path,
    size: usize,
    config: impl Fn(usize) -> TrainConfig + Sync,
    options: &RunOptions,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Vec<Result<Outcome, TrainError>> {
    let store = Store::in_process(PATIENCE).unwrap();
    let train = |rank, observer: &mut dyn Observer| {
        RANK.set(rank);
        let (config, world) = (
            config(rank),
            World {
                rank,
                size,
                local_rank: rank,
            },
        );
        let peers = world.meet(&store, "127.0.0.1", Device::Cpu, PATIENCE);
        train_among(
            config,
            root,
            Device::Cpu,
            options,
            Some(peers.unwrap()),
            stop,
            observer,
        )
    };
    thread::scope(|scope| {
        let train = &train;
        let others: Vec<_> = (1..size)
            .map(|rank| scope.spawn(move || train(rank, &mut Silent)))
            .collect();
        let first = train(0, observer);
        let others = others.into_iter().map(|other| other.join().unwrap());
        std::iter::once(first).chain(others).collect()
    })
}

/// Each process has the moments and averages of its own parameters alone.
const SHARDED: &str = "compute.shard_optimizer=true";

fn whole(root: &Path, size: usize) -> Vec<Result<Outcome, TrainError>> {
    whole_by(root, size, &[SHARED])
}

fn whole_by(root: &Path, size: usize, overrides: &[&str]) -> Vec<Result<Outcome, TrainError>> {
    let stop = AtomicBool::new(false);
    run(root, size, |_| recipe(overrides), &stop, &mut Silent)
}

/// What must not depend on how a run went: the hashes of its weights and state, and its metrics without their times.
fn results(root: &Path) -> (Vec<String>, Vec<[u64; 4]>) {
    results_after(root, 20)
}

fn results_after(root: &Path, step: u64) -> (Vec<String>, Vec<[u64; 4]>) {
    let names = ["model", "ema-0.9", "ema-0.5", "optimizer"];
    let files = names.map(|name| {
        let file = format!("checkpoints/step-{step:08}/{name}.safetensors");
        fingerprint(&root.join(file)).unwrap().1
    });
    let records = metrics::read(&root.join("metrics.jsonl")).unwrap().records;
    let numbers = records.iter().map(|one| {
        let numbers = [one.loss, one.v_loss, one.grad_norm].map(f64::to_bits);
        [one.step, numbers[0], numbers[1], numbers[2]]
    });
    (files.to_vec(), numbers.collect())
}

#[test]
fn one_two_three_and_four_processes_give_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let root = |size: usize| folder.path().join(size.to_string());
    for size in [1, 2, 3, 4] {
        for outcome in whole(&root(size), size) {
            assert_eq!(outcome.unwrap(), Outcome::Finished);
        }
    }
    let alone = folder.path().join("alone");
    let (config, stop) = (recipe(&[SHARED]), AtomicBool::new(false));
    meanflow_train::train(config, &alone, Device::Cpu, &stop, &mut Silent).unwrap();
    let expected = results(&alone);
    assert_eq!(expected.1.len(), 20);
    for size in [1, 2, 3, 4] {
        assert_eq!(results(&root(size)), expected, "{size}");
    }
}

#[test]
fn a_sharded_optimizer_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let root = |name: &str, size: usize| folder.path().join(format!("{name}-{size}"));
    whole(&root("plain", 1), 1).remove(0).unwrap();
    for size in [1, 2, 3, 4] {
        for outcome in whole_by(&root("sharded", size), size, &[SHARED, SHARDED]) {
            assert_eq!(outcome.unwrap(), Outcome::Finished);
        }
    }
    let expected = results(&root("sharded", 1));
    // The files say which recipe it was; the numbers do not depend on it.
    assert_eq!(expected.1, results(&root("plain", 1)).1);
    for size in [2, 3, 4] {
        assert_eq!(results(&root("sharded", size)), expected, "{size}");
        let [own, alone] = [size, 1].map(|size| {
            let name = "samples/step-000020.png";
            fs::read(root("sharded", size).join(name)).unwrap()
        });
        assert!(own == alone, "{size}");
    }
}

#[test]
fn other_sums_are_the_same_for_all_and_near_those_of_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    whole(&tree, 1).remove(0).unwrap();
    let (_, expected) = results(&tree);
    // Rounding of f32, and of gradients to eight bits, over twenty steps.
    for (sum, bound) in [("fastest", 1e-4), ("fastest-bf16", 5e-2)] {
        for (place, sharded) in ["false", "true"].into_iter().enumerate() {
            let root = folder.path().join(format!("{sum}-{place}"));
            let sum = format!("compute.gradient_sum=\"{sum}\"");
            let sharded = format!("compute.shard_optimizer={sharded}");
            for outcome in whole_by(&root, 3, &[SHARED, &sum, &sharded]) {
                assert_eq!(outcome.unwrap(), Outcome::Finished);
            }
            let (_, got) = results(&root);
            assert_eq!(got.len(), 20);
            for (expected, got) in expected.iter().zip(&got) {
                let [expected, got] = [expected[2], got[2]].map(f64::from_bits);
                assert!(
                    (expected - got).abs() <= bound * expected,
                    "{expected} {got}"
                );
            }
        }
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    for overrides in [&[SHARED][..], &[SHARED, SHARDED]] {
        goes_on_with_another_number_of_processes(overrides);
    }
}

fn goes_on_with_another_number_of_processes(overrides: &[&str]) {
    let whole = |root: &Path, size| whole_by(root, size, overrides);
    let folder = tempfile::tempdir().unwrap();
    let (stopped, alone) = (folder.path().join("stopped"), folder.path().join("alone"));
    let stop = AtomicBool::new(false);
    let mut observer = StopAt {
        step: 10,
        stop: &stop,
    };
    for outcome in run(&stopped, 4, |_| recipe(overrides), &stop, &mut observer) {
        assert_eq!(outcome.unwrap(), Outcome::Stopped(10));
    }
    for outcome in whole(&stopped, 2) {
        assert_eq!(outcome.unwrap(), Outcome::Finished);
    }
    whole(&alone, 1).remove(0).unwrap();
    assert_eq!(results(&stopped), results(&alone));
    // What is finished is said to everybody.
    for outcome in whole(&stopped, 2) {
        assert_eq!(outcome.unwrap(), Outcome::Finished);
    }
}

/// A checkerboard one number of which is NaN in every batch from step 12 on, unless a run sees the data of far later steps.
#[derive(Debug)]
struct Poisoned(Box<dyn Dataset>);

impl Dataset for Poisoned {
    fn info(&self) -> &DatasetInfo {
        self.0.info()
    }

    fn batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<Examples, DataError> {
        let mut examples = self.0.batch(indices, seed, step)?;
        if (12..1000).contains(&step) {
            let last = examples.values.len() - 1;
            examples.values[last] = f32::NAN;
        }
        Ok(examples)
    }
}

/// What describes it: nothing.
#[derive(Deserialize)]
struct Poison {}

impl DatasetBuilder for Poison {
    fn load(self, seed: u64) -> Result<Box<dyn Dataset>, DataError> {
        Ok(Box::new(Poisoned(Box::new(toy::checkerboard(500, seed)?))))
    }
}

thread_local! {
    /// Which rank a thread is.
    static RANK: Cell<usize> = const { Cell::new(0) };
}

/// How often a rank made a whole batch, and which rows it made of which step.
type Made = (usize, BTreeMap<u64, Vec<usize>>);

/// That of every rank.
static MADE: Mutex<BTreeMap<usize, Made>> = Mutex::new(BTreeMap::new());

/// A checkerboard that writes down what is made of it.
#[derive(Debug)]
struct Counted {
    data: Box<dyn Dataset>,
    rank: usize,
}

impl Dataset for Counted {
    fn info(&self) -> &DatasetInfo {
        self.data.info()
    }

    fn batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<Examples, DataError> {
        MADE.lock().unwrap().entry(self.rank).or_default().0 += 1;
        self.data.batch(indices, seed, step)
    }

    fn batch_rows(
        &self,
        indices: &[usize],
        rows: &[usize],
        seed: u64,
        step: u64,
    ) -> Result<Examples, DataError> {
        let mut made = MADE.lock().unwrap();
        let (_, steps) = made.entry(self.rank).or_default();
        let before = steps.insert(step, rows.to_vec());
        assert!(before.is_none_or(|before| before == rows));
        drop(made);
        self.data.batch_rows(indices, rows, seed, step)
    }
}

/// What describes it: nothing.
#[derive(Deserialize)]
struct Counting {}

impl DatasetBuilder for Counting {
    fn load(self, seed: u64) -> Result<Box<dyn Dataset>, DataError> {
        Ok(Box::new(Counted {
            data: Box::new(toy::checkerboard(500, seed)?),
            rank: RANK.get(),
        }))
    }
}

#[test]
fn a_process_makes_no_rows_but_its_own() {
    custom::register::<Counting>("counted").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = "data={ kind = \"custom\", name = \"counted\", conditional = false }";
    for size in [1, 2, 4] {
        MADE.lock().unwrap().clear();
        let (root, stop) = (folder.path().join(size.to_string()), AtomicBool::new(false));
        for outcome in run(&root, size, |_| recipe(&[SHARED, data]), &stop, &mut Silent) {
            assert_eq!(outcome.unwrap(), Outcome::Finished);
        }
        let made = MADE.lock().unwrap();
        for step in 0..20 {
            let mut all: Vec<usize> = Vec::new();
            for (rank, (_, steps)) in &*made {
                // Microbatches 3, 4 and 5 of twelve, as the second of four.
                let own = rank * 12 / size..(rank + 1) * 12 / size;
                assert!(steps[&step].iter().all(|row| own.contains(&(row % 12))));
                all.extend(&steps[&step]);
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(0..32), "{size} {step}");
        }
        // The fingerprint of the data alone is made of whole samples by all, and rank 0 draws a picture of some.
        assert!(
            made.iter()
                .all(|(rank, (whole, _))| *whole == if *rank == 0 { 2 } else { 1 })
        );
    }
}

/// The last row of the batch is that of the last process: it alone sees the NaN before the gradients are summed.
#[test]
fn all_processes_go_back_to_the_same_checkpoint_and_on_with_the_same_other_data() {
    custom::register::<Poison>("poisoned").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = |size: usize| folder.path().join(size.to_string());
    let data = "data={ kind = \"custom\", name = \"poisoned\", conditional = false }";
    let stop = AtomicBool::new(false);
    for (asynchronous, sharded) in [(false, false), (true, false), (true, true)] {
        let asynchronous = format!("compute.async_metrics={asynchronous}");
        let sharded = format!("compute.shard_optimizer={sharded}");
        let config = |_| recipe(&[SHARED, data, "training.steps=30", &asynchronous, &sharded]);
        for size in [1, 2, 3] {
            let mut rollbacks = Rollbacks::default();
            for outcome in run(&root(size), size, config, &stop, &mut rollbacks) {
                assert_eq!(outcome.unwrap(), Outcome::Finished);
            }
            // Ten in a row were left out.
            assert_eq!(rollbacks.0, [(22, 12, 1)], "{size}");
        }
        let expected = results_after(&root(1), 30);
        assert_eq!(expected.1.len(), 30);
        for size in [2, 3] {
            assert_eq!(results_after(&root(size), 30), expected, "{size}");
            let crashes = [1, size].map(|size| fs::read(root(size).join("crash-1.json")).unwrap());
            assert!(crashes[0] == crashes[1], "{size}");
        }
        for size in [1, 2, 3] {
            fs::remove_dir_all(root(size)).unwrap();
        }
    }
}

#[test]
fn an_update_that_overflows_takes_all_processes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (stop, steps) = (AtomicBool::new(false), "training.steps=60");
    let mut until = StopAt {
        step: 12,
        stop: &stop,
    };
    for outcome in run(
        folder.path(),
        2,
        |_| recipe(&[SHARED, steps]),
        &stop,
        &mut until,
    ) {
        assert_eq!(outcome.unwrap(), Outcome::Stopped(12));
    }
    let options = RunOptions {
        allow_changes: vec!["lr.peak".into()],
        ..RunOptions::default()
    };
    let (stop, mut rollbacks) = (AtomicBool::new(false), Rollbacks::default());
    let config = |_| recipe(&[SHARED, steps, "lr.peak=1e300"]);
    let outcomes = run_with(folder.path(), 2, config, &options, &stop, &mut rollbacks);
    let error = outcomes[0].as_ref().unwrap_err();
    let overflowed = matches!(error, TrainError::WeightsNotFinite { step: 13 });
    assert!(overflowed, "{error}");
    assert!(outcomes[1].is_err());
    assert_eq!(rollbacks.0, [(13, 12, 1), (13, 12, 2), (13, 12, 3)]);
}

#[test]
fn another_recipe_on_one_of_them_is_refused_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let config = |rank| match rank {
        2 => recipe(&[SHARED, "lr.peak=0.5"]),
        _ => recipe(&[SHARED]),
    };
    let stop = AtomicBool::new(false);
    for outcome in run(folder.path(), 3, config, &stop, &mut Silent) {
        let error = outcome.unwrap_err();
        assert!(matches!(error, TrainError::Ranks { rank: 2 }), "{error}");
    }
}

#[test]
fn microbatches_that_cannot_be_shared_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let outcomes = run(
        folder.path(),
        2,
        |_| recipe(&["training.microbatches=3"]),
        &stop,
        &mut Silent,
    );
    for outcome in outcomes {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("a multiple of 2"), "{error}");
    }
}

#[test]
fn a_lost_process_ends_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_process(PATIENCE).unwrap();
    let world = |rank| World {
        rank,
        size: 2,
        local_rank: rank,
    };
    let meet = |rank| {
        world(rank)
            .meet(&store, "127.0.0.1", Device::Cpu, PATIENCE)
            .unwrap()
    };
    thread::scope(|scope| {
        // Comes and goes.
        scope.spawn(|| drop(meet(1)));
        let (config, stop) = (recipe(&[SHARED]), AtomicBool::new(false));
        let peers = Some(meet(0));
        let options = RunOptions::default();
        let outcome = train_among(
            config,
            folder.path(),
            Device::Cpu,
            &options,
            peers,
            &stop,
            &mut Silent,
        );
        let error = outcome.unwrap_err();
        let lost = matches!(
            &error,
            TrainError::Torch(TorchError::Libtorch(LibtorchError::Group {
                rank: 0,
                size: 2,
                ..
            }))
        );
        assert!(lost, "{error}");
    });
}
