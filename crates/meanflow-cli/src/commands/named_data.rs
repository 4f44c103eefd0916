//! Data that a path names: a recipe, or whatever [`meanflow_data::open()`] opens, and how its pictures are looked at.

use std::path::Path;

use meanflow_data::decode::{Background, View};
use meanflow_data::{Dataset, ImageArchive, Links, Opened};
use meanflow_train::TrainConfig;

/// How pictures are looked at.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Look {
    /// What shows behind transparent pixels: white, black, #rrggbb, or keep-rgb for the colours stored under them
    #[arg(long, value_name = "COLOR")]
    pub(crate) background: Option<Background>,
    /// Turn and mirror pictures as their Exif metadata say
    #[arg(long)]
    pub(crate) apply_orientation: bool,
    /// Follow links that lead out of a folder of pictures
    #[arg(long)]
    pub(crate) follow_links: bool,
}

impl Look {
    /// The same for the library.
    pub(super) fn view(&self) -> View {
        View {
            background: self.background,
            apply_orientation: self.apply_orientation,
        }
    }
}

/// What a path names.
pub(super) enum Named {
    /// Encoded pictures of any sizes.
    Pictures(ImageArchive),
    /// Samples of one shape, without augmentation.
    Samples(Box<dyn Dataset>),
}

/// The recipe that a path names, by its ending.
pub(super) fn recipe(path: &Path) -> anyhow::Result<Option<TrainConfig>> {
    let end = path.extension().unwrap_or_default();
    if !end.eq_ignore_ascii_case("toml") {
        return Ok(None);
    }
    Ok(Some(TrainConfig::read(path, &[])?))
}

/// Opens it; of a recipe the samples without augmentation.
pub(super) fn open(path: &Path, look: &Look) -> anyhow::Result<Named> {
    if let Some(config) = recipe(path)? {
        return Ok(Named::Samples(config.data.plain().load(config.seed)?));
    }
    let links = if look.follow_links {
        Links::Follow
    } else {
        Links::Inside
    };
    Ok(match meanflow_data::open(path, links)? {
        Opened::Pictures(pictures) => Named::Pictures(pictures.viewed(look.view())),
        Opened::Samples(samples) => Named::Samples(samples),
    })
}
