//! What a weights file says of where it comes from, and what it must not say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{ConfigError, TrainConfig};

/// The key of a weights file's metadata under which the resolved recipe stands as TOML.
pub const RECIPE_KEY: &str = "recipe";
/// The key under which stands, as JSON, what the latents are that the model was trained on.
pub const LATENTS_KEY: &str = "latents";
/// The key under which the names of the classes stand as a JSON list.
pub const CLASS_NAMES_KEY: &str = "class_names";

/// How many folders a weights file may lie below the run directory that it is of.
const DEPTH: usize = 4;

impl TrainConfig {
    /// The recipe as it may travel with weights: of an absolute path to the data the last part alone stays, since the rest
    /// says more of a person's machine than of the model.
    #[must_use]
    pub fn shareable(&self) -> Self {
        let mut shareable = self.clone();
        let path = self.data.path().filter(|path| path.is_absolute());
        if let Some(name) = path.and_then(Path::file_name) {
            shareable.data.move_to(PathBuf::from(name));
        }
        shareable
    }
}

/// The recipe that weights were trained by; none where their metadata do not say.
///
/// Where the file still lies in its run directory the place of the data is taken from there: [`TrainConfig::shareable`]
/// leaves it out of the weights.
///
/// # Errors
/// When the recipe in the metadata cannot be read.
pub fn recipe_of(
    weights: &Path,
    metadata: &BTreeMap<String, String>,
) -> Result<Option<TrainConfig>, ConfigError> {
    let Some(text) = metadata.get(RECIPE_KEY) else {
        return Ok(None);
    };
    let recipe = TrainConfig::parse(Path::new("the recipe in the weights file"), text, &[])?;
    let of_run = weights
        .ancestors()
        .skip(1)
        .take(DEPTH)
        .map(|folder| folder.join("config.toml"))
        .find(|config| config.is_file())
        .and_then(|config| TrainConfig::read(&config, &[]).ok());
    Ok(Some(match of_run {
        Some(of_run) if of_run.shareable().data == recipe.data => TrainConfig {
            data: of_run.data,
            ..recipe
        },
        _ => recipe,
    }))
}

/// The names of the classes that the metadata of weights give, in the order of their numbers.
pub fn class_names_of(metadata: &BTreeMap<String, String>) -> Option<Vec<String>> {
    serde_json::from_str(metadata.get(CLASS_NAMES_KEY)?).ok()
}
