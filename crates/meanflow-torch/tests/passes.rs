//! A step does what the derivation says, counted as it is done.

use meanflow_cfg::{Guidance, GuidanceInterval};
use meanflow_testing::{batch, dit_model, objective};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::{ForwardCounts, JvpMethod};

/// The units of a MeanFlow step of 8 rows of which 2 jump, with these rows' labels dropped.
fn units(guidance: Guidance, jvp: JvpMethod, drop: &[usize]) -> f64 {
    let model = dit_model(TimeEmbedding::TH, 10);
    let mut objective = objective(guidance);
    objective.jvp = jvp;
    let batch = batch(&model, 8, 0.25, drop);
    objective.loss(&model, &batch).unwrap();
    model.passes().units(8)
}

#[test]
fn a_step_costs_three_units_and_the_mean_flow_rows() {
    assert_eq!(units(Guidance::NONE, JvpMethod::Dual, &[]), 3.25);
    // A pass of its own has the primal of the MeanFlow rows once more.
    assert_eq!(units(Guidance::NONE, JvpMethod::ForwardAd, &[]), 3.5);
}

#[test]
fn guidance_costs_a_null_forward_and_a_class_forward_of_the_mean_flow_rows() {
    let kappa = Guidance::new(1.0, 0.5, GuidanceInterval::ALL).unwrap();
    let null_only = Guidance::new(2.0, 0.0, GuidanceInterval::ALL).unwrap();
    assert_eq!(units(kappa, JvpMethod::Dual, &[]), 4.5);
    assert_eq!(units(null_only, JvpMethod::Dual, &[]), 4.25);
    // A row without a class is not guided: a flow-matching row spares its null forward.
    assert_eq!(units(kappa, JvpMethod::Dual, &[7]), 4.375);
}

#[test]
fn flow_matching_costs_three_units_and_a_sample_one() {
    let model = dit_model(TimeEmbedding::TH, 10);
    let rows = batch(&model, 8, 0.25, &[]);
    objective(Guidance::NONE)
        .flow_matching_loss(&model, &rows)
        .unwrap();
    let trained = model.passes();
    assert_eq!(trained.units(8), 3.0);
    let _sample = model.predict(&rows.data, &[0.0; 8], &[1.0; 8], None);
    let sampled = model.passes().since(trained);
    assert_eq!(
        sampled,
        ForwardCounts {
            forwards: 8,
            tangents: 0,
            taped: 0
        }
    );
}
