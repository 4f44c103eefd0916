//! Options that change how a step is computed, and not what it computes.

mod common;

use common::recipe;
use meanflow_torch::{Device, Tensor, host};
use meanflow_train::{StepMetrics, Trainer};

/// Changes to the recipe: Adam at a rate that stays, one average, no limit to the gradient.
const PLAIN: [&str; 4] = [
    "optimizer={ kind = \"adam\", beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.0 }",
    "lr={ schedule = \"constant\", peak = 1e-2, warmup_steps = 3 }",
    "ema={ decays = [0.9] }",
    "training={ batch_size = 32, steps = 20, checkpoint_every = 20, sample_every = 20 }",
];

fn trained(overrides: &[&str]) -> (Trainer, Vec<StepMetrics>) {
    trained_for(8, overrides)
}

fn trained_for(steps: usize, overrides: &[&str]) -> (Trainer, Vec<StepMetrics>) {
    let config = recipe(&[&PLAIN, overrides].concat());
    let data = config.data.load(config.seed).unwrap();
    let mut trainer = Trainer::new(config, data, Device::Cpu).unwrap();
    let reports = (0..steps).map(|_| trainer.step().unwrap()).collect();
    (trainer, reports)
}

/// `max |a − b|` over all parameters.
fn distance(one: &[&Tensor], other: &[&Tensor]) -> f64 {
    let distances = one
        .iter()
        .zip(other)
        .map(|(a, b)| (*a - *b).abs().max().double_value(&[]));
    distances.fold(0.0, f64::max)
}

#[test]
fn a_batch_in_parts_is_the_same_step() {
    let (whole, reports) = trained(&[]);
    for parts in [2, 5, 32] {
        let (split, others) = trained(&[&format!("training.microbatches={parts}")]);
        for (one, other) in reports.iter().zip(&others) {
            // f32 sums in another order, passed on by eight steps of Adam.
            assert!(
                (one.loss - other.loss).abs() < 1e-4 * one.loss.abs(),
                "{parts} parts"
            );
            assert!((one.v_loss - other.v_loss).abs() < 1e-3 * one.v_loss);
        }
        let distance = distance(
            &whole.model().parameters().tensors(),
            &split.model().parameters().tensors(),
        );
        assert!(
            distance < 1e-3,
            "{parts} parts: {distance}, after steps that moved weights by 5e-2"
        );
    }
}

#[test]
fn every_exact_method_trains_the_same() {
    let (dual, _) = trained(&[]);
    for jvp in ["forward-ad", "double-backward"] {
        let (other, _) = trained(&[&format!("training.jvp={jvp}")]);
        let distance = distance(
            &dual.model().parameters().tensors(),
            &other.model().parameters().tensors(),
        );
        // As above.
        assert!(distance < 1e-3, "{jvp}: {distance}");
    }
}

#[test]
fn blocks_that_are_computed_again_train_the_same() {
    for parts in [1, 4] {
        let parts = format!("training.microbatches={parts}");
        let (plain, _) = trained(&[&parts]);
        let (again, _) = trained(&[&parts, "compute.activation_checkpointing=true"]);
        let distance = distance(
            &plain.model().parameters().tensors(),
            &again.model().parameters().tensors(),
        );
        // As above.
        assert!(distance < 1e-3, "{parts}: {distance}");
    }
}

/// Everything a step can need: guidance, dropped labels, parts, clipping, two averages.
const RICH: [&str; 8] = [
    "data={ kind = \"digits\", conditional = true }",
    "network={ kind = \"dit\", patch = 4, width = 16, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = \"th\" }",
    "guidance={ omega = 1.0, kappa = 0.5, interval = [0.2, 0.9] }",
    "class_dropout={ prob = 0.1, rows = \"independent\" }",
    "training.microbatches=2",
    // The gradient is longer than this in some of the steps and shorter in others.
    "training.max_grad_norm=0.35",
    "training.log_every=4",
    "ema={ decays = [0.9], half_lives = [{ samples = 100.0 }] }",
];

#[test]
fn numbers_that_stay_on_the_device_change_nothing() {
    let (plain, reports) = trained(&RICH);
    let (deferred, others) = trained(&[&RICH[..], &["compute.async_metrics=true"]].concat());
    assert_eq!(reports, others);
    let clipped = reports.iter().filter(|one| one.grad_norm > 0.35).count();
    assert!((1..8).contains(&clipped), "{clipped} of 8 were clipped");
    for (one, other) in [
        (plain.model(), deferred.model()),
        (plain.average().0, deferred.average().0),
    ] {
        assert_eq!(one.parameters().named(), other.parameters().named());
    }
}

#[test]
fn nobody_waits_for_a_step_whose_numbers_stay_on_the_device() {
    let waits = |metrics: &str| {
        let (mut trainer, _) = trained(&[&RICH[..], &[metrics]].concat());
        let (_, steps) = host::waits(|| (0..4).for_each(|_| trainer.advance().unwrap())).unwrap();
        let (reports, reading) = host::waits(|| trainer.metrics().unwrap()).unwrap();
        assert_eq!(reports.len(), 4);
        assert_eq!(reports[3].step, trainer.steps_done());
        (steps, reading)
    };
    assert_eq!(waits("compute.async_metrics=true"), (0, 1));
    assert_eq!(waits("compute.async_metrics=false"), (4, 0));
}

