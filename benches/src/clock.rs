//! How long work on a device takes.

use std::time::{Duration, Instant};

use meanflow_torch::Device;

/// Does work and waits until the device has done it, too; what came of it, and the time from when the device was idle.
///
/// # Errors
/// Those of the work.
pub fn timed<T, E>(
    device: Device,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<(T, Duration), E> {
    synchronize(device);
    let start = Instant::now();
    let result = work()?;
    synchronize(device);
    Ok((result, start.elapsed()))
}

/// Waits until the device has done what it was told.
fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// The middle of the times, or the later of the two; zero of none.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// So many milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}
