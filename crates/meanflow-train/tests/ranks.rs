//! A run on several processes, here threads, has the digits of one.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use meanflow_data::custom::{self, DatasetBuilder};
use meanflow_data::{DataError, Dataset, Examples, toy};
use meanflow_torch::{Device, LibtorchError, Store, TorchError, World};
use meanflow_train::{
    Event, Observer, Outcome, RunOptions, Silent, TrainConfig, TrainError, fingerprint, metrics,
    train_among,
};
use serde::Deserialize;

mod common;

use common::{StopAt, recipe};

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

fn whole(root: &Path, size: usize) -> Vec<Result<Outcome, TrainError>> {
    let stop = AtomicBool::new(false);
    run(root, size, |_| recipe(&[SHARED]), &stop, &mut Silent)
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
fn a_run_goes_on_with_another_number_of_processes() {
    let folder = tempfile::tempdir().unwrap();
    let (stopped, alone) = (folder.path().join("stopped"), folder.path().join("alone"));
    let stop = AtomicBool::new(false);
    let mut observer = StopAt {
        step: 10,
        stop: &stop,
    };
    for outcome in run(&stopped, 4, |_| recipe(&[SHARED]), &stop, &mut observer) {
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
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn classes(&self) -> usize {
        self.0.classes()
    }

    fn labels(&self) -> &[i64] {
        self.0.labels()
    }

    fn len(&self) -> usize {
        self.0.len()
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

/// From and to which step a run went back, and how often.
#[derive(Debug, Default, PartialEq)]
struct Rollbacks(Vec<(u64, u64, u32)>);

impl Observer for Rollbacks {
    fn notice(&mut self, event: Event<'_>) {
        if let Event::RolledBack {
            from,
            to,
            rollbacks,
            ..
        } = event
        {
            self.0.push((from, to, rollbacks));
        }
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
    for asynchronous in ["compute.async_metrics=false", "compute.async_metrics=true"] {
        let config = |_| recipe(&[SHARED, data, "training.steps=30", asynchronous]);
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
