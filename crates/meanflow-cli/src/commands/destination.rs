//! Where samples go: a picture, an archive, or a folder.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use meanflow_data::grid::{self, GridStyle};
use meanflow_data::npy::{NpySlice, NpyView};
use meanflow_data::npz::{self, Compression};
use meanflow_data::picture::numbered;
use meanflow_data::{DataError, Picture, Pictures, write_bytes};
use meanflow_train::{LATENTS_KEY, Samples};

use crate::commands::unfinished::{self, Unfinished};
use crate::output::{is_json, is_standard_output, write_out};
use crate::usage::Usage;

/// What kind of output a path asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Output {
    Picture,
    Archive,
    Folder,
}

impl Output {
    pub(crate) fn of(path: &Path) -> anyhow::Result<Self> {
        if is_standard_output(path) {
            return match is_json() {
                true => Err(Usage(
                    "--out -: expected no --json, which standard output is for, too".to_owned(),
                )
                .into()),
                false => Ok(Self::Picture),
            };
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("png") => Ok(Self::Picture),
            Some("npz") => Ok(Self::Archive),
            None => Ok(Self::Folder),
            Some(other) => Err(Usage(format!(
                "--out: expected NAME.png, NAME.npz or a folder, got a .{other} file"
            ))
            .into()),
        }
    }

    /// Refuses an output that cannot be written before anything is computed.
    pub(crate) fn check(self, path: &Path, force: bool) -> anyhow::Result<()> {
        let shown = path.display();
        if self != Self::Folder {
            if path.is_dir() {
                return Err(Usage(format!("--out {shown}: expected a file, got a folder")).into());
            }
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
                return Err(Usage(format!(
                    "--out {shown}: there is no folder {}",
                    parent.display()
                ))
                .into());
            }
            return Ok(());
        }
        if force && path.is_dir() {
            return Ok(());
        }
        unfinished::refuse_others(path, "--force writes into it")
    }

    /// Begins to fill the folder, where the output is one.
    pub(crate) fn begin(self, path: &Path) -> anyhow::Result<Option<Unfinished>> {
        let is_folder = self == Self::Folder;
        is_folder.then(|| Unfinished::begin(path)).transpose()
    }

    /// Writes pictures with their classes, if they have any, and their seeds, which name the pictures of a folder.
    pub(crate) fn write_pictures(
        self,
        path: &Path,
        pictures: &Pictures,
        (labels, seeds): (&[i64], &[u64]),
        columns: Option<NonZeroUsize>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Picture => {
                let columns = columns.map_or_else(|| square(pictures.len()), NonZeroUsize::get);
                let style = GridStyle::legible(columns, pictures.shape()[1]);
                return write_picture(path, &grid::sheet(pictures, &style)?);
            }
            Self::Archive => npz::write_samples(path, pictures, labels)?,
            Self::Folder => pictures.write_folders(path, seeds)?,
        }
        Ok(())
    }

    /// Writes samples with their classes, if they have any, and their seeds, which name the pictures of a folder; `metadata` is
    /// that of the weights.
    pub(crate) fn write(
        self,
        path: &Path,
        samples: &Samples,
        (labels, seeds): (&[i64], &[u64]),
        columns: Option<NonZeroUsize>,
        metadata: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        // Latents may have three channels too.
        let is_picture = is_picture(samples) && !metadata.contains_key(LATENTS_KEY);
        match self {
            Self::Picture => {
                let columns = columns.map_or_else(|| square(samples.len()), NonZeroUsize::get);
                write_picture(path, &samples.sheet(columns)?)?;
            }
            Self::Archive if !is_picture => write_values(path, samples, labels)?,
            Self::Folder if samples.shape == [2] => {
                return Err(Usage(
                    "--out: points of the plane go into NAME.png or NAME.npz".to_owned(),
                )
                .into());
            }
            Self::Folder if !is_picture => {
                return Err(Usage(
                    "--out: these are latents; --vae DIR makes pictures of them, NAME.npz keeps them as they are".to_owned(),
                )
                .into());
            }
            Self::Archive | Self::Folder => {
                let pictures = samples.pictures()?;
                self.write_pictures(path, &pictures, (labels, seeds), columns)?;
            }
        }
        Ok(())
    }
}

/// Writes a picture as PNG, to standard output if the path means that.
pub(crate) fn write_picture(path: &Path, picture: &Picture) -> anyhow::Result<()> {
    if is_standard_output(path) {
        write_out(&picture.to_png()?)?;
    } else {
        picture.write_png(path)?;
    }
    Ok(())
}

/// Writes `samples.csv` beside the pictures of a folder: seed, file, number and name of the class of each.
pub(crate) fn write_index(
    folder: &Path,
    seeds: &[u64],
    labels: &[i64],
    names: Option<&[String]>,
) -> Result<(), DataError> {
    let mut text = "seed,file,class,class_name\n".to_owned();
    for (place, &seed) in seeds.iter().enumerate() {
        let label = labels.get(place).copied();
        let name = label.and_then(|label| names?.get(usize::try_from(label).ok()?));
        let name = name.map_or_else(String::new, |name| quoted(name));
        let label = label.map_or_else(String::new, |label| label.to_string());
        let file = numbered(seed);
        text += &format!("{seed},{},{label},{name}\n", file.display());
    }
    write_bytes(&folder.join("samples.csv"), text.as_bytes())
}

/// A field of a CSV file, in quotes where it needs them.
pub(crate) fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

/// Whether the samples have the channels of pictures.
fn is_picture(samples: &Samples) -> bool {
    matches!(samples.shape[..], [1 | 3, _, _])
}

/// Points or latents as they are, `arr_0`, f32 `[N, …]`, and, if there are labels, `arr_1`, int64 `[N]`.
fn write_values(path: &Path, samples: &Samples, labels: &[i64]) -> Result<(), DataError> {
    let shape = [&[samples.len()], &samples.shape[..]].concat();
    let values = NpyView {
        shape: &shape,
        data: NpySlice::F32(&samples.values),
    };
    let count = [labels.len()];
    let labels = NpyView {
        shape: &count,
        data: NpySlice::I64(labels),
    };
    let arrays = [("arr_0", values), ("arr_1", labels)];
    let arrays = if count == [0] { &arrays[..1] } else { &arrays };
    npz::write(path, arrays, Compression::Deflate)
}

/// Columns of a grid that is about square.
fn square(count: usize) -> usize {
    (count as f64).sqrt().ceil() as usize
}
