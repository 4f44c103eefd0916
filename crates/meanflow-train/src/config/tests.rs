//! A recipe is read whole, or refused with the place of what is wrong.

use super::*;
use proptest::prelude::*;

const RECIPE: &str = r#"seed = 7

[data]
kind = "digits"
conditional = true

[network]
kind = "dit"
patch = 2
width = 96
depth = 4
heads = 4
mlp_ratio = 4.0
embedding = "th"

[path]
kind = "linear"

[times]
t = { kind = "logit-normal", mean = -0.4, std = 1.0 }
mean_flow_ratio = { count = 0.5 }
order = "after-ordering"

[loss]
norm_p = 1.0
norm_eps = 0.01
reduction = "sum"

[guidance]
omega = 1.0
kappa = 0.5
interval = [0.0, 1.0]

[class_dropout]
prob = 0.1
rows = "independent"

[optimizer]
kind = "adamw"
beta1 = 0.9
beta2 = 0.95
epsilon = 1e-8
weight_decay = 0.0

[lr]
schedule = "cosine"
peak = 1e-3
warmup_steps = 10
final_ratio = 0.0

[ema]
decays = [0.999, 0.99]

[training]
batch_size = 128
steps = 3000
checkpoint_every = 500
sample_every = 500
max_grad_norm = 1.0

[sampling]
grid = [8, 8]
nfe = [1, 2, 4]
"#;

fn parse(text: &str, overrides: &[&str]) -> Result<TrainConfig, ConfigError> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    TrainConfig::parse(Path::new("x.toml"), text, &overrides)
}

/// The message for the recipe after a replacement in its text.
fn message(from: &str, to: &str) -> String {
    assert!(RECIPE.contains(from), "{from}");
    parse(&RECIPE.replacen(from, to, 1), &[])
        .unwrap_err()
        .to_string()
}

#[test]
fn what_is_written_is_read_back() {
    let config = parse(RECIPE, &["training.log_every=3", "lr.peak=0.5"]).unwrap();
    assert_eq!(parse(&config.to_toml(), &[]).unwrap(), config);
}

#[test]
fn an_unknown_key_is_named_with_its_place() {
    let text = message("beta1 = 0.9", "beta1 = 0.9\nbeta3 = 0.9");
    assert!(text.starts_with("x.toml:41:1: "), "{text}");
    assert!(
        text.contains("optimizer.beta3") && text.contains("unknown field"),
        "{text}"
    );
}

#[test]
fn an_unknown_key_of_a_table_with_a_kind_is_named_too() {
    let text = message("patch = 2", "patch = 2\npach = 3");
    assert!(text.starts_with("x.toml:10:1: "), "{text}");
    assert!(text.contains("network.pach"), "{text}");
}

#[test]
fn a_number_that_is_none_is_named_with_its_place() {
    for bad in ["nan", "inf", "-inf"] {
        let text = message("peak = 1e-3", &format!("peak = {bad}"));
        assert!(
            text.starts_with("x.toml:47:8: lr.peak: expected a finite number"),
            "{text}"
        );
    }
}

#[test]
fn a_number_out_of_range_is_named_with_what_was_expected() {
    let text = message("peak = 1e-3", "peak = -2.0");
    assert!(
        text.starts_with("x.toml:47:8: lr.peak: expected a number > 0, got"),
        "{text}"
    );
    let text = message("batch_size = 128", "batch_size = 0");
    assert!(
        text.starts_with("x.toml:55:14: training.batch_size"),
        "{text}"
    );
    let text = message("[0.999, 0.99]", "[0.999, 1.0]");
    assert!(
        text.starts_with("x.toml:52:18: ema.decays[1]: expected a number in [0, 1)"),
        "{text}"
    );
}

#[test]
fn a_wrong_type_is_named_inside_a_table_with_a_kind() {
    let text = message("width = 96", "width = \"wide\"");
    assert!(
        text.starts_with("x.toml:10:9: network.width: expected i64, got string \"wide\""),
        "{text}"
    );
}

#[test]
fn a_missing_key_is_named() {
    let text = message("norm_p = 1.0\n", "");
    assert!(text.contains("loss") && text.contains("norm_p"), "{text}");
    let text = message("seed = 7\n", "");
    assert!(text.contains("seed"), "{text}");
}

#[test]
fn guidance_that_divides_by_zero_is_refused() {
    let text = message("kappa = 0.5", "kappa = 1.0");
    assert!(
        text.starts_with("x.toml:31:9: guidance.kappa: expected a number in [0, 1)"),
        "{text}"
    );
}