/// What makes [`RICH`] the same work in every step.
const ALIKE: [&str; 3] = [
    "guidance={ omega = 0.7, kappa = 0.6, interval = [0.0, 1.0] }",
    "class_dropout={ prob = 0.1, rows = \"count\" }",
    "compute.async_metrics=true",
];

#[test]
fn steps_on_the_same_memory_change_nothing() {
    for every in ["ema.every=1", "ema.every=3"] {
        let (fresh, reports) = trained(&[&RICH[..], &ALIKE, &[every]].concat());
        let (fixed, others) =
            trained(&[&RICH[..], &ALIKE, &[every, "compute.cuda_graph=true"]].concat());
        assert_eq!(reports, others);
        for (one, other) in [
            (fresh.model(), fixed.model()),
            (fresh.average().0, fixed.average().0),
        ] {
            assert_eq!(one.parameters().named(), other.parameters().named());
        }
    }
}

#[test]
fn bfloat16_factors_follow_steps_on_the_same_memory() {
    let bf16 = [&RICH[..], &ALIKE, &["compute.dtype=bf16"]].concat();
    let (_, reports) = trained(&bf16);
    let (_, others) = trained(&[&bf16[..], &["compute.cuda_graph=true"]].concat());
    assert_eq!(reports, others);
}

#[test]
fn with_counted_rows_every_step_has_the_same_passes() {
    let passes = |overrides: &[&str]| {
        let (mut trainer, _) = trained_for(0, &[&RICH[..], overrides].concat());
        let mut step = |_| {
            let before = trainer.model().passes();
            trainer.step().unwrap();
            trainer.model().passes().since(before)
        };
        (0..8).map(&mut step).collect::<Vec<_>>()
    };
    let counted = "class_dropout={ prob = 0.1, rows = \"count\" }";
    let always = "guidance={ omega = 1.0, kappa = 0.5, interval = [0.0, 1.0] }";
    for one in passes(&[counted, always]) {
        // Of 16 MeanFlow rows 2 are without their class, of all 32 rows 3.
        let expected = (32 + 14 + 29, 16, 32);
        assert_eq!((one.forwards, one.tangents, one.taped), expected);
    }
    for varying in [&[counted][..], &[always]] {
        let all = passes(varying);
        assert!(all.iter().any(|one| *one != all[0]), "{varying:?}");
    }
}

#[test]
fn products_in_bfloat16_train_about_the_same() {
    // The mean of the last quarter of a run, in which the loss of the digits falls to less than half.
    let end = |precision: &str| {
        let (_, reports) = trained_for(
            200,
            &[
                "data={ kind = \"digits\", conditional = false }",
                "network={ kind = \"dit\", patch = 4, width = 32, depth = 2, heads = 2, mlp_ratio = 2.0, embedding = \"th\" }",
                "lr.peak=2e-3",
                "training.steps=200",
                &format!("compute.dtype={precision:?}"),
            ],
        );
        let mean = |reports: &[StepMetrics]| {
            reports.iter().map(|report| report.v_loss).sum::<f64>() / reports.len() as f64
        };
        (mean(&reports[..5]), mean(&reports[150..]))
    };
    let ((begin, plain), (_, rounded)) = (end("f32"), end("bf16"));
    println!("{begin} to {plain}, {rounded}");
    assert!(plain < 0.6 * begin, "{begin} to {plain}: trained");
    assert_ne!(plain, rounded, "the products are rounded");
    // Rounding by 2^-9 is noise far below that of a batch, and both runs see the same batches.
    assert!(
        (rounded / plain - 1.0).abs() < 0.02,
        "{plain} and {rounded}"
    );
}

#[test]
fn averages_follow_their_laws() {
    // From the first step on, as a half-life without a ramp is.
    let (constant, _) = trained(&["ema.warmup=false"]);
    // Half is kept after so many samples that a step keeps 0.9.
    let samples = 32.0 * 0.5_f64.ln() / 0.9_f64.ln();
    let half_lives = format!("ema={{ half_lives = [{{ samples = {samples:.15} }}] }}");
    let (half_life, _) = trained(&[&half_lives]);
    assert!(half_life.average().1.starts_with("half-life-"));
    let parameters = |trainer: &Trainer| trainer.average().0.parameters().named();
    for ((_, one), (_, other)) in parameters(&constant).iter().zip(&parameters(&half_life)) {
        // Roundings of f32.
        assert!((one - other).abs().max().double_value(&[]) < 1e-6);
    }
    let (rare, _) = trained(&["ema.every=100"]);
    let (fresh, _) = trained_for(0, &[]);
    assert_eq!(
        parameters(&rare),
        fresh.model().parameters().named(),
        "no update was due"
    );
}

#[test]
fn the_monitor_knows_where_it_looks() {
    let (_, reports) = trained(&[]);
    let bins = &reports[0].v_loss_by_tr;
    let known = (0..4)
        .flat_map(|t| (0..4).map(move |r| (t, r)))
        .filter(|(t, r)| bins.get(*t, *r).is_some());
    assert!(known.clone().count() > 3);
    assert!(known.clone().all(|(t, r)| r <= t), "r is never beyond t");
}
