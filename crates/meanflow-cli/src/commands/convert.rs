//! `meanflow convert`: official weights to ours and back, every tensor accounted for.

use std::collections::BTreeMap;
use std::path::Path;

use meanflow_torch::convert::{Entry, Layout, below, export, fits, import};
use meanflow_torch::{Device, Kind, Model, weights};
use meanflow_train::weights_of;
use serde_json::json;

use crate::args::{Convert, Direction, To};
use crate::commands::located::located;
use crate::commands::{load_model, model_of};
use crate::output::{is_json, say};

pub(crate) fn run(args: &Convert) -> anyhow::Result<u8> {
    let entries = match &args.direction {
        Direction::Import(to) => import_file(to)?,
        Direction::Export {
            model,
            layout,
            out,
            reading,
        } => {
            let (model, _) =
                load_model(&weights_of(&located(model, reading)?), Device::Cpu, reading)?;
            let (tensors, entries) = export(&model, layout.layout());
            weights::save(out, &tensors, BTreeMap::new())?;
            entries
        }
    };
    if is_json() {
        let tensors = entries.iter().map(|entry| {
            json!({
                "official": entry.official, "official_shape": entry.official_shape, "ours": entry.ours, "shape": entry.shape,
            })
        });
        say(format_args!(
            "{:#}",
            json!({ "tensors": tensors.collect::<Vec<_>>() })
        ));
        return Ok(0);
    }
    for entry in &entries {
        say(entry);
    }
    say(format_args!("{} tensors", entries.len()));
    Ok(0)
}

fn import_file(to: &To) -> anyhow::Result<Vec<Entry>> {
    let config = to.recipe.source(&[])?.parse()?;
    let network = model_of(&config)?;
    let tensors = below(&weights::read(&to.file)?, &to.root);
    let layout = Layout::of(tensors.keys().map(String::as_str));
    fits(&network, layout, &tensors, &to.file)?;
    let model = Model::new(network, 0, Device::Cpu, Kind::Float)?;
    let entries = import(&model, layout, &tensors, &to.file)?;
    let name = to
        .file
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    model.save(
        Path::new(&to.out),
        BTreeMap::from([("converted_from".to_owned(), name)]),
    )?;
    Ok(entries)
}
