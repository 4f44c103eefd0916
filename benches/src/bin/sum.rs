//! This project's side of `benches/peers/processes.py sum`: how long several processes take to add up a vector.
//!
//! Started by anything that a `World` understands, it answers `ready`, and then every line `WAY NUMBERS` of input with a line: the
//! milliseconds of one sum of so many f32 in that way, `tree` or `fastest`, from a barrier on.

use std::error::Error;
use std::time::{Duration, Instant};

use benches::protocol;
use meanflow_torch::{Device, Peers, World};
use serde_json::json;
use tch::{Kind, Tensor};

const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let peers = World::from_env()?.join(Device::Cpu, PATIENCE)?;
    protocol::serve(|line| {
        let (way, numbers) = line.split_once(' ').ok_or("expected WAY NUMBERS")?;
        Ok(json!(milliseconds(&peers, way, numbers.parse()?)?))
    })?;
    Ok(())
}

fn milliseconds(peers: &Peers, way: &str, numbers: i64) -> Result<f64, Box<dyn Error>> {
    let vector = Tensor::ones([1, numbers], (Kind::Float, Device::Cpu));
    peers.control.barrier()?;
    let begun = Instant::now();
    let sum = match way {
        "tree" => peers.tensors.sum_in_pairs(&vector)?,
        "fastest" => {
            peers.tensors.all_reduce(&vector)?;
            vector
        }
        other => return Err(format!("expected tree or fastest, got {other}").into()),
    };
    let seconds = begun.elapsed().as_secs_f64();
    let (got, size) = (sum.flatten(0, -1).double_value(&[0]), peers.tensors.size());
    assert_eq!(got, size as f64, "the sum of ones");
    Ok(1e3 * seconds)
}
