//! Where the time of one training step goes: its most expensive kernels, or on a CPU operations, and what kinds they are of.

use std::error::Error;
use std::time::Duration;

use benches::protocol::tell;
use benches::{MatmulPrecision, RepeatedStep, Size, StepKind, milliseconds, timed};
use meanflow_torch::profile::{self, Cost, Profile};
use meanflow_torch::{Device, device};
use serde_json::json;

use crate::{fitting, mode};

#[derive(clap::Args)]
pub(crate) struct Profiling {
    /// cpu or cuda.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// A size of benches/sizes.json, with its batch for the device or as large as fits.
    #[arg(long)]
    size: String,
    /// The dtype of matrix products.
    #[arg(long, value_enum, default_value = "bf16")]
    precision: MatmulPrecision,
}

/// Names in the table.
const SHOWN: usize = 25;
/// Characters of a name; those of templates are pages long.
const NAME: usize = 100;
/// Steps before the one that is looked at; a graph is recorded in the fourth.
const WARM_UP: usize = 5;

pub(crate) fn run(args: &Profiling) -> Result<(), Box<dyn Error>> {
    let device = device::open(&args.device)?;
    let size = Size::named(&args.size).ok_or_else(|| format!("--size: unknown {}", args.size))?;
    // Makes ready what reads a device's clock, before a graph is recorded.
    profile::record(device, || ())?;
    let modes: &[bool] = if device.is_cuda() {
        &[false, true]
    } else {
        &[false]
    };
    let mut rows = size.rows(device);
    for graph in modes {
        let work = |rows| Step::measure(&size, rows, device, args.precision, *graph);
        let step = fitting(&mut rows, work)?;
        step.tell(&args.size, rows, device)?;
    }
    Ok(())
}

/// A guided step under the profiler, and the same one without.
struct Step {
    mode: &'static str,
    profile: Profile,
    alone: Duration,
}

impl Step {
    fn measure(
        size: &Size,
        rows: usize,
        device: Device,
        precision: MatmulPrecision,
        graph: bool,
    ) -> Result<Self, Box<dyn Error>> {
        let step = RepeatedStep::new(size, rows, device)?;
        let compute = precision.apply();
        let mut step = step.reconfigured(size, rows, StepKind::Guided, compute, graph)?;
        for _ in 0..WARM_UP {
            step.run()?;
        }
        if let Some(reason) = step.refused() {
            return Err(format!("the step could not be recorded as a graph: {reason}").into());
        }
        let ((), alone) = timed(device, || step.run())?;
        let (result, profile) = profile::record(device, || step.run())?;
        result?;
        Ok(Self {
            mode: mode(graph),
            profile,
            alone,
        })
    }

    /// Says what every kind of work took and what the gaps are, then the names.
    fn tell(&self, size: &str, rows: usize, device: Device) -> Result<(), Box<dyn Error>> {
        let on_device = device.is_cuda();
        let costs = self.profile.costs(on_device);
        if costs.is_empty() {
            return Err(format!("{}: the profiler saw no kernel", self.mode).into());
        }
        for (kind, calls, time) in kinds(&costs) {
            self.row(json!({ "kind": kind, "calls": calls }), time)?;
        }
        let gaps = self
            .profile
            .wall
            .saturating_sub(self.profile.busy(on_device));
        self.row(json!({ "kind": "gaps" }), gaps)?;
        for cost in costs.iter().take(SHOWN) {
            let name: String = cost.name.chars().take(NAME).collect();
            let row = json!({ "kind": kind(&cost.name), "name": name, "calls": cost.calls });
            self.row(row, cost.time)?;
        }
        let text = format!(
            "{}: a guided step of {size} on {rows} rows took {:.2} ms under the profiler and {:.2} ms without it. Gaps are {}. \
             {} of {} names are shown.",
            self.mode,
            milliseconds(self.profile.wall),
            milliseconds(self.alone),
            if on_device {
                "time in which the device did nothing"
            } else {
                "time outside of libtorch's operations"
            },
            costs.len().min(SHOWN),
            costs.len(),
        );
        Ok(tell(json!({ "remark": text }))?)
    }

