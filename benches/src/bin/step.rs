//! The rivals of this project in `cargo xtask bench step` and `peers`: training steps on demand.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, Stdio};

use benches::{Options, Training, Variant, milliseconds, proof, protocol, timed};
use clap::Parser;
use meanflow_torch::{Device, memory};
use serde_json::json;

const WARM_UP: usize = 3;
const JUMP_SHARE: f64 = 0.25;

type Peaks = BTreeMap<String, Option<f64>>;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if options.peaks {
        println!("{}", json!(peaks(&options)?));
        return Ok(());
    }
    memory::keep();
    let device = options.device()?;
    if let Some(file) = &options.export {
        proof::export(&options.training(device)?, JUMP_SHARE, file)?;
        return Ok(());
    }
    // The allocator of a CUDA device is not bound by tch; the process says nothing about the device.
    let peaks = if device == Device::Cpu {
        peaks_of_a_process_of_its_own()?
    } else {
        BTreeMap::new()
    };
    let mut training = warm(&options, device)?;
    protocol::serve(|line| {
        let known = Variant::ALL
            .into_iter()
            .find(|(name, _)| line.strip_prefix("run ") == Some(*name));
        let (name, variant) = known.ok_or_else(|| format!("unknown line {line:?}"))?;
        let before = training.model().passes();
        let ((), time) = timed(device, || training.step(variant, JUMP_SHARE))?;
        let passes = training.model().passes().since(before);
        let units = passes.units(training.rows());
        Ok(json!({ "ms": milliseconds(time), "peak_mib": peaks.get(name), "units": units }))
    })?;
    Ok(())
}

fn warm(options: &Options, device: Device) -> Result<Training, Box<dyn Error>> {
    let mut training = options.training(device)?;
    for (_, variant) in Variant::ALL {
        for _ in 0..WARM_UP {
            training.step(variant, JUMP_SHARE)?;
        }
    }
    Ok(training)
}

/// The peak of a step of every variant, in MiB.
fn peaks(options: &Options) -> Result<Peaks, Box<dyn Error>> {
    memory::count_live_memory_only();
    let device = options.device()?;
    let mut training = warm(options, device)?;
    let mut peaks = BTreeMap::new();
    for (name, variant) in Variant::ALL {
        let (result, peak) = memory::peak_on(device, || training.step(variant, JUMP_SHARE))?;
        result?;
        let mib = peak.map(|bytes| bytes as f64 / f64::from(1 << 20));
        peaks.insert(name.to_owned(), mib);
    }
    Ok(peaks)
}

/// Counting live memory slows a process down, so that the timed one must not do it.
fn peaks_of_a_process_of_its_own() -> Result<Peaks, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg("--peaks")
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("measuring the peak memory ended: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
