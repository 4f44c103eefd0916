//! This project's side of `benches/peers/frechet.py`: the Fréchet distance of two sets of features, timed.
//!
//! `frechet FILE.safetensors` reads `x` and `y`, `[N, D]`, answers `ready`, and then every line of input with a line of JSON.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use benches::protocol;
use meanflow_eval::{Statistics, frechet_distance};
use meanflow_torch::{memory, weights};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    memory::keep();
    let path = std::env::args()
        .nth(1)
        .ok_or("expected a file of features x and y")?;
    let tensors = weights::read(Path::new(&path))?;
    let [x, y] = ["x", "y"].map(|name| tensors.get(name).ok_or(format!("missing: {name}")));
    let (x, y) = (x?, y?);
    protocol::serve(|_| {
        let start = Instant::now();
        let (a, b) = (Statistics::of(x)?, Statistics::of(y)?);
        let statistics = start.elapsed();
        let distance = frechet_distance(&a, &b)?;
        let (total, statistics) = (start.elapsed().as_secs_f64(), statistics.as_secs_f64());
        Ok(json!({"seconds": total, "statistics": statistics, "distance": distance}))
    })?;
    Ok(())
}
