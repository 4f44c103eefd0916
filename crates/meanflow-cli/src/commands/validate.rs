//! `meanflow validate`: a recipe, checked, and what follows from it. Data that the recipe describes is not asked for.

use meanflow_core::random::{Purpose, Stream};
use meanflow_torch::ModelConfig;
use meanflow_torch::networks::NetworkConfig;
use meanflow_train::TrainConfig;
use serde_json::{Value, json};

use crate::args::Validate;
use crate::output::say;

pub(crate) fn run(args: &Validate) -> anyhow::Result<u8> {
    let config = TrainConfig::read(&args.recipe.config, &args.recipe.overrides)?;
    let facts = facts(&config)?;
    if args.json {
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
    let epochs = config.training.steps.get() as f64 * batch as f64 / data.samples as f64;
    let mut facts = vec![
        ("samples", json!(data.samples)),
        ("shape", json!(data.shape)),
        ("classes", json!(model.classes)),
        ("parameters", json!(model.parameter_count()?)),
        ("effective_batch", json!(batch)),
        ("jump_rows_first_batch", json!(jumps)),
        ("steps", json!(config.training.steps)),
        ("steps_per_epoch", json!(data.samples as f64 / batch as f64)),
        ("epochs", json!(epochs)),
        ("ema", json!(config.ema.decays)),
    ];
    facts.extend(tokens(&model).map(|tokens| ("tokens", json!(tokens))));
    facts.extend(
        config
            .guidance
            .map(|guidance| ("guidance_scale", json!(guidance.effective_scale()))),
    );
    Ok(facts)
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
