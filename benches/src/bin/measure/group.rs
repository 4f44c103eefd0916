//! A group of one rank: whether every operation does what it says, as it is written and as a CUDA graph.

use std::error::Error;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use benches::protocol::tell;
use benches::{median, milliseconds, timed};
use meanflow_torch::{
    CudaGraph, Device, Kind, LibtorchError, ProcessGroup, Store, Tensor, device, host,
};
use serde_json::json;

#[derive(clap::Args)]
pub(crate) struct Group {
    /// cpu, for a group over Gloo, or cuda, for one over NCCL.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// How long to wait for whatever does not come, in seconds.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

/// Numbers of a tensor.
const NUMBERS: i64 = 1 << 20;
/// Timed calls of an operation.
const ROUNDS: usize = 5;
/// Runs of a graph, which is recorded in the fourth: the others after it are replays.
const RUNS: i64 = 8;

/// An operation on a tensor that gives a tensor of the same shape: on one rank the same numbers.
type Operation = fn(&ProcessGroup, Tensor) -> Result<Tensor, LibtorchError>;

const OPERATIONS: [(&str, Operation); 6] = [
    ("all-reduce", |group, tensor| {
        group.all_reduce(&tensor)?;
        Ok(tensor)
    }),
    ("broadcast", |group, tensor| {
        group.broadcast(&tensor, 0)?;
        Ok(tensor)
    }),
    ("all-gather", |group, tensor| group.all_gather(&tensor)),
    ("reduce-scatter", |group, tensor| {
        group.reduce_scatter(&tensor)
    }),
    ("all-to-all", |group, tensor| group.all_to_all(&tensor)),
    ("sum in pairs", |group, tensor| {
        group.sum_in_pairs(&tensor.unsqueeze(0))
    }),
];

pub(crate) fn run(args: &Group) -> Result<(), Box<dyn Error>> {
    let device = device::open(&args.device)?;
    let timeout = Duration::from_secs(args.timeout);
    let mut failed = Vec::new();
    let mut add = |what, mode, result: Result<Duration, Box<dyn Error>>| {
        failed.extend(result.is_err().then_some(what));
        add(what, mode, result)
    };
    let start = Instant::now();
    let store = Store::serve(TcpListener::bind(("127.0.0.1", 0))?, timeout)?;
    add("a store on loopback", "", Ok(start.elapsed()))?;
    let start = Instant::now();
    let (name, group) = match device {
        Device::Cuda(index) => (
            "a group over NCCL, with its communicator",
            ProcessGroup::nccl(&store, 0, 1, index, timeout),
        ),
        _ => (
            "a group over Gloo",
            ProcessGroup::gloo(&store, 0, 1, "127.0.0.1", timeout),
        ),
    };
    match group {
        Err(error) => add(name, "", Err(error.into()))?,
        Ok(group) => {
            add(name, "", Ok(start.elapsed()))?;
            for (name, operation) in OPERATIONS {
                add(name, "eager", eager(&group, operation))?;
            }
            add("barrier", "eager", barrier(&group))?;
            for (name, operation) in OPERATIONS.into_iter().filter(|_| device.is_cuda()) {
                add(name, "graph", graph(&group, operation))?;
            }
            let start = Instant::now();
            let closed = group.close().map(|()| start.elapsed());
            add("the end of the group", "", closed.map_err(Into::into))?;
        }
    }
    match failed.first() {
        Some(first) => Err(format!("{} failed, first {first}", failed.len()).into()),
        None => Ok(()),
    }
}

/// Says what became of a part.
fn add(
    what: &str,
    mode: &str,
    result: Result<Duration, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let verdict = if result.is_ok() { "passed" } else { "FAILED" };
    let mut row = json!({ "what": what, "mode": mode, "verdict": verdict });
    match result {
        Ok(time) => row["ms"] = json!(milliseconds(time)),
        Err(error) => row["detail"] = json!(error.to_string()),
    }
    Ok(tell(row)?)
}

/// Numbers that are exact in f32, and others in every round.
fn numbers(device: Device, round: i64) -> Tensor {
    Tensor::arange(NUMBERS, (Kind::Float, device)) + round
}

/// The median of the timed calls.
fn eager(group: &ProcessGroup, operation: Operation) -> Result<Duration, Box<dyn Error>> {
    let device = group.device();
    let mut times = Vec::new();
    for round in 0..=ROUNDS as i64 {
        let tensor = numbers(device, round);
        let (result, time) = timed(device, || operation(group, tensor))?;
        times.push(time);
        expect(&result, &numbers(device, round), round)?;
    }
    // The first call makes what libraries make at first use.
    Ok(median(times.split_off(1)))
}

fn barrier(group: &ProcessGroup) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    group.barrier()?;
    Ok(start.elapsed())
}

/// The operation between two others, recorded and replayed on numbers that change; the median of the replays.
fn graph(group: &ProcessGroup, operation: Operation) -> Result<Duration, Box<dyn Error>> {
    let device = group.device();
    let mut input = numbers(device, 0);
    let mut graph = CudaGraph::new(device);
    let mut times = Vec::new();
    for run in 0..RUNS {
        input.copy_(&numbers(device, run));
        let work = || operation(group, &input * 2.0).map(|doubled| doubled + 1.0);
        let (result, time) = timed(device, || graph.run(work))?;
        times.push(time);
        let expected = numbers(device, run) * 2.0 + 1.0;
        expect(result, &expected, run)?;
    }
    match graph.refused() {
        Some(reason) => Err(format!("it could not be recorded: {reason}").into()),
        None => Ok(median(times.split_off(times.len() / 2))),
    }
}

/// Refuses any other number than what is expected.
fn expect(result: &Tensor, expected: &Tensor, round: i64) -> Result<(), Box<dyn Error>> {
    if result.size() != expected.size() {
        let (size, other) = (result.size(), expected.size());
        return Err(format!("round {round}: expected the shape {other:?}, got {size:?}").into());
    }
    let apart = host::read(&(result - expected).abs().max())?[0];
    if apart == 0.0 {
        return Ok(());
    }
    Err(
        format!("round {round}: expected the numbers of one rank, got some that are {apart} apart")
            .into(),
    )
}
