//! A recipe as it was given: where from, its text with comments, and what was replaced in it.

use std::path::{Path, PathBuf};

use super::presets::Preset;
use super::{ConfigError, TrainConfig, read_text};

/// The text of a recipe, before it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeSource {
    /// The file, as it was named; `the preset NAME` for one inside of the program.
    pub path: PathBuf,
    /// What it is called: the stem of the file's name, or the name of the preset.
    pub name: String,
    /// The text, with its comments.
    pub text: String,
    /// `key=value`, in the order in which they replace values.
    pub overrides: Vec<String>,
}

impl RecipeSource {
    /// A file.
    ///
    /// # Errors
    /// [`ConfigError::Read`].
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let text = read_text(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let stem = path.file_stem().unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            name: stem.to_string_lossy().into_owned(),
            text,
            overrides: overrides.to_vec(),
        })
    }

    /// A recipe that comes with the program.
    ///
    /// # Errors
    /// [`ConfigError::Preset`].
    pub fn preset(name: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let preset = Preset::named(name)?;
        Ok(Self {
            path: PathBuf::from(format!("the preset {name}")),
            name: name.to_owned(),
            text: preset.text.to_owned(),
            overrides: overrides.to_vec(),
        })
    }

    /// The recipe that the text is.
    ///
    /// # Errors
    /// [`ConfigError`], with the place of the key that is wrong.
    pub fn parse(&self) -> Result<TrainConfig, ConfigError> {
        TrainConfig::parse(&self.path, &self.text, &self.overrides)
    }
}
