//! Data that a path names by what is there: a recipe, MNIST's, CIFAR's or latents' files, or the digits inside of the program.

use std::path::Path;

use meanflow_data::cifar::{self, Part, Variant};
use meanflow_data::latents::Latents;
use meanflow_data::{Source, digits, idx};
use meanflow_train::TrainConfig;

/// Opens it without augmentation; none if the path names nothing of that.
pub(super) fn open(path: &Path) -> anyhow::Result<Option<Box<dyn Source>>> {
    if path == Path::new("digits") {
        return Ok(Some(Box::new(digits::load()?)));
    }
    if path.extension().is_some_and(|end| end == "toml") {
        let config = TrainConfig::read(path, &[])?;
        return Ok(Some(config.data.plain().load(config.seed)?));
    }
    for variant in [Variant::Ten, Variant::Hundred] {
        let (files, _) = variant.files(Part::Train);
        if path.join(files[0]).is_file() {
            let data = cifar::read_directory(path, variant, Part::Train)?;
            return Ok(Some(Box::new(data)));
        }
    }
    if path.join("latents.toml").is_file() {
        let any = usize::try_from(i64::MAX)?;
        return Ok(Some(Box::new(Latents::open(path, any, false)?)));
    }
    if has_idx(path) {
        return Ok(Some(Box::new(idx::read_directory(path)?)));
    }
    Ok(None)
}

fn has_idx(path: &Path) -> bool {
    let is_there = |name: String| path.join(name).is_file();
    idx::NAMES
        .iter()
        .any(|(images, _)| is_there((*images).to_owned()) || is_there(format!("{images}.gz")))
}
