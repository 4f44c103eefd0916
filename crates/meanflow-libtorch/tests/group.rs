//! Groups of processes over Gloo on loopback, their ranks as threads.

use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use meanflow_libtorch::{
    Finding, LibtorchError, ProcessGroup, Progress, Stalled, Store, Supervisor, Team, World,
};
use tch::{Device, Kind, Tensor};

/// Enough for a busy machine; nothing here waits so long unless it is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// What each of `size` ranks makes of its group.
fn ranks<T: Send>(size: usize, work: impl Fn(&ProcessGroup) -> T + Sync) -> Vec<T> {
    ranks_of(size, |group| {
        let result = work(&group);
        // Nobody leaves while another still reads.
        group.barrier().unwrap();
        group.close().unwrap();
        result
    })
}

/// As [`ranks`], where the work keeps the group.
fn ranks_of<T: Send>(size: usize, work: impl Fn(ProcessGroup) -> T + Sync) -> Vec<T> {
    let store = Store::in_process(PATIENCE).unwrap();
    thread::scope(|scope| {
        let start = |rank| {
            let (store, work) = (&store, &work);
            scope.spawn(move || {
                tch::set_num_threads(1);
                let group = ProcessGroup::gloo(store, rank, size, "127.0.0.1", PATIENCE).unwrap();
                assert_eq!((group.rank(), group.size()), (rank, size));
                work(group)
            })
        };
        let started: Vec<_> = (0..size).map(start).collect();
        started
            .into_iter()
            .map(|rank| rank.join().unwrap())
            .collect()
    })
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten(0, -1).try_into().unwrap()
}

/// Numbers that a rank has and no other.
fn own(group: &ProcessGroup, rows: i64) -> Tensor {
    let rank = group.rank() as f64;
    Tensor::arange(rows, (Kind::Float, Device::Cpu)) + 100.0 * rank
}

#[test]
fn operations_do_what_they_say() {
    for size in [1, 2, 4] {
        let results = ranks(size, |group| {
            let n = size as i64;
            let sum = own(group, 3);
            group.all_reduce(&sum).unwrap();
            let root = own(group, 2);
            group.broadcast(&root, size - 1).unwrap();
            let gathered = group.all_gather(&own(group, 2).view([1, 2])).unwrap();
            let scattered = group.reduce_scatter(&own(group, n)).unwrap();
            let exchanged = group.all_to_all(&own(group, n)).unwrap();
            [sum, root, gathered, scattered, exchanged].map(|tensor| numbers(&tensor))
        });
        let all: Vec<f32> = (0..size).map(|rank| 100.0 * rank as f32).collect();
        let total: f32 = all.iter().sum();
        let last = all[size - 1];
        for (rank, [sum, root, gathered, scattered, exchanged]) in results.into_iter().enumerate() {
            let (n, own) = (size as f32, rank as f32);
            assert_eq!(sum, [0.0, 1.0, 2.0].map(|x| total + n * x));
            assert_eq!(root, [last, last + 1.0]);
            let pairs: Vec<f32> = all.iter().flat_map(|x| [*x, x + 1.0]).collect();
            assert_eq!(gathered, pairs);
            assert_eq!(scattered, [total + n * own]);
            let parts: Vec<f32> = all.iter().map(|x| x + own).collect();
            assert_eq!(exchanged, parts);
        }
    }
}

#[test]
fn a_sum_in_pairs_has_the_same_bits_on_any_number_of_ranks() {
    // Numbers whose sum depends on the order; 1000 of them, which 3 does not divide.
    tch::manual_seed(1);
    let options = (Kind::Float, Device::Cpu);
    for leaves in [4, 12] {
        let all =
            Tensor::randn([leaves, 1000], options) * Tensor::randn([leaves, 1], options).exp();
        let sums: Vec<Vec<Vec<f32>>> = [1, 2, 3, 4]
            .into_iter()
            .filter(|size| leaves % size == 0)
            .map(|size| {
                let rows: Vec<Tensor> = all.chunk(size, 0);
                let rows: Vec<Vec<f32>> = rows.iter().map(numbers).collect();
                ranks(size as usize, |group| {
                    let own = Tensor::from_slice(&rows[group.rank()]).view([-1, 1000]);
                    numbers(&group.sum_in_pairs(&own).unwrap())
                })
            })
            .collect();
        let one = &sums[0][0];
        assert!(sums.iter().flatten().all(|sum| sum == one), "{leaves}");
        // f32 sums of a dozen numbers of this size.
        let expected = all
            .to_kind(Kind::Double)
            .sum_dim_intlist(0, false, Kind::Double);
        let difference = (Tensor::from_slice(one) - &expected).abs().max() / expected.abs().max();
        assert!(difference.double_value(&[]) < 1e-6);
    }
}