    fn row(&self, mut row: serde_json::Value, time: Duration) -> Result<(), Box<dyn Error>> {
        row["mode"] = json!(self.mode);
        row["ms"] = json!(milliseconds(time));
        row["share"] = json!(time.as_secs_f64() / self.profile.wall.as_secs_f64());
        Ok(tell(row)?)
    }
}

/// Calls and time of every kind of work, the most expensive first.
fn kinds(costs: &[Cost]) -> Vec<(&'static str, u64, Duration)> {
    let mut sums: Vec<(&str, u64, Duration)> = Vec::new();
    for cost in costs {
        let kind = kind(&cost.name);
        match sums.iter_mut().find(|(other, _, _)| *other == kind) {
            Some((_, calls, time)) => {
                *calls += cost.calls;
                *time += cost.time;
            }
            None => sums.push((kind, cost.calls, cost.time)),
        }
    }
    sums.sort_by_key(|(_, _, time)| std::cmp::Reverse(*time));
    sums
}

/// What kind of work a kernel or an operation is: the first whose words are in its name.
fn kind(name: &str) -> &'static str {
    const KINDS: [(&str, &[&str]); 6] = [
        ("calls of gradients", &["autograd::engine"]),
        (
            "optimiser and average",
            &["adam", "lerp", "ema_update", "multi_tensor"],
        ),
        (
            "attention",
            &["attention", "flash", "fmha", "softmax", "sdpa"],
        ),
        (
            "convolutions",
            &["convol", "conv2d", "cudnn", "wgrad", "dgrad", "fprop"],
        ),
        (
            "matrix products",
            &[
                "gemm", "::mm", "bmm", "addmm", "matmul", "linear", "cutlass", "cublas", "nvjet",
                "splitk", "gemv",
            ],
        ),
        (
            "copies and memory",
            &[
                "memcpy",
                "memset",
                "copy",
                "aten::cat",
                "catarray",
                "contiguous",
                "clone",
                "fill",
                "zero",
                "aten::empty",
            ],
        ),
    ];
    let name = name.to_lowercase();
    let found = KINDS
        .iter()
        .find(|(_, words)| words.iter().any(|word| name.contains(word)));
    found.map_or("elementwise, reductions and others", |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_and_operations_are_of_a_kind() {
        for (name, expected) in [
            ("sm90_xmma_gemm_bf16bf16_bf16f32", "matrix products"),
            ("nvjet_hsh_128x256_64x4_2x1_v_bz_NNT", "matrix products"),
            ("aten::mm", "matrix products"),
            ("mf_linear_by", "matrix products"),
            ("flash_fwd_kernel<Flash_fwd_kernel_traits>", "attention"),
            ("mf_attention_tangent", "attention"),
            ("sm80_xmma_fprop_implicit_gemm_bf16", "convolutions"),
            (
                "multi_tensor_apply_kernel<FusedAdamMathFunctor>",
                "optimiser and average",
            ),
            ("mf_ema_update", "optimiser and average"),
            (
                "vectorized_elementwise_kernel",
                "elementwise, reductions and others",
            ),
            ("Memcpy DtoD", "copies and memory"),
            (
                "autograd::engine::evaluate_function: MmBackward0",
                "calls of gradients",
            ),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    #[test]
    fn a_step_is_made_of_what_its_network_is_made_of() {
        tch::set_num_threads(1);
        let size = Size::named("digits").unwrap();
        let step = Step::measure(&size, 8, Device::Cpu, MatmulPrecision::F32, false).unwrap();
        let costs = step.profile.costs(false);
        let kinds = kinds(&costs);
        for wanted in ["matrix products", "attention", "optimiser and average"] {
            let found = kinds.iter().find(|(kind, _, _)| *kind == wanted);
            assert!(
                found.is_some_and(|(_, calls, _)| *calls > 0),
                "{wanted}: {costs:?}"
            );
        }
        let sum: Duration = kinds.iter().map(|(_, _, time)| *time).sum();
        // One thread does all of it.
        assert!(
            sum <= step.profile.wall,
            "{sum:?} of {:?}",
            step.profile.wall
        );
    }
}
