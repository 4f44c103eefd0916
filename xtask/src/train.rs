//! `cargo xtask train [CONFIG] [ARGUMENTS…]`: from a fresh clone to samples, in one command.

use crate::{program, workspace};
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The recipe a new user trains first.
const DEFAULT: &str = "configs/digits.toml";

/// What to train.
#[derive(clap::Args)]
pub(crate) struct Train {
    /// The recipe, then arguments for `meanflow train`.
    #[arg(
        value_name = "CONFIG [ARGUMENTS]",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<String>,
}

/// Obtains libtorch, builds, and becomes `meanflow train`: signals and the exit status are the trainer's own.
pub(crate) fn run(args: &Train) -> Result<()> {
    let program = program::build("--package meanflow-cli")?.join("meanflow");
    let error = Command::new(&program)
        .arg("train")
        .args(with_config(&args.arguments))
        .exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// The arguments with the default recipe in front where none is named: the first is missing, or an option, and none is a preset.
fn with_config(arguments: &[String]) -> Vec<String> {
    let is_preset = |word: &String| word == "--preset" || word.starts_with("--preset=");
    let named = arguments.first().is_some_and(|word| !word.starts_with('-'))
        || arguments.iter().any(is_preset);
    let default = (!named).then(|| workspace::root().join(DEFAULT).display().to_string());
    default
        .into_iter()
        .chain(arguments.iter().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_recipe_stands_in_only_where_none_is_named() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert!(with_config(&[])[0].ends_with(DEFAULT));
        let given = with_config(&words("--set train.steps=3"));
        assert!(given[0].ends_with(DEFAULT) && given[1..] == words("--set train.steps=3"));
        for preset in ["--preset pictures", "--set a=1 --preset=pictures"] {
            assert_eq!(with_config(&words(preset)), words(preset));
        }
        assert_eq!(
            with_config(&words("mine.toml --set a=1")),
            words("mine.toml --set a=1")
        );
    }
}
