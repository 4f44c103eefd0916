//! `meanflow validate`: a recipe, checked, and what follows from it. Data that the recipe describes is not asked for.

use meanflow_core::random::{Purpose, Stream};
use meanflow_torch::ModelConfig;
use meanflow_torch::networks::NetworkConfig;
use meanflow_train::{Memory, TrainConfig, ema_notes};
use serde_json::{Value, json};

use crate::args::Validate;
use crate::output::say;

pub(crate) fn run(args: &Validate) -> anyhow::Result<u8> {
    let config = TrainConfig::read(&args.recipe.config, &args.recipe.overrides)?;
    let notes = ema_notes(&config);
    let mut facts = facts(&config)?;
    if args.json {
        if !notes.is_empty() {
            facts.push(("notes", json!(notes)));
        }
        let facts: serde_json::Map<String, Value> = facts
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect();
        say(format_args!("{:#}", Value::Object(facts)));
        return Ok(0);
    }
    for (name, value) in facts {
        say(format_args!("{name:<22} {value}"));
    }
    notes.iter().for_each(say);
    Ok(0)
}

fn facts(config: &TrainConfig) -> anyhow::Result<Vec<(&'static str, Value)>> {
    let data = config.data.facts(config.seed)?;
    let model = config.model(&data.shape, data.classes)?;
    let batch = config.training.batch.get();
    let jumps = config
        .times
        .draw(batch, &mut Stream::new(config.seed, Purpose::Times, 0))
        .jumps;
    let cost = config.cost(&model)?;
    let epochs = config.training.steps.get() as f64 * batch as f64 / data.samples as f64;
    let scale = config
        .guidance
        .map_or(1.0, |guidance| guidance.effective_scale());
    let mut facts = vec![
        ("samples", json!(data.samples)),
        ("shape", json!(data.shape)),
        ("classes", json!(model.classes)),
        ("parameters", json!(model.parameter_count()?)),
        ("effective_batch", json!(batch)),
        ("jump_rows_first_batch", json!(jumps)),
        ("steps", json!(config.training.steps)),
        (
            "steps_per_epoch",
            json!(rounded(data.samples as f64 / batch as f64)),
        ),
        ("epochs", json!(rounded(epochs))),
        ("ema", json!(config.ema.names())),
        ("guidance_scale", json!(rounded(scale))),
        ("forward_gflop", json!(rounded(cost.forward / 1e9))),
        ("training_gflop", json!(rounded(cost.training / 1e9))),
    ];
    facts.extend(memory(&cost.memory));
    facts.extend(tokens(&model).map(|tokens| ("tokens", json!(tokens))));
    Ok(facts)
}

/// The estimate and its parts in MiB.
fn memory(memory: &Memory) -> [(&'static str, Value); 6] {
    [
        ("memory_mib", memory.total()),
        ("weights_mib", memory.weights),
        ("gradients_mib", memory.gradients),
        ("optimizer_mib", memory.optimizer),
        ("averages_mib", memory.averages),
        ("activations_mib", memory.activations),
    ]
    .map(|(name, bytes)| (name, json!(rounded(bytes as f64 / f64::from(1 << 20)))))
}

/// To five digits, more than an estimate has.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// Tokens of a transformer.
fn tokens(config: &ModelConfig) -> Option<i64> {
    match (&config.network, config.shape.as_slice()) {
        (NetworkConfig::Dit(dit), [_, height, width]) => {
            Some((height / dit.patch) * (width / dit.patch))
        }
        _ => None,
    }
}
