//! A run on several processes, here threads, has the digits of one.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use meanflow_torch::{Device, LibtorchError, Store, TorchError, World};
use meanflow_train::{
    Observer, Outcome, RunOptions, Silent, TrainConfig, TrainError, fingerprint, metrics,
    train_among,
};

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
        let options = RunOptions::default();
        train_among(
            config,
            root,
            Device::Cpu,
            &options,
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
    let names = ["model", "ema-0.9", "ema-0.5", "optimizer"];
    let files = names.map(|name| {
        let file = format!("checkpoints/step-00000020/{name}.safetensors");
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
