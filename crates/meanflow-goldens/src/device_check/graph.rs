//! Steps that a CUDA graph replays against the same steps done eagerly.

use meanflow_torch::{
    Adam, AdamConfig, Compute, CudaGraph, Dtype, Gradients, LibtorchError, Model, Objective,
    StepInputs, Tangent, TorchError, ema,
};
use tch::{Device, Kind, Tensor};

use super::subject::{self, Subject, objective};
use super::{CheckWork, Found};
use crate::{Comparison, Tolerance};

/// Three steps before the capture, the capture, and replays after it.
const STEPS: u64 = 8;
/// Sums whose order a device does not fix differ by their rounding; the optimiser divides by the root of the second moment,
/// which turns the rounding of a small gradient into that of the rate, 1e-3, in each of the steps.
const REPEATED: Tolerance = Tolerance::new(f64::INFINITY, 2e-3 * STEPS as f64);

pub(super) fn checks(device: Device) -> Vec<(String, CheckWork<'static>)> {
    let mut checks: Vec<(String, CheckWork<'static>)> = Vec::new();
    for (name, dtype) in [("f32", Dtype::F32), ("bf16", Dtype::Bf16)] {
        let work = move || {
            if !device.is_cuda() {
                return Ok(Found::Skipped("only CUDA devices have graphs".to_owned()));
            }
            let [_, dit, unet] = subject::all();
            let mut comparisons = Vec::new();
            let mut remarks = Vec::new();
            for subject in [dit, unet] {
                compare(&subject, device, dtype, &mut comparisons, &mut remarks)?;
            }
            Ok(Found::Compared(comparisons, remarks.join("; ")))
        };
        checks.push((format!("graph against eager, {name}"), Box::new(work)));
    }
    checks
}

/// Where eager steps repeat bit for bit, a graph must too; where they do not, it must stay within rounding, and what differs
/// is named.
fn compare(
    subject: &Subject,
    device: Device,
    dtype: Dtype,
    comparisons: &mut Vec<Comparison>,
    remarks: &mut Vec<String>,
) -> Result<(), TorchError> {
    let run = |graph| trajectory(subject, device, dtype, graph);
    let (eager, again, graph) = (run(false)?, run(false)?, run(true)?);
    let different = |other: &[(String, Tensor)]| -> Vec<String> {
        let pairs = eager.iter().zip(other);
        pairs
            .filter(|((_, one), (_, other))| !one.equal(other))
            .map(|((name, _), _)| name.clone())
            .collect()
    };
    let unstable = different(&again);
    let tolerance = if unstable.is_empty() {
        Tolerance::EXACT
    } else {
        REPEATED
    };
    for ((name, eager), (_, graph)) in eager.iter().zip(&graph) {
        let name = format!("{} {name}", subject.name);
        comparisons.push(Comparison::new(&name, graph, eager, tolerance));
    }
    let from_graph = different(&graph);
    if !unstable.is_empty() {
        remarks.push(format!(
            "{}: eager steps do not repeat bit for bit in {} tensors, first {}",
            subject.name,
            unstable.len(),
            unstable[0]
        ));
    }
    if !from_graph.is_empty() {
        remarks.push(format!(
            "{}: the graph differs in {} tensors, first {}",
            subject.name,
            from_graph.len(),
            from_graph[0]
        ));
    }
    Ok(())
}

/// Copies of named tensors, with a word before each name.
fn kept(prefix: &str, named: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    let named = named.into_iter();
    named
        .map(|(name, tensor)| (format!("{prefix}{name}"), tensor.detach().copy()))
        .collect()
}

/// One step of training, its average included; its loss.
fn step(
    (objective, model): (&Objective, &Model),
    inputs: &StepInputs,
    optimizer: &mut Adam,
    (average, weight): (&Model, &Tensor),
) -> Result<Tensor, TorchError> {
    let loss = objective.loss_along(Tangent::TRAJECTORY, model, inputs)?;
    loss.loss.backward();
    let gradients = Gradients::take(model.parameters())?;
    let is_finite = gradients.is_finite();
    optimizer.step(&gradients, &is_finite)?;
    ema::update(average.parameters(), model.parameters(), weight, &is_finite)?;
    Ok(loss.loss.detach())
}

/// The losses of some steps on two batches by turns, and all weights, averages and moments after them.
fn trajectory(
    subject: &Subject,
    device: Device,
    dtype: Dtype,
    graph: bool,
) -> Result<Vec<(String, Tensor)>, TorchError> {
    let compute = Compute {
        dtype,
        activation_checkpointing: false,
    };
    let model = subject.model(device, Kind::Float)?.computed(compute);
    let average = model.twin();
    let mut optimizer = Adam::new(model.parameters(), AdamConfig::PUBLISHED);
    optimizer.set_lr(1e-3);
    let objective = objective();
    // Both have the same rows with r < t and without a class: they are the same work.
    let batches = [5, 6].map(|seed| subject.batch(8, seed, device, Kind::Float));
    let mut inputs = StepInputs::new(&objective, &model, &batches[0])?;
    let weight = Tensor::full([], 0.1, (Kind::Float, device));
    let mut cuda_graph = CudaGraph::new(device);
    let mut results = Vec::new();
    for index in 0..STEPS {
        let batch = &batches[index as usize % 2];
        inputs.fill(&StepInputs::new(&objective, &model, batch)?)?;
        let network = (&objective, &model);
        let mut work = || step(network, &inputs, &mut optimizer, (&average, &weight));
        let loss = if graph {
            cuda_graph.run(work)?.copy()
        } else {
            work()?
        };
        model.parameters().changed();
        results.push((format!("loss of step {index}"), loss));
    }
    // What goes on without a graph would be compared with itself.
    if let Some(reason) = cuda_graph.refused() {
        return Err(LibtorchError::call("record steps as a graph", reason).into());
    }
    results.extend(kept("", model.parameters().named()));
    results.extend(kept("average of ", average.parameters().named()));
    results.extend(kept("", optimizer.state()));
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a graph the same code runs as it is written, so that the comparison itself is tested on every machine.
    #[test]
    fn steps_repeat_on_a_cpu() {
        tch::set_num_threads(1);
        let (mut comparisons, mut remarks) = (Vec::new(), Vec::new());
        for subject in subject::all() {
            compare(
                &subject,
                Device::Cpu,
                Dtype::F32,
                &mut comparisons,
                &mut remarks,
            )
            .unwrap();
        }
        assert!(comparisons.iter().all(Comparison::passes), "{remarks:?}");
        assert_eq!(remarks, Vec::<String>::new());
    }
}
