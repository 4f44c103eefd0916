//! `meanflow new`: the recipes that come with the program.

use meanflow_train::config::{PRESETS, Preset};

use crate::args::New;
use crate::output::say;

pub(crate) fn run(args: &New) -> anyhow::Result<u8> {
    match &args.name {
        Some(name) => say(Preset::named(name)?.text.trim_end()),
        None => PRESETS.iter().for_each(|preset| {
            let first = preset.text.lines().next().unwrap_or_default();
            say(format_args!(
                "{:<22} {}",
                preset.name,
                first.trim_start_matches("# ")
            ));
        }),
    }
    Ok(0)
}