#[test]
fn contradictions_are_refused_with_their_key() {
    let unlabeled = message("conditional = true", "conditional = false");
    assert!(
        unlabeled.contains("guidance: expected no guidance"),
        "{unlabeled}"
    );
    let undropped = message("prob = 0.1", "prob = 0.0");
    assert!(undropped.contains("class_dropout.prob"), "{undropped}");
    let rounded = message(
        "prob = 0.1\nrows = \"independent\"",
        "prob = 0.003\nrows = \"count\"",
    );
    assert!(
        rounded.contains("drops a label of a batch of 128"),
        "{rounded}"
    );
    let unguided = message(
        "[guidance]\nomega = 1.0\nkappa = 0.5\ninterval = [0.0, 1.0]\n\n[class_dropout]\nprob = 0.1\nrows = \"independent\"",
        "[class_dropout]\nprob = 0.003\nrows = \"count\"",
    );
    assert!(
        unguided.contains("class_dropout.prob: expected 0, or one that drops"),
        "{unguided}"
    );
    let slow = message("warmup_steps = 10", "warmup_steps = 3000");
    assert!(slow.starts_with("x.toml:48:16: lr.warmup_steps"), "{slow}");
    let twice = message("[0.999, 0.99]", "[0.9, 0.9]");
    assert!(
        twice.contains("ema: expected different averages"),
        "{twice}"
    );
    let parts = message("batch_size = 128", "batch_size = 128\nmicrobatches = 129");
    assert!(
        parts.contains("training.microbatches: expected at most"),
        "{parts}"
    );
    let none = message("decays = [0.999, 0.99]", "half_lives = []");
    assert!(none.contains("ema: expected at least one"), "{none}");
    let points = message(
        "kind = \"digits\"\nconditional = true",
        "kind = \"checkerboard\"\nsize = 100",
    );
    assert!(points.contains("network.kind"), "{points}");
}

#[test]
fn compute_is_plain_unless_it_is_written() {
    let plain = parse(RECIPE, &[]).unwrap();
    assert_eq!(plain.compute, ComputeConfig::default());
    assert!(!plain.to_toml().contains("compute"));
    let changed = [
        "compute.dtype=bf16",
        "compute.activation_checkpointing=true",
    ];
    let changed = parse(RECIPE, &changed).unwrap();
    assert_eq!(parse(&changed.to_toml(), &[]).unwrap(), changed);
    assert!(changed.compute.activation_checkpointing && !changed.compute.tf32);
    let twice = message(
        "[sampling]",
        "jvp = \"double-backward\"\n\n[compute]\nactivation_checkpointing = true\n\n[sampling]",
    );
    assert!(
        twice.contains("compute.activation_checkpointing: expected another training.jvp"),
        "{twice}"
    );
}

#[test]
fn a_recording_is_refused_where_steps_are_not_the_same_work() {
    // What varies from batch to batch is padded: the interval of guidance, which labels are dropped, and r by a law of its own.
    let fit = [
        "compute.cuda_graph=true",
        "compute.async_metrics=true",
        "times={ t = { kind = \"uniform\" }, r = { kind = \"uniform\" }, mean_flow_ratio = { count = 0.5 }, order = \"before-ordering\" }",
        "guidance.interval=[0.2, 1.0]",
        "class_dropout.rows=\"flow-matching\"",
    ];
    assert!(parse(RECIPE, &fit).unwrap().compute.cuda_graph);
    for (position, unfit, named) in [
        (
            1,
            "compute.async_metrics=false",
            "compute.async_metrics = true",
        ),
        (
            2,
            "times.mean_flow_ratio = { bernoulli = 0.25 }",
            "times.mean_flow_ratio",
        ),
    ] {
        let mut overrides = fit;
        overrides[position] = unfit;
        let text = parse(RECIPE, &overrides).unwrap_err().to_string();
        assert!(
            text.contains("compute.cuda_graph: expected") && text.contains(named),
            "{text}"
        );
    }
}

#[test]
fn an_override_is_blamed_for_what_it_breaks() {
    let text = parse(RECIPE, &["lr.peak=nan"]).unwrap_err().to_string();
    assert!(
        text.starts_with("--set lr.peak=nan: lr.peak: expected a finite number"),
        "{text}"
    );
    let text = parse(RECIPE, &["training.batches=4"])
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("--set training.batches=4: training.batches: unknown field"),
        "{text}"
    );
    let whole = "lr={schedule=\"cosine\",peak=1e-3,warmup_steps=5,final_ratio=0.0}";
    let text = parse(RECIPE, &["training.steps=4", whole])
        .unwrap_err()
        .to_string();
    let expected =
        format!("--set {whole}: lr.warmup_steps: expected fewer than training.steps = 4, got 5");
    assert_eq!(text, expected);
    let text = parse(RECIPE, &["seed.x=4"]).unwrap_err().to_string();
    assert!(text.contains("expected a table"), "{text}");
}

#[test]
fn broken_syntax_has_a_place() {
    let text = message("seed = 7", "seed = = 7");
    assert!(text.starts_with("x.toml:1:8"), "{text}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*", position in 0..RECIPE.len()) {
        let _ = parse(&text, &[]);
        let _ = parse(&format!("{}{text}{}", &RECIPE[..position], &RECIPE[position..]), &[]);
    }
}
