//! `meanflow check`: proofs that anybody can run, of a build, a device, a layer, a golden file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Subcommand, ValueEnum};
use meanflow_core::random::{Purpose, RngStream};
use meanflow_goldens::device_check::{self, Goldens, Verdict};
use meanflow_goldens::{Report, Setting};
use meanflow_torch::{
    Batch, Conditioning, Device, JvpInputs, JvpMethod, Kind, Model, Rows, Tensor,
};
use meanflow_train::{TrainConfig, Trainer, recipe_of, weights_of};
use serde::Serialize;
use serde_json::{Value, json};
use tch::no_grad;

use crate::commands::located::located;
use crate::commands::opening::{load_model, model_of, open_device};
use crate::options::{Compute, Reading};
use crate::output::{is_json, say};
use crate::usage::Usage;

/// Check every route to du/dt on a network and its data, or this build against golden files.
///
/// A recipe is checked with every parameter random: a network as published starts at zero, where nothing differs.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  meanflow check runs/digits\n  meanflow check configs/digits.toml --set training.batch_size=16\n  \
meanflow check golden crates/meanflow-goldens/files/*.safetensors \\\n    --dtype f64"
)]
pub(crate) struct Check {
    #[command(subcommand)]
    what: Option<CheckWhat>,
    /// A weights file, a run directory or a recipe (.toml)
    #[arg(value_name = "MODEL|CONFIG")]
    target: Option<PathBuf>,
    /// Replace one value of the recipe; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckWhat {
    Golden(Golden),
    Device(DeviceCheck),
}

/// Check that a device computes right: golden files, derivatives, training steps, bfloat16, graphs, checkpoints.
///
/// Everything needed is in the program. The exit code is 1 where a check fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meanflow check device --device cuda")]
pub(crate) struct DeviceCheck {
    /// A folder of golden files in the place of those in the program
    #[arg(long, value_name = "DIR")]
    goldens: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
}

/// Compute what official implementations computed, from the same weights and draws, and compare.
///
/// Beside FILE.safetensors stands FILE.json with kind and configuration. The exit code is 1 beyond tolerance.
#[derive(Debug, clap::Args)]
pub(crate) struct Golden {
    /// Golden files (.safetensors)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The type to compute in
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// The route to du/dt
    #[arg(long, value_enum, default_value_t = Derivative::Dual)]
    jvp: Derivative,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Dtype {
    F32,
    F64,
}

impl Dtype {
    fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Derivative {
    Dual,
    ForwardAd,
    DoubleBackward,
}

impl Derivative {
    fn method(self) -> JvpMethod {
        match self {
            Self::Dual => JvpMethod::Dual,
            Self::ForwardAd => JvpMethod::ForwardAd,
            Self::DoubleBackward => JvpMethod::DoubleBackward,
        }
    }
}

/// Exit code of a check that fails.
const FAILED: u8 = 1;
/// What the exact routes may differ by in f64, relative to the largest derivative: rounding of a deep network.
const EXACT: f64 = 1e-8;
/// Evaluations of which the median time is shown.
const TIMED: usize = 5;

pub(crate) fn run(args: &Check) -> anyhow::Result<u8> {
    match (&args.what, &args.target) {
        (Some(CheckWhat::Golden(golden)), _) => check_golden(golden),
        (Some(CheckWhat::Device(device)), _) => check_device(device),
        (None, Some(target)) => check_methods(args, target),
        (None, None) => {
            Err(Usage("expected a model, a recipe, `golden FILE…` or `device`".to_owned()).into())
        }
    }
}

fn check_golden(args: &Golden) -> anyhow::Result<u8> {
    let device = open_device(&args.compute)?;
    let setting = Setting {
        device,
        kind: args.dtype.kind(),
        jvp: args.jvp.method(),
    };
    let (mut passes, mut reports) = (true, Vec::new());
    for file in &args.files {
        let report = meanflow_goldens::check(file, &setting)?;
        passes &= report.passes();
        reports.push(report);
        if let (false, Some(report)) = (is_json(), reports.last()) {
            say(report);
        }
    }
    let verdict = if passes {
        "everything within tolerance"
    } else {
        "FAILED: an error is beyond its tolerance"
    };
    match is_json() {
        true => say(format_args!(
            "{:#}",
            json!({ "passes": passes, "reports": reports.iter().map(json_of).collect::<Vec<_>>() })
        )),
        false => say(verdict),
    }
    Ok(if passes { 0 } else { FAILED })
}

/// The errors of a golden file, tensor by tensor.
fn json_of(report: &Report) -> Value {
    let tensors = report.comparisons.iter().map(|one| {
        json!({
            "tensor": one.tensor, "max": one.max_error, "max_allowed": one.tolerance.max, "relative": one.relative_error,
            "relative_allowed": one.tolerance.relative, "passes": one.passes(),
        })
    });
    json!({ "name": report.name, "tensors": tensors.collect::<Vec<_>>(), "unchecked": report.unchecked })
}

/// Runs every check of [`device_check`] on a device, and shows each as it ends.
fn check_device(args: &DeviceCheck) -> anyhow::Result<u8> {
    let device = open_device(&args.compute)?;
    let goldens = match &args.goldens {
        Some(folder) => Goldens::folder(folder)?,
        None => Goldens::embedded()?,
    };
    if !is_json() {
        say(format_args!("device {device:?}\n"));
        say(format_args!(
            "{:<44} {:>9} {:>9} {:>6}",
            "check", "error", "allowed", "s"
        ));
    }
    let checks = device_check::run(device, &goldens, |check| {
        if is_json() {
            say(serde_json::to_string(check).expect("a check is representable in JSON"));
        } else {
            say(line(check));
        }
    });
    let count = |verdict| checks.iter().filter(|one| one.verdict == verdict).count();
    let failures = count(Verdict::Failed);
    if !is_json() {
        let (passed, skipped) = (count(Verdict::Passed), count(Verdict::Skipped));
        say(format_args!(
            "\n{passed} passed, {failures} failed, {skipped} skipped"
        ));
    }
    Ok(if failures == 0 { 0 } else { FAILED })
}

/// A check as a row of the table.
fn line(check: &device_check::DeviceCheck) -> String {
    let number =
        |number: Option<f64>| number.map_or("–".to_owned(), |number| format!("{number:.1e}"));
    let verdict = match check.verdict {
        Verdict::Passed => format!("pass  {}", check.detail),
        Verdict::Failed => format!("FAIL  {}", check.detail),
        Verdict::Skipped => format!("skipped: {}", check.detail),
    };
    format!(
        "{:<44} {:>9} {:>9} {:>6.1}  {verdict}",
        check.name,
        number(check.error),
        number(check.tolerance),
        check.seconds
    )
}

/// Compares the routes to `du/dt` on one network and its data.
fn check_methods(args: &Check, target: &Path) -> anyhow::Result<u8> {
    let device = open_device(&args.compute)?;
    let (config, trained) = subject(args, target, device)?;
    refuse_not_finite(&trained, target)?;
    let data = config.data.load(config.seed)?;
    let batch = Trainer::new(config.clone(), data, device)?.batch(0)?;
    let double = Model::new(trained.config().clone(), config.seed, device, Kind::Double)?;
    copy(&trained, &double);
    let (fine, coarse) = (
        point(&config, &double, &batch),
        point(&config, &trained, &batch),
    );
    let reference = JvpMethod::DoubleBackward.evaluate(&double, &fine)?.1;
    let mut routes = Vec::new();
    for (name, in_double, in_float) in JVP_METHODS {
        let wide = difference(&in_double.evaluate(&double, &fine)?.1, &reference);
        let is_exact = !matches!(in_double, JvpMethod::FiniteDifference { .. });
        routes.push(RouteCheck {
            jvp: name,
            f64: wide,
            f32: difference(&in_float.evaluate(&trained, &coarse)?.1, &reference),
            f32_milliseconds: median_time(in_float, &trained, &coarse)?.as_secs_f64() * 1e3,
            // A difference that is no number passes nothing.
            passes: !is_exact || wide <= EXACT,
        });
    }
    let passes = routes.iter().all(|route| route.passes);
    let (parameters, rows, jumps) = (
        trained.parameters().count(),
        batch.rows(),
        batch.times.jumps,
    );
    if is_json() {
        let report = json!({
            "parameters": parameters, "rows": rows, "mean_flow_rows": jumps, "jvp_methods": routes, "passes": passes,
        });
        say(format_args!("{report:#}"));
    } else {
        say(format_args!(
            "{parameters} parameters, batch of {rows}, {jumps} MeanFlow rows; the difference to double backward in f64, relative to the largest derivative\n"
        ));
        say(table(&routes, passes));
    }
    Ok(if passes { 0 } else { FAILED })
}

/// What one route to `du/dt` differs by from double backward in f64, and what it takes.
#[derive(Serialize)]
struct RouteCheck {
    jvp: &'static str,
    f64: f64,
    f32: f64,
    f32_milliseconds: f64,
    passes: bool,
}

/// The routes for people.
fn table(routes: &[RouteCheck], passes: bool) -> String {
    let head = ["jvp", "f64", "f32", "ms in f32"];
    let mut text = format!(
        "{:<38} {:>8} {:>8} {:>10}\n",
        head[0], head[1], head[2], head[3]
    );
    for route in routes {
        let verdict = if route.passes { "" } else { " FAIL" };
        text += &format!(
            "{:<38} {:>8.1e} {:>8.1e} {:>10.1}{verdict}\n",
            route.jvp, route.f64, route.f32, route.f32_milliseconds
        );
    }
    text += if passes {
        "\nthe exact routes agree"
    } else {
        "\nFAILED: exact routes differ by more than 1e-8 in f64"
    };
    text
}

/// The routes with the settings that suit f64 and f32.
const JVP_METHODS: [(&str, JvpMethod, JvpMethod); 4] = [
    ("dual", JvpMethod::Dual, JvpMethod::Dual),
    ("forward-ad", JvpMethod::ForwardAd, JvpMethod::ForwardAd),
    (
        "double-backward",
        JvpMethod::DoubleBackward,
        JvpMethod::DoubleBackward,
    ),
    (
        "finite-difference (1e-4, 5e-3 in f32)",
        JvpMethod::FiniteDifference { step: 1e-4 },
        JvpMethod::FiniteDifference { step: 5e-3 },
    ),
];

/// The recipe and the network it is about: that of a weights file, or that of a recipe with every parameter random.
fn subject(args: &Check, target: &Path, device: Device) -> anyhow::Result<(TrainConfig, Model)> {
    if target
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        let config = TrainConfig::read(target, &args.overrides)?;
        let model = Model::new(model_of(&config)?, config.seed, device, Kind::Float)?;
        randomise(&model, config.seed);
        return Ok((config, model));
    }
    let path = weights_of(&located(target, &args.reading)?);
    let (model, metadata) = load_model(&path, device, &args.reading)?;
    let recipe = recipe_of(&path, &metadata)?.ok_or_else(|| {
        Usage(
            "these weights do not say what they were trained on: check a recipe instead".to_owned(),
        )
    })?;
    let recipe = TrainConfig::parse(&path, &recipe.to_toml(), &args.overrides)?;
    Ok((recipe, model))
}

/// Refuses weights with NaN or infinite numbers: derivatives may not show them.
fn refuse_not_finite(model: &Model, target: &Path) -> anyhow::Result<()> {
    let parameters = model.parameters().named();
    let mut parameters = parameters.into_iter();
    let is_bad = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 0;
    match parameters.find(|(_, tensor)| is_bad(tensor)) {
        None => Ok(()),
        Some((name, _)) => {
            let target = target.display();
            let text = format!("{target}: {name} is not finite: NaN or infinite numbers");
            Err(Usage(text).into())
        }
    }
}

/// A network as published starts at zero, where all routes agree: every parameter is drawn, so that every layer counts.
fn randomise(model: &Model, seed: u64) {
    for (index, (_, tensor)) in model.parameters().iter().enumerate() {
        let size = tensor.size();
        let mut values = vec![0.0_f32; tensor.numel()];
        RngStream::new(seed, Purpose::Init, index as u64).fill_normal(&mut values);
        let fan_in: i64 = size.iter().skip(1).product::<i64>().max(4);
        let drawn = Tensor::from_slice(&values).reshape(&size) / (fan_in as f64).sqrt();
        no_grad(|| tensor.shallow_clone().copy_(&drawn));
    }
}

fn copy(from: &Model, to: &Model) {
    for (one, other) in from
        .parameters()
        .tensors()
        .into_iter()
        .zip(to.parameters().tensors())
    {
        no_grad(|| other.shallow_clone().copy_(one));
    }
}

/// The batch as a point of the network, moving along the velocity of the path.
fn point(config: &TrainConfig, model: &Model, batch: &Batch) -> JvpInputs {
    let typed = |x: &Tensor| Rows(x.to_kind(model.kind()));
    let (x, e) = (typed(&batch.data), typed(&batch.noise));
    let (t, r) = (batch.times.ts(), batch.times.rs());
    let row = |values: &[f64]| {
        Tensor::from_slice(values)
            .to_kind(model.kind())
            .to_device(model.device())
    };
    let velocity = config.path.velocity(&x, &e, &t).0;
    let labels = batch.labels.as_ref().filter(|_| model.config().classes > 0);
    JvpInputs {
        z: config.path.interpolate(&x, &e, &t).0,
        r: row(&r),
        t: row(&t),
        condition: Conditioning::of_labels(
            labels.map(|labels| Tensor::from_slice(labels).to_device(model.device())),
        ),
        velocity: velocity.narrow(0, 0, batch.times.jumps as i64),
    }
}

/// `max |a − b| / max |b|`.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let largest = |x: &Tensor| x.abs().max().double_value(&[]);
    largest(&(a.to_kind(Kind::Double) - b)) / largest(b).max(f64::MIN_POSITIVE)
}

fn median_time(jvp: JvpMethod, model: &Model, point: &JvpInputs) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(TIMED);
    for _ in 0..TIMED {
        let start = Instant::now();
        let (_, derivative) = jvp.evaluate(model, point)?;
        // Reading a number waits for a device that works on its own.
        let _ = derivative.sum(Kind::Float).double_value(&[]);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[TIMED / 2])
}