#[test]
fn a_store_that_is_served_on_loopback_brings_ranks_together() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = Store::serve(listener, PATIENCE).unwrap();
    let join = |store: &Store, rank| {
        let part = store.scope("tensors").unwrap();
        let group = ProcessGroup::gloo(&part, rank, 2, "127.0.0.1", PATIENCE).unwrap();
        let sum = Tensor::from_slice(&[1_i64 + rank as i64]);
        group.all_reduce(&sum).unwrap();
        sum.int64_value(&[0])
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let store = Store::connect("127.0.0.1", port, PATIENCE).unwrap();
            join(&store, 1)
        });
        assert_eq!(join(&served, 0), 3);
        assert_eq!(other.join().unwrap(), 3);
    });
}

#[test]
fn an_absent_rank_is_an_error_within_the_timeout() {
    let timeout = Duration::from_millis(300);
    let store = Store::in_process(timeout).unwrap();
    let start = Instant::now();
    let error = ProcessGroup::gloo(&store, 0, 2, "127.0.0.1", timeout).unwrap_err();
    let group = matches!(
        &error,
        LibtorchError::Group {
            rank: 0,
            size: 2,
            ..
        }
    );
    assert!(group, "{error}");
    // Thirty times the timeout, for a busy machine.
    assert!(start.elapsed() < 30 * timeout, "{:?}", start.elapsed());
}

