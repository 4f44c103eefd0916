//! `meanflow validate`: a recipe and its data, checked, and what follows from them. Data that are not there are not asked for where
//! the recipe or the format describes them.

use std::num::NonZeroUsize;

use meanflow_core::random::{Purpose, RngStream};
use meanflow_data::EpochOrder;
use meanflow_data::survey::{DatasetReport, Depth};
use meanflow_torch::ModelConfig;
use meanflow_torch::networks::NetworkConfig;
use meanflow_train::{DataFacts, Memory, TrainConfig, ema_notes};
use serde_json::{Value, json};

use crate::commands::measure::{Measured, measure};
use crate::commands::opening::open_device;
use crate::commands::pictures::kinds;
use crate::options::{Compute, Recipe};
use crate::output::{is_json, say};
use crate::progress::Count;
use crate::usage::Damaged;

/// Check a recipe and its data, and show what follows from them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  meanflow validate configs/digits.toml --set training.batch_size=256 --measure"
)]
pub(crate) struct Validate {
    #[command(flatten)]
    recipe: Recipe,
    /// Train three steps, keep nothing of them, and say how long a run takes on this machine and how much memory
    #[arg(long)]
    measure: bool,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(args: &Validate) -> anyhow::Result<u8> {
    let config = args.recipe.source(&[])?.parse()?;
    let device = args.measure.then(|| open_device(&args.compute));
    let device = device.transpose()?;
    let look = look(&config)?;
    let notes = ema_notes(&config);
    let mut facts = facts(&config, &look.facts)?;
    if let Some(device) = device {
        facts.extend(measured(&measure(&config, device)?));
    }
    facts.push(("data", json!(look.text)));
    if is_json() {
        facts.extend(
            look.kinds
                .iter()
                .map(|(name, count, _)| (*name, json!(count))),
        );
        facts.push(("remarks", json!(look.remarks)));
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
    facts.push(("remarks", json!(look.remarks.len())));
    for (name, value) in facts {
        match value {
            Value::String(text) => say(format_args!("{name:<22} {text}")),
            value => say(format_args!("{name:<22} {value}")),
        }
    }
    for (_, count, what) in look.kinds.iter().filter(|(_, count, _)| *count > 0) {
        say(format_args!("note: {count} pictures {what}"));
    }
    for remark in look.remarks {
        say(format_args!("note: {remark}"));
    }
    notes.iter().for_each(say);
    Ok(0)
}

/// What is known of the data.
struct Look {
    facts: DataFacts,
    /// Whether they were looked at.
    text: String,
    remarks: Vec<String>,
    /// Pictures that are not plain: name, number, and what becomes of them.
    kinds: Vec<(&'static str, usize, String)>,
}

/// Opens the data where they are; where they are not, what the recipe or the format says has to do.
fn look(config: &TrainConfig) -> anyhow::Result<Look> {
    if let Some(path) = config.data.path().filter(|path| !path.exists()) {
        let facts = config.data.facts(config.seed)?;
        let text = format!("not looked at ({} does not exist)", path.display());
        let (remarks, kinds) = (Vec::new(), Vec::new());
        return Ok(Look {
            facts,
            text,
            remarks,
            kinds,
        });
    }
    let data = config.data.load(config.seed)?;
    let facts = DataFacts::of(&*data);
    // The first batch: what is wrong with every sample shows.
    let all = NonZeroUsize::new(data.len()).unwrap_or(NonZeroUsize::MIN);
    let batch = config.training.batch_size.min(all);
    data.batch(
        &EpochOrder::new(all, batch, config.seed).batch_at(0),
        config.seed,
        0,
    )?;
    let remarks = config.data.remarks(&*data);
    let (mut text, mut found) = ("looked at".to_owned(), Vec::new());
    if let Some(pictures) = config.data.collection() {
        let pictures = pictures?;
        let progress = Count::named("pictures", pictures.len());
        let survey = DatasetReport::of(&pictures, Depth::Header, |more| progress.add(more));
        progress.finish();
        let count = survey.damaged.len();
        let allowed = config.data.skip_damaged() * pictures.len() as f64;
        if let Some((_, reason)) = survey.damaged.first().filter(|_| count as f64 > allowed) {
            let text = format!("{count} pictures cannot be read, the first of them: {reason}");
            return Err(Damaged(text).into());
        }
        text = format!(
            "looked at: {} pictures of {} sizes",
            pictures.len(),
            survey.sizes.len()
        );
        found = kinds(&survey.kinds, pictures.view()).to_vec();
    }
    Ok(Look {
        facts,
        text,
        remarks,
        kinds: found,
    })
}

fn facts(config: &TrainConfig, data: &DataFacts) -> anyhow::Result<Vec<(&'static str, Value)>> {
    let model = config.model(&data.shape, data.classes)?;
    let batch = config.training.batch_size.get();
    let jumps = config
        .times
        .draw(batch, &mut RngStream::new(config.seed, Purpose::Times, 0))
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
        ("mean_flow_rows_first_batch", json!(jumps)),
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

/// What three steps say of the whole run on this machine.
fn measured(measured: &Measured) -> Vec<(&'static str, Value)> {
    let mebibytes = |bytes: u64| rounded(bytes as f64 / f64::from(1 << 20));
    let memory = measured.memory.map(mebibytes);
    vec![
        ("measured_step_seconds", json!(rounded(measured.step))),
        ("measured_run_hours", json!(rounded(measured.run / 3600.0))),
        ("measured_memory_mib", json!(memory)),
    ]
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
