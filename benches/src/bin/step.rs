//! The rivals of this project in `cargo xtask bench step`, driven by the line protocol of benches/README.md.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::process::Command;
use std::time::Instant;

use benches::{SIZES, Size, Training, Variant};
use meanflow_torch::{Device, TorchError, device, memory};
use serde_json::{Value, json};

const WARM_UP: usize = 3;
const JUMP_SHARE: f64 = 0.25;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        arguments
            .windows(2)
            .find(|pair| pair[0] == name)
            .map(|pair| pair[1].as_str())
    };
    let name = option("--size").ok_or("--size: which?")?;
    let size = SIZES
        .into_iter()
        .find(|size| size.name == name)
        .ok_or_else(|| format!("--size: unknown {name}"))?;
    if arguments.iter().any(|argument| argument == "--peaks") {
        println!("{}", json!(peaks(size)?));
        return Ok(());
    }
    memory::keep()?;
    if let Some(threads) = option("--threads") {
        tch::set_num_threads(threads.parse()?);
    }
    let device = device::open(option("--device").unwrap_or("cpu"))?;
    // The allocator of a CUDA device is not bound by tch; the process says nothing about the device.
    let peaks = if device == Device::Cpu {
        peaks_of_a_process_of_its_own(name)?
    } else {
        BTreeMap::new()
    };
    let mut rival = Rival {
        training: warm(size, device)?,
        device,
        peaks,
    };
    let mut output = std::io::stdout().lock();
    writeln!(output, "ready")?;
    output.flush()?;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "quit" => break,
            line => writeln!(output, "{}", rival.answer(line))?,
        }
        output.flush()?;
    }
    Ok(())
}

fn warm(size: Size, device: Device) -> Result<Training, TorchError> {
    let mut training = Training::new(size, device)?;
    for (_, variant) in Variant::ALL {
        for _ in 0..WARM_UP {
            training.step(variant, JUMP_SHARE)?;
        }
    }
    Ok(training)
}

/// The peak of a step of every variant, in MiB.
fn peaks(size: Size) -> Result<BTreeMap<String, Option<f64>>, TorchError> {
    memory::count_live_memory_only();
    let mut training = warm(size, Device::Cpu)?;
    let mut peaks = BTreeMap::new();
    for (name, variant) in Variant::ALL {
        let (result, peak) = memory::peak(|| training.step(variant, JUMP_SHARE));
        result?;
        peaks.insert(
            name.to_owned(),
            peak.map(|bytes| bytes as f64 / f64::from(1 << 20)),
        );
    }
    Ok(peaks)
}

/// Counting live memory slows a process down, so that the timed one must not do it.
fn peaks_of_a_process_of_its_own(
    size: &str,
) -> Result<BTreeMap<String, Option<f64>>, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--size", size, "--peaks"])
        .output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

struct Rival {
    training: Training,
    device: Device,
    peaks: BTreeMap<String, Option<f64>>,
}

impl Rival {
    fn answer(&mut self, line: &str) -> Value {
        let known = Variant::ALL
            .into_iter()
            .find(|(name, _)| line.strip_prefix("run ") == Some(*name));
        let Some((name, variant)) = known else {
            return json!({ "error": format!("unknown line {line:?}") });
        };
        self.synchronize();
        let start = Instant::now();
        let result = self.training.step(variant, JUMP_SHARE);
        self.synchronize();
        match result {
            Ok(()) => {
                json!({ "ms": start.elapsed().as_secs_f64() * 1e3, "peak_mib": self.peaks.get(name) })
            }
            Err(error) => json!({ "error": error.to_string() }),
        }
    }

    fn synchronize(&self) {
        if let Device::Cuda(index) = self.device {
            tch::Cuda::synchronize(index as i64);
        }
    }
}
