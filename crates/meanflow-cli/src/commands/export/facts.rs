//! What a model card says beside the model: how it was trained, and what was measured of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use meanflow_data::latents::Facts;
use meanflow_export::hub_folder::{Metric, Training};
use meanflow_train::config::DataConfig;
use meanflow_train::{LATENTS_KEY, TrainConfig, fingerprint};
use serde_json::Value;

use crate::output::note;
use crate::usage::Usage;

/// The data of a recipe as hubs name it, where they know it.
pub(super) fn dataset(recipe: &TrainConfig) -> Option<String> {
    match recipe.data {
        DataConfig::Cifar10(_) => Some("cifar10".to_owned()),
        DataConfig::Cifar100(_) => Some("cifar100".to_owned()),
        _ => None,
    }
}

/// The VAE whose latents a model draws.
pub(super) fn vae(metadata: &BTreeMap<String, String>) -> anyhow::Result<Option<String>> {
    let facts = metadata
        .get(LATENTS_KEY)
        .map(|json| serde_json::from_str::<Facts>(json));
    let facts = facts
        .transpose()
        .with_context(|| format!("unreadable \"{LATENTS_KEY}\" in the weights"))?;
    Ok(facts.map(|facts| facts.vae))
}

/// How a model was trained; `ema` is the average that was asked for by name.
pub(super) fn training(
    recipe: &TrainConfig,
    metadata: &BTreeMap<String, String>,
    ema: Option<&str>,
) -> Training {
    let averages = recipe.ema.names();
    let average = ema.or(averages.first().map(String::as_str));
    let guidance = recipe.guidance.as_ref();
    let guidance = guidance.and_then(|guidance| serde_json::to_string(guidance).ok());
    Training {
        recipe: recipe.shareable().to_toml(),
        steps: metadata
            .get("step")
            .and_then(|step| step.parse().ok())
            .unwrap_or(0),
        batch_size: recipe.training.batch_size.get() as u64,
        guidance: guidance.map(|guidance| {
            format!("`{guidance}`, learnt: sampling takes one evaluation all the same")
        }),
        ema: average.map_or_else(
            || "as trained".to_owned(),
            |name| format!("the moving average `{name}`"),
        ),
    }
}

/// The values of a report about these weights: of the file that was asked for, or of the run, if there is one.
pub(super) fn metrics(asked: Option<&Path>, weights: &Path) -> anyhow::Result<Vec<Metric>> {
    let of_run: Option<PathBuf> = weights.parent().map(|folder| folder.join("report.json"));
    let Some(path) = asked.or(of_run.as_deref().filter(|path| path.is_file())) else {
        return Ok(Vec::new());
    };
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let report: Value = serde_json::from_str(&text)
        .map_err(|error| Usage(format!("{shown}: no report of an evaluation: {error}")))?;
    let (_, sha256) = fingerprint(weights)?;
    if report["protocol"]["model"]["sha256"] != sha256.as_str() {
        let text = format!(
            "{shown}: a report about other weights than {}",
            weights.display()
        );
        if asked.is_some() {
            return Err(Usage(text).into());
        }
        note(format_args!("note: left out {text}"));
        return Ok(Vec::new());
    }
    Ok(of_report(&report))
}

/// The values of a report, one sampler after the other.
fn of_report(report: &Value) -> Vec<Metric> {
    let protocol = &report["protocol"];
    let reference = protocol["reference"]["name"]
        .as_str()
        .unwrap_or("the reference");
    let samplers = report["samplers"].as_array().into_iter().flatten();
    let values = samplers.flat_map(|sampler| {
        let metrics = sampler["metrics"].as_object().into_iter().flatten();
        metrics.filter_map(move |(name, estimate)| {
            let bounds = estimate["interval"]
                .as_array()
                .and_then(|ends| Some((ends.first()?.as_f64()?, ends.get(1)?.as_f64()?)));
            Some(Metric {
                name: name.clone(),
                value: estimate["mean"].as_f64()?,
                half_width: bounds.map(|(low, high)| (high - low) / 2.0),
                sampler: sampler["name"].as_str()?.to_owned(),
                samples: protocol["samples"].as_u64(),
                reference: reference.to_owned(),
            })
        })
    });
    values.collect()
}
