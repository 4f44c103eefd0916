//! The step table: milliseconds, samples a second, peak memory, and the share of what a product reaches on the device.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use benches::{MatmulPrecision, RepeatedStep, Size, StepKind};
use meanflow_torch::{Device, Flops, JvpMethod, Kind, Tensor, device, memory};
use serde::Serialize;
use serde_json::json;

use crate::tell;

#[derive(clap::Args)]
pub(crate) struct Steps {
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Sizes of benches/sizes.json, with their batches for the device or as large as fits.
    #[arg(long = "size", required = true)]
    sizes: Vec<String>,
    /// About how long all of it may take, in seconds.
    #[arg(long, default_value_t = 120.0)]
    seconds: f64,
}

/// Timed steps of a cell: at most, on a CPU, and at least.
const ROUNDS: usize = 20;
const ROUNDS_OF_CPU: usize = 5;
const LEAST: usize = 2;
/// Steps before the timed ones; a graph is captured in the fourth.
const WARM_UP: usize = 2;
const WARM_UP_OF_GRAPH: usize = 5;

/// A row of the table.
#[derive(Serialize)]
struct Row<'a> {
    size: &'a str,
    rows: usize,
    step: StepKind,
    precision: MatmulPrecision,
    mode: &'static str,
    /// The median of a step.
    ms: f64,
    samples_per_second: f64,
    /// What the first step needed above what was held before: tensors of a CUDA device, resident memory of the process on a CPU.
    peak_mib: Option<f64>,
    /// Counted operations of matrix products, convolutions and attention, in 10¹² a second.
    tflops: f64,
    /// That over what the measured product reaches.
    share: f64,
    rounds: usize,
}

pub(crate) fn run(args: &Steps) -> Result<(), Box<dyn Error>> {
    let device = device::open(&args.device)?;
    let (side, kind, name) = if device.is_cuda() {
        (8192, Kind::BFloat16, "bf16")
    } else {
        (1024, Kind::Float, "f32")
    };
    let peak = product(device, side, kind);
    let text = format!(
        "The product of two {side} × {side} matrices in {name} reaches {peak:.3} Tflop/s, of which `share` is a part."
    );
    tell(&json!({ "remark": text, "side": side, "dtype": name, "tflops": peak }))?;
    let end = Instant::now() + Duration::from_secs_f64(args.seconds);
    for (index, name) in args.sizes.iter().enumerate() {
        let size = Size::named(name).ok_or_else(|| format!("--size: unknown {name}"))?;
        let sizes_left = args.sizes.len() - index;
        let left = end.saturating_duration_since(Instant::now());
        let table = Table {
            name,
            size: &size,
            device,
            peak,
            end: Instant::now() + left / sizes_left as u32,
        };
        table.run()?;
    }
    Ok(())
}

/// What a product of two square matrices reaches, in 10¹² operations a second: the best of five.
fn product(device: Device, side: i64, kind: Kind) -> f64 {
    let x = Tensor::randn([side, side], (Kind::Float, device)).to_kind(kind);
    let time = || {
        let start = Instant::now();
        let _ = x.matmul(&x);
        synchronize(device);
        start.elapsed().as_secs_f64()
    };
    time();
    let best = (0..5).map(|_| time()).fold(f64::INFINITY, f64::min);
    2.0 * (side as f64).powi(3) / best / 1e12
}

fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// The cells of one size.
struct Table<'a> {
    name: &'a str,
    size: &'a Size,
    device: Device,
    peak: f64,
    end: Instant,
}

/// Kind, precision and whether as a graph.
type Cell = (StepKind, MatmulPrecision, bool);

