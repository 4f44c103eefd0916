//! The step table: milliseconds, samples a second, peak memory, and the share of what a product reaches on the device.

use std::error::Error;
use std::time::{Duration, Instant};

use benches::protocol::tell;
use benches::{MatmulPrecision, RepeatedStep, Size, StepKind, median, milliseconds, timed};
use meanflow_torch::{
    Device, Flops, ForwardCounts, JvpMethod, Kind, Tensor, TorchError, device, memory,
};
use serde_json::{Value, json};

use crate::{fitting, mode};

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

pub(crate) fn run(args: &Steps) -> Result<(), Box<dyn Error>> {
    let device = device::open(&args.device)?;
    let (side, kind, name) = if device.is_cuda() {
        (8192, Kind::BFloat16, "bf16")
    } else {
        (1024, Kind::Float, "f32")
    };
    let peak = product(device, side, kind)?;
    let text = format!(
        "The product of two {side} × {side} matrices in {name} reaches {peak:.3} Tflop/s, of which `share` is a part."
    );
    tell(json!({ "remark": text, "side": side, "dtype": name, "tflops": peak }))?;
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
fn product(device: Device, side: i64, kind: Kind) -> Result<f64, Box<dyn Error>> {
    let x = Tensor::randn([side, side], (Kind::Float, device)).to_kind(kind);
    let mut best = Duration::MAX;
    // The first call makes what libraries make at first use.
    for _ in 0..6 {
        best = best.min(timed(device, || x.f_matmul(&x))?.1);
    }
    Ok(2.0 * (side as f64).powi(3) / best.as_secs_f64() / 1e12)
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
            let cells_left = cells.len() - index;
            if left.is_zero() {
                let text = format!(
                    "{}: {cells_left} of {} cells were left out for want of time",
                    self.name,
                    cells.len()
                );
                return Ok(tell(json!({ "remark": text }))?);
            }
            let budget = left / cells_left as u32;
            let measured = fitting(&mut rows, |rows| {
                self.measure(&mut step, *cell, rows, budget)
            });
            let (kind, precision, graph) = *cell;
            let mut row = json!({
                "size": self.name, "rows": rows, "step": kind, "precision": precision, "mode": mode(graph),
            });
            let found = measured
                .unwrap_or_else(|reason| json!({ "error": reason.to_string().lines().next() }));
            if let (Some(row), Value::Object(found)) = (row.as_object_mut(), found) {
                row.extend(found);
            }
            tell(row)?;
        }
        Ok(())
    }

    /// Measures a cell, with the model of the cell before it where there is one, which is lost in an error. The peak is what the first
    /// step needed above what was held before: tensors of a CUDA device, resident memory of the process on a CPU.
    fn measure(
        &self,
        model: &mut Option<RepeatedStep>,
        (kind, precision, graph): Cell,
        rows: usize,
        budget: Duration,
    ) -> Result<Value, Box<dyn Error>> {
        let start = Instant::now();
        let step = match model.take() {
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
        let times = self.times(&mut step, start + budget)?;
        let rounds = times.len();
        let time = median(times);
        let seconds = time.as_secs_f64();
        let tflops = operations(&self.size.model().flops()?, passes) / seconds / 1e12;
        *model = Some(step);
        // The share is that of what the measured product reaches.
        Ok(json!({
            "ms": milliseconds(time), "samples_per_second": rows as f64 / seconds,
            "peak_mib": peak.map(|bytes| bytes as f64 / f64::from(1 << 20)),
            "tflops": tflops, "share": tflops / self.peak, "rounds": rounds,
        }))
    }

    /// Times of steps one after another, until there are enough or the time is up.
    fn times(&self, step: &mut RepeatedStep, end: Instant) -> Result<Vec<Duration>, TorchError> {
        let most = if self.device.is_cuda() {
            ROUNDS
        } else {
            ROUNDS_OF_CPU
        };
        let mut times = Vec::new();
        while times.len() < LEAST || (times.len() < most && Instant::now() < end) {
            times.push(timed(self.device, || step.run())?.1);
        }
        Ok(times)
    }
}

/// Operations of a step in which so many rows went through the network.
fn operations(work: &Flops, passes: ForwardCounts) -> f64 {
    passes.forwards as f64 * work.forward()
        + passes.tangents as f64 * work.derivative(JvpMethod::Dual)
        + passes.taped as f64 * work.backward()
}
