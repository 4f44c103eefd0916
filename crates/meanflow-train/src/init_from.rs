//! A run that begins with the weights of another model, and what it took of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meanflow_data::write_bytes;
use meanflow_torch::init_from::{self, InitEntry, InitOutcome};
use meanflow_torch::networks::NetworkConfig;
use meanflow_torch::{Model, ModelConfig, weights};
use serde::Serialize;
use serde_json::json;

use crate::provenance::{LATENTS_KEY, class_names_of};
use crate::run_dir::weights_of;
use crate::{TrainError, files};

/// Weights to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitFrom {
    /// A weights file, or a run directory for its `model.safetensors`.
    pub path: PathBuf,
    /// Whether tensors that do not fit are left as they were drawn, instead of being an error.
    pub partial: bool,
}

/// What a run took of the weights that it began with: `init.json` of its directory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InitReport {
    /// The weights file.
    pub weights: PathBuf,
    /// The SHA-256 of the file.
    pub sha256: String,
    /// What a person should know, a sentence each.
    pub notes: Vec<String>,
    /// What became of every tensor of the network, then of those that the network has not.
    pub tensors: Vec<InitEntry>,
}

impl InitReport {
    /// The tensors of the network that were taken whole, and how many the network has.
    pub fn taken(&self) -> (usize, usize) {
        let is_taken = |entry: &&InitEntry| entry.outcome == InitOutcome::Taken;
        let is_ours = |entry: &&InitEntry| entry.outcome != InitOutcome::Unused;
        (
            self.tensors.iter().filter(is_taken).count(),
            self.tensors.iter().filter(is_ours).count(),
        )
    }

    /// Writes it into a run directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write(&self, root: &Path) -> Result<(), TrainError> {
        let text =
            serde_json::to_string_pretty(self).expect("a report is made of strings and numbers");
        Ok(write_bytes(&root.join("init.json"), text.as_bytes())?)
    }
}

/// Sets a model of these classes and latents to other weights.
pub(crate) fn apply(
    init: &InitFrom,
    model: &Model,
    class_names: Option<&[String]>,
    latents: Option<&str>,
) -> Result<InitReport, TrainError> {
    let path = weights_of(&init.path);
    let refused = |source| TrainError::Init {
        path: path.clone(),
        source,
    };
    let config = init_from::config_of(&path).map_err(refused)?;
    let metadata = weights::header(&path).map_err(refused)?.metadata;
    let their_classes = class_names_of(&metadata);
    let wanted = init_from::InitFrom {
        path: &path,
        their_classes: their_classes.as_deref(),
        our_classes: class_names,
        partial: init.partial,
    };
    let tensors = init_from::init_from(model, &wanted).map_err(refused)?;
    let (_, sha256) = files::fingerprint(&path)?;
    Ok(InitReport {
        notes: notes(&config, model.config(), &metadata, latents),
        weights: path,
        sha256,
        tensors,
    })
}

/// What differs between two models although every tensor may fit.
fn notes(
    from: &ModelConfig,
    to: &ModelConfig,
    metadata: &BTreeMap<String, String>,
    latents: Option<&str>,
) -> Vec<String> {
    let mut notes = Vec::new();
    if from.network != to.network {
        // Heads, for one, change what the same tensors mean.
        let [from, to] = [&from.network, &to.network].map(|network| json!(network));
        notes.push(format!(
            "the weights are of another network, {from}, and this one is {to}"
        ));
    }
    if from.schedule != to.schedule {
        let (from, to) = (from.schedule, to.schedule);
        notes.push(format!(
            "the weights were trained on the path {from:?}, and this run trains on {to:?}: velocities mean something else there"
        ));
    }
    if from.prediction != to.prediction {
        let [from, to] = [from.prediction, to.prediction].map(|one| json!(one));
        notes.push(format!(
            "the weights predict {from}, and this run trains on {to}: the network's output means something else there"
        ));
    }
    if from.shape != to.shape {
        let (from, shape) = (&from.shape, &to.shape);
        let positions = match to.network {
            NetworkConfig::Dit(_) => "; the positions of the patches are computed for the new grid",
            _ => "",
        };
        notes.push(format!(
            "the weights were trained on samples of shape {from:?}, and these have {shape:?}{positions}"
        ));
    }
    if metadata.get(LATENTS_KEY).map(String::as_str) != latents {
        notes.push(
            "the weights were trained on latents of another VAE, or one of the two on no latents"
                .to_owned(),
        );
    }
    notes
}
