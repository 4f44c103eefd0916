//! `meanflow new`: the recipes that come with the program.

use meanflow_train::config::{PRESETS, Preset};
use serde_json::json;

use crate::options::preset_names;
use crate::output::{is_json, say};

/// Print a recipe that comes with the program, as a start of your own; without a name, list them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meanflow new pictures > my-pictures.toml")]
pub(crate) struct New {
    /// The recipe
    #[arg(value_name = "NAME", value_parser = preset_names(), hide_possible_values = true)]
    name: Option<String>,
}

pub(crate) fn run(args: &New) -> anyhow::Result<u8> {
    match &args.name {
        Some(name) if is_json() => {
            let preset = Preset::named(name)?;
            say(format_args!(
                "{:#}",
                json!({"name": name, "about": about(&preset), "text": preset.text})
            ));
        }
        Some(name) => say(Preset::named(name)?.text.trim_end()),
        None if is_json() => {
            let listed =
                PRESETS.map(|preset| json!({"name": preset.name, "about": about(&preset)}));
            say(format_args!("{:#}", json!({ "presets": listed })));
        }
        None => PRESETS.iter().for_each(|preset| {
            say(format_args!("{:<22} {}", preset.name, about(preset)));
        }),
    }
    Ok(0)
}

/// The first line of a recipe.
fn about(preset: &Preset) -> &'static str {
    let first = preset.text.lines().next().unwrap_or_default();
    first.trim_start_matches("# ")
}
