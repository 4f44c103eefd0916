//! The recipes that come with the program.

use super::ConfigError;

/// A recipe inside of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// What it is called.
    pub name: &'static str,
    /// Its text, with comments.
    pub text: &'static str,
}

macro_rules! preset {
    ($name:literal, $file:literal) => {
        Preset {
            name: $name,
            text: include_str!(concat!("../../../../configs/", $file)),
        }
    };
}

/// All of them, those for a first look before the others. `cifar10` is the later of the two published recipes.
pub const PRESETS: [Preset; 12] = [
    preset!("digits", "digits.toml"),
    preset!("pictures", "pictures.toml"),
    preset!("checkerboard", "checkerboard.toml"),
    preset!("mnist", "mnist.toml"),
    preset!("cifar10", "cifar10-v1.toml"),
    preset!("cifar10-v0", "cifar10-v0.toml"),
    preset!("imagenet256-b4", "imagenet256-b4.toml"),
    preset!("imagenet256-b2", "imagenet256-b2.toml"),
    preset!("imagenet256-m2", "imagenet256-m2.toml"),
    preset!("imagenet256-l2", "imagenet256-l2.toml"),
    preset!("imagenet256-xl2", "imagenet256-xl2.toml"),
    preset!("imagenet256-xl2-plus", "imagenet256-xl2-plus.toml"),
];

impl Preset {
    /// The preset of this name.
    ///
    /// # Errors
    /// [`ConfigError::Preset`], with the names that there are.
    pub fn named(name: &str) -> Result<Self, ConfigError> {
        let found = PRESETS.into_iter().find(|preset| preset.name == name);
        found.ok_or_else(|| ConfigError::Preset {
            name: name.to_owned(),
            there: PRESETS.map(|preset| preset.name).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::TrainConfig;

    #[test]
    fn every_preset_is_a_recipe() {
        for preset in PRESETS {
            let config = TrainConfig::parse(Path::new(preset.name), preset.text, &[]);
            assert!(config.is_ok(), "{}: {config:?}", preset.name);
            assert_eq!(Preset::named(preset.name).unwrap(), preset);
        }
    }

    #[test]
    fn an_unknown_name_lists_those_that_there_are() {
        let error = Preset::named("imagenet").unwrap_err().to_string();
        assert!(error.contains("imagenet256-b4, "), "{error}");
        assert!(error.ends_with("got imagenet"), "{error}");
    }
}
