//! Whole networks on the device against f64 on the CPU: derivatives by two routes, training steps in f32 and bfloat16.

use meanflow_torch::{Compute, Dtype, JvpMethod, TorchError};
use tch::{Device, Kind, Tensor};

use super::CheckWork;
use super::subject::{self, Subject, step};
use crate::{Comparison, Tolerance};

/// Rounding of f64 through a few dozen operations.
const F64: Tolerance = Tolerance::new(1e-10, f64::INFINITY);
/// bfloat16 keeps 8 bits of a number: a factor is off by up to 2⁻⁹, and the errors of some ten rounded factors and results
/// that follow each other add up as roots of sums of squares.
const BF16: Tolerance = Tolerance::new(4.0 / 256.0, f64::INFINITY);

const ROWS: usize = 16;

pub(super) fn checks(device: Device) -> Vec<(String, CheckWork<'static>)> {
    let mut checks: Vec<(String, CheckWork<'static>)> = Vec::new();
    for kind in [Kind::Float, Kind::Double] {
        let dtype = if kind == Kind::Float { "f32" } else { "f64" };
        for subject in subject::all() {
            let name = format!("du/dt of {}, dual and jvp, {dtype}", subject.name);
            let work = move || Ok(derivatives(&subject, device, kind)?.into());
            checks.push((name, Box::new(work)));
        }
    }
    for subject in subject::all() {
        let name = format!("training step of {}, f32", subject.name);
        let work = move || Ok(training_step(&subject, device)?.into());
        checks.push((name, Box::new(work)));
    }
    for subject in subject::all() {
        let name = format!("training step of {}, bf16", subject.name);
        let work = move || Ok(rounded_step(&subject, device)?.into());
        checks.push((name, Box::new(work)));
    }
    checks
}

/// `u` and `du/dt` by dual numbers and by libtorch's forward mode on the device, against two backward passes in f64 on the CPU.
fn derivatives(
    subject: &Subject,
    device: Device,
    kind: Kind,
) -> Result<Vec<Comparison>, TorchError> {
    let at = |device, kind, jvp: JvpMethod| -> Result<_, TorchError> {
        let model = subject.model(device, kind)?;
        jvp.evaluate(&model, &subject.point(8, device, kind))
    };
    let (u, dudt) = at(Device::Cpu, Kind::Double, JvpMethod::DoubleBackward)?;
    let (output, derivative) = match kind {
        Kind::Float => (subject.tolerances.output, subject.tolerances.derivative),
        _ => (F64, F64),
    };
    let mut comparisons = Vec::new();
    for (route, jvp) in [("dual", JvpMethod::Dual), ("jvp", JvpMethod::ForwardAd)] {
        let (ours, change) = at(device, kind, jvp)?;
        let named = |what| format!("{what} by {route}");
        comparisons.push(Comparison::new(&named("u"), &ours, &u, output));
        comparisons.push(Comparison::new(&named("du/dt"), &change, &dudt, derivative));
    }
    Ok(comparisons)
}

fn training_step(subject: &Subject, device: Device) -> Result<Vec<Comparison>, TorchError> {
    let tolerances = subject.tolerances;
    let bounds = [tolerances.losses, tolerances.losses, tolerances.gradients];
    compared_step(subject, device, Dtype::F32, bounds)
}

fn rounded_step(subject: &Subject, device: Device) -> Result<Vec<Comparison>, TorchError> {
    compared_step(subject, device, Dtype::Bf16, [BF16; 3])
}

/// A guided training step in this dtype over parameters in f32, against f64 on the CPU.
fn compared_step(
    subject: &Subject,
    device: Device,
    dtype: Dtype,
    bounds: [Tolerance; 3],
) -> Result<Vec<Comparison>, TorchError> {
    let compute = Compute {
        dtype,
        activation_checkpointing: false,
    };
    let model = subject.model(device, Kind::Float)?.computed(compute);
    let ours = step(&model, &subject.batch(ROWS, 5, device, Kind::Float))?;
    let exact = subject.model(Device::Cpu, Kind::Double)?;
    let reference = step(&exact, &subject.batch(ROWS, 5, Device::Cpu, Kind::Double))?;
    let names = ["loss", "prediction errors of the rows", "gradients"];
    let compared = |index: usize| -> Comparison {
        let (ours, reference): (&Tensor, &Tensor) = (&ours[index], &reference[index]);
        Comparison::new(names[index], ours, reference, bounds[index])
    };
    Ok((0..3).map(compared).collect())
}
