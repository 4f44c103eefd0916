//! The tangent leaves nothing on the tape.

use meanflow_cfg::Guidance;
use meanflow_testing::{batch, config, networks, objective};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::{Batch, Compute, Device, JvpMethod, Kind, Model, Objective, Tensor, memory};

fn model() -> Model {
    let network = networks::dit([2, 128, 6, 4], 4.0, TimeEmbedding::TH);
    let config = config(network, &[4, 16, 16], 10);
    Model::new(config, 0, Device::Cpu, Kind::Float).unwrap()
}

/// The peak of a step, after one that has allocated gradients and libtorch's own buffers.
fn peak(model: &Model, loss: impl Fn() -> Tensor) -> f64 {
    let step = || {
        model.parameters().zero_grad();
        loss().backward();
    };
    step();
    memory::peak(step).1.expect("Linux tells") as f64
}

#[test]
fn a_dual_step_needs_the_memory_of_a_plain_step() {
    memory::count_live_memory_only();
    let model = model();
    let whole = batch(&model, 24, 0.25, &[]);
    let float = |x: &Tensor| x.to_kind(Kind::Float);
    let batch = Batch {
        data: float(&whole.data),
        noise: float(&whole.noise),
        ..whole
    };
    let objective = objective(Guidance::NONE);
    let plain = peak(&model, || {
        objective.flow_matching_loss(&model, &batch).unwrap().loss
    });
    let dual = peak(&model, || objective.loss(&model, &batch).unwrap().loss);
    let forward = Objective {
        jvp: JvpMethod::ForwardAd,
        ..objective.clone()
    };
    let forward = peak(&model, || forward.loss(&model, &batch).unwrap().loss);
    println!(
        "peak MiB: plain {:.1} dual {:.1} forward {:.1}",
        plain / 1048576.0,
        dual / 1048576.0,
        forward / 1048576.0
    );
    assert!(plain > 20e6, "a step worth measuring: {plain}");
    let model = model.computed(Compute {
        activation_checkpointing: true,
        ..Compute::default()
    });
    let again = peak(&model, || objective.loss(&model, &batch).unwrap().loss);
    println!("with blocks computed again {:.1}", again / 1048576.0);
    // One block's values and the inputs of six, beside the values of six.
    assert!(again < 0.5 * dual, "checkpointed {again} against {dual}");
    assert!(dual < 1.10 * plain, "dual {dual} against plain {plain}");
}