#[test]
fn a_rank_that_left_is_an_error_of_the_others() {
    let store = Store::in_process(PATIENCE).unwrap();
    let timeout = Duration::from_secs(2);
    thread::scope(|scope| {
        let join = |rank| ProcessGroup::gloo(&store, rank, 2, "127.0.0.1", timeout).unwrap();
        let leaving = scope.spawn(move || drop(join(1)));
        let group = join(0);
        leaving.join().unwrap();
        let start = Instant::now();
        let error = group.barrier().unwrap_err();
        assert!(matches!(error, LibtorchError::Group { .. }), "{error}");
        assert!(start.elapsed() < PATIENCE);
    });
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_sent() {
    ranks(2, |group| {
        let matrix = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let refused = |result: Result<(), LibtorchError>, words: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(group.all_reduce(&matrix.transpose(0, 1)), "contiguous");
        refused(group.broadcast(&matrix, 2), "got 2");
        let odd = matrix.view([3, 2]);
        refused(group.all_to_all(&odd).map(drop), "[3, 2]");
        refused(group.sum_in_pairs(&odd.view([6])).map(drop), "[K, N]");
    });
    let store = Store::in_process(PATIENCE).unwrap();
    let error = ProcessGroup::gloo(&store, 2, 2, "127.0.0.1", PATIENCE).unwrap_err();
    assert!(error.to_string().contains("a rank below 2"), "{error}");
}

/// Where CUDA's libraries are there and no device is, the refusal comes from NCCL's group itself, so that its names are right.
#[test]
fn a_group_over_nccl_without_a_device_is_refused() {
    let store = Store::in_process(PATIENCE).unwrap();
    let error = match ProcessGroup::nccl(&store, 0, 1, 0, PATIENCE) {
        Ok(group) => return group.close().unwrap(),
        Err(error) => error.to_string(),
    };
    let reasons = ["no GPUs found", "could not be loaded"];
    assert!(
        reasons.iter().any(|reason| error.contains(reason)),
        "{error}"
    );
}

/// Three ranks make progress; then one is stopped, as a process is by SIGSTOP, and another only waits.
#[test]
fn a_rank_that_stops_is_named_by_the_others_in_time() {
    const LIMIT: Duration = Duration::from_millis(600);
    let store = Store::in_process(PATIENCE).unwrap();
    let (sender, receiver) = mpsc::channel();
    let progress: Vec<Arc<Progress>> = (0..3).map(|_| Arc::default()).collect();
    let mut supervisors: Vec<Supervisor> = (0..3)
        .map(|rank| {
            let (world, sender) = (world_of(rank), sender.clone());
            let found = move |finding| sender.send((rank, finding)).unwrap();
            let (store, progress) = (store.scope("").unwrap(), Arc::clone(&progress[rank]));
            Supervisor::start(store, world, progress, LIMIT, found).unwrap()
        })
        .collect();
    // Nobody is watched before the first step, which may take long.
    thread::sleep(2 * LIMIT);
    // One that is busy keeps the others waiting.
    let mut last = Instant::now();
    for step in 0..20 {
        last = Instant::now();
        progress[0].note(step);
        if step < 5 {
            progress[1].note(step);
            progress[2].note(step);
        }
        if step == 10 {
            // While the others still wait for rank 0: what they compare its silence with comes after that, however late this thread is.
            drop(supervisors.remove(2));
        }
        thread::sleep(LIMIT / 8);
    }
    assert!(receiver.try_recv().is_err());
    let start = Instant::now();
    for _ in 0..2 {
        let (rank, finding) = receiver.recv_timeout(PATIENCE).unwrap();
        let Finding::Stalled(stalled) = finding else {
            panic!("{finding:?}");
        };
        // A tenth early, and a tenth until it is looked again.
        assert!(last.elapsed() > LIMIT * 7 / 10, "{:?}", last.elapsed());
        assert_eq!((stalled.last(), rank < 2), (vec![2], true), "{stalled}");
        assert!(
            stalled
                .to_string()
                .contains("rank 2 was last seen at step 4")
        );
    }
    assert!(start.elapsed() < 4 * LIMIT, "{:?}", start.elapsed());
}

/// As where a launcher is killed: the processes hear of it once while they go on, and when they stop it is no riddle why nobody answers.
#[test]
fn a_store_that_is_gone_is_told_of_once() {
    const LIMIT: Duration = Duration::from_millis(600);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let launcher = Store::serve(listener, PATIENCE).unwrap();
    let store = Store::connect("127.0.0.1", port, PATIENCE).unwrap();
    let (sender, receiver) = mpsc::channel();
    let progress: Arc<Progress> = Arc::default();
    let found = move |finding| sender.send(finding).unwrap();
    let shared = Arc::clone(&progress);
    let _supervisor = Supervisor::start(store, world_of(0), shared, LIMIT, found).unwrap();
    let work = |until: Instant| {
        for step in 0.. {
            progress.note(step);
            thread::sleep(LIMIT / 8);
            if Instant::now() > until {
                return;
            }
        }
    };
    work(Instant::now() + LIMIT);
    assert!(receiver.try_recv().is_err());
    drop(launcher);
    work(Instant::now() + 2 * LIMIT);
    assert_eq!(receiver.try_recv().unwrap(), Finding::StoreGone);
    let last = receiver.recv_timeout(PATIENCE).unwrap();
    let (patience, seen) = (LIMIT, None);
    assert_eq!(last, Finding::Stalled(Stalled { patience, seen }));
}

fn world_of(rank: usize) -> World {
    World {
        rank,
        size: 3,
        local_rank: rank,
    }
}

#[test]
fn the_first_rank_gathers_vectors_of_any_lengths() {
    for size in [1, 3] {
        let gathered = ranks_of(size, |group| {
            let rank = group.rank();
            let team = Team::new(group);
            // The second has none.
            let own: Vec<i64> = (0..if rank == 1 { 0 } else { 5 + rank as i64 }).collect();
            let all = team.gather(&Tensor::from_slice(&own)).unwrap();
            assert_eq!(team.leads(), rank == 0);
            team.wait().unwrap();
            all.map(|all| Vec::<i64>::try_from(all).unwrap())
        });
        let first: Vec<i64> = (0..5).chain(0..if size == 3 { 7 } else { 0 }).collect();
        assert_eq!(gathered[0].as_ref(), Some(&first));
        assert!(gathered[1..].iter().all(Option::is_none));
    }
}