impl Table<'_> {
    fn cells(&self) -> Vec<Cell> {
        let cuda = self.device.is_cuda();
        let precisions: &[MatmulPrecision] = if cuda {
            &[
                MatmulPrecision::Bf16,
                MatmulPrecision::Tf32,
                MatmulPrecision::F32,
            ]
        } else {
            &[MatmulPrecision::F32, MatmulPrecision::Bf16]
        };
        let modes: &[bool] = if cuda { &[true, false] } else { &[false] };
        let mut cells = Vec::new();
        for precision in precisions {
            for kind in StepKind::ALL {
                cells.extend(modes.iter().map(|graph| (kind, *precision, *graph)));
            }
        }
        cells
    }

    /// Every cell in turn; where one does not fit, the batch is halved for it and those after it.
    fn run(&self) -> Result<(), Box<dyn Error>> {
        let mut rows = self.size.rows(self.device);
        let cells = self.cells();
        let mut step = None;
        for (index, cell) in cells.iter().enumerate() {
            let left = self.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tell(
                    &json!({ "remark": format!("{}: {} of {} cells were left out for want of time", self.name, cells.len() - index, cells.len()) }),
                )?;
                return Ok(());
            }
            let budget = left / (cells.len() - index) as u32;
            loop {
                let (row, after) = self.cell(step.take(), *cell, rows, budget);
                step = after;
                match row {
                    Ok(row) => tell(&json!(row))?,
                    Err(reason) if reason.contains("out of memory") && rows > 1 => {
                        rows /= 2;
                        continue;
                    }
                    Err(reason) => tell(&self.refusal(*cell, rows, &reason))?,
                }
                break;
            }
        }
        Ok(())
    }

    fn refusal(
        &self,
        (kind, precision, graph): Cell,
        rows: usize,
        reason: &str,
    ) -> serde_json::Value {
        json!({
            "size": self.name, "rows": rows, "step": kind, "precision": precision,
            "mode": mode(graph), "error": reason.lines().next(),
        })
    }

    /// Measures a cell, with the model of the cell before it where there is one. An operation of libtorch may panic, for
    /// example where memory ends; then the model is lost.
    fn cell(
        &self,
        before: Option<RepeatedStep>,
        cell: Cell,
        rows: usize,
        budget: Duration,
    ) -> (Result<Row<'_>, String>, Option<RepeatedStep>) {
        let work = || self.measure(before, cell, rows, budget);
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok((row, step))) => (Ok(row), Some(step)),
            Ok(Err(error)) => (Err(error.to_string()), None),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                (Err(text.unwrap_or_else(|| "a panic".to_owned())), None)
            }
        }
    }

    fn measure(
        &self,
        before: Option<RepeatedStep>,
        (kind, precision, graph): Cell,
        rows: usize,
        budget: Duration,
    ) -> Result<(Row<'_>, RepeatedStep), Box<dyn Error>> {
        let start = Instant::now();
        let step = match before {
            Some(step) => step,
            None => RepeatedStep::new(self.size, rows, self.device)?,
        };
        let mut step = step.reconfigured(self.size, rows, kind, precision.apply(), graph)?;
        let counted = step.passes();
        let (result, peak) = memory::peak_on(self.device, || step.run())?;
        result?;
        let passes = step.passes().since(counted);
        for _ in 1..if graph { WARM_UP_OF_GRAPH } else { WARM_UP } {
            step.run()?;
        }
        if let Some(reason) = step.refused() {
            return Err(format!("not recorded as a graph: {reason}").into());
        }
        let mut times = self.times(&mut step, start + budget)?;
        times.sort_by(f64::total_cmp);
        let seconds = times[times.len() / 2];
        let tflops = operations(&self.size.model().flops()?, passes) / seconds / 1e12;
        let row = Row {
            size: self.name,
            rows,
            step: kind,
            precision,
            mode: mode(graph),
            ms: 1e3 * seconds,
            samples_per_second: rows as f64 / seconds,
            peak_mib: peak.map(|bytes| bytes as f64 / f64::from(1 << 20)),
            tflops,
            share: tflops / self.peak,
            rounds: times.len(),
        };
        Ok((row, step))
    }
}

impl Table<'_> {
    /// Seconds of steps one after another, until there are enough or the time is up.
    fn times(&self, step: &mut RepeatedStep, end: Instant) -> Result<Vec<f64>, Box<dyn Error>> {
        let most = if self.device.is_cuda() {
            ROUNDS
        } else {
            ROUNDS_OF_CPU
        };
        let mut times = Vec::new();
        while times.len() < LEAST || (times.len() < most && Instant::now() < end) {
            synchronize(self.device);
            let begin = Instant::now();
            step.run()?;
            synchronize(self.device);
            times.push(begin.elapsed().as_secs_f64());
        }
        Ok(times)
    }
}

fn mode(graph: bool) -> &'static str {
    if graph { "graph" } else { "eager" }
}

/// Operations of a step in which so many rows went through the network.
fn operations(work: &Flops, passes: meanflow_torch::ForwardCounts) -> f64 {
    passes.forwards as f64 * work.forward()
        + passes.tangents as f64 * work.derivative(JvpMethod::Dual)
        + passes.taped as f64 * work.backward()
}
