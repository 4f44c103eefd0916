//! A model and the pictures that it is given.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meanflow_data::decode::Channels;
use meanflow_data::{BadPictures, Dataset, ImageDataset};
use meanflow_torch::{Model, Tensor};
use meanflow_train::{LATENTS_KEY, balanced, class_names_of};

use crate::commands::named_data::{self, Look, Named};
use crate::commands::opening::{CheckpointArgs, Loaded, open_device};
use crate::commands::{classes, picture_data};
use crate::options::{Class, Compute, Reading};
use crate::seeds::Seeds;
use crate::usage::{Damaged, Usage};

/// A model and pictures.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelAndPictures {
    /// A weights file (.safetensors), a run directory, an exported folder, or hf:OWNER/NAME[@REVISION]
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// A picture (.png, .jpg), a folder, .zip or .tar of pictures, an .npz with arr_0, a recipe (.toml), `digits`; of a model of latents, latents
    #[arg(value_name = "PICTURES")]
    pictures: PathBuf,
    /// Which of the pictures, counted from 0, such as 0-7,12 [default: all]
    #[arg(long, value_name = "N,…")]
    indices: Option<Seeds>,
    /// Cut every picture to its centre square and resize it to the model's size, as a recipe of that size does
    #[arg(long)]
    resize: bool,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    compute: Compute,
}

/// An open model with the pictures chosen.
pub(super) struct Opened {
    pub(super) model: Model,
    /// The metadata of its weights.
    pub(super) metadata: BTreeMap<String, String>,
    /// `[N, …]` in model space.
    pub(super) x: Tensor,
    data: Box<dyn Dataset>,
    /// Their places in the data.
    pub(super) indices: Vec<usize>,
    /// The names of the model's classes.
    pub(super) names: Option<Vec<String>>,
    /// Whether the samples are pictures of bytes, not latents or points.
    pub(super) are_pictures: bool,
}

impl ModelAndPictures {
    /// Opens both; the pictures must have the shape of the model's samples.
    pub(super) fn open(&self) -> anyhow::Result<Opened> {
        let device = open_device(&self.compute)?;
        let Loaded {
            model, metadata, ..
        } = self.checkpoint.load(&self.model, device, &self.reading)?;
        let names = class_names_of(&metadata);
        let is_latent = metadata.contains_key(LATENTS_KEY);
        let data = self.data(&model, is_latent)?;
        let indices = self.chosen(data.len())?;
        let examples = data.batch(&indices, 0, 0)?;
        let mut size = vec![indices.len() as i64];
        size.extend(&model.config().shape);
        let x = Tensor::from_slice(&examples.values).reshape(size);
        let shape = &model.config().shape;
        Ok(Opened {
            are_pictures: !is_latent && matches!(shape[..], [1 | 3, _, _]),
            model,
            metadata,
            x,
            data,
            indices,
            names,
        })
    }

    /// The data, of the shape of the model's samples.
    fn data(&self, model: &Model, is_latent: bool) -> anyhow::Result<Box<dyn Dataset>> {
        let shape: Vec<usize> = model.config().shape.iter().map(|&n| n as usize).collect();
        let data = match (self.resize, &shape[..]) {
            (true, &[channels @ (1 | 3), height, width]) if height == width && !is_latent => {
                self.resized(channels, height)?
            }
            (true, _) => {
                let text =
                    format!("--resize: this model's samples are no square pictures, {shape:?}");
                return Err(Usage(text).into());
            }
            (false, _) => {
                let channels = shape.first().copied().filter(|_| shape.len() == 3);
                picture_data::open(&self.pictures, channels, &self.look)?.source
            }
        };
        let (path, got) = (self.pictures.display(), data.shape());
        if got == shape {
            return Ok(data);
        }
        let hint = match (is_latent, data.latents().is_some()) {
            (true, false) => {
                "`meanflow data encode PATH --vae DIR --out LATENTS` makes latents of pictures"
            }
            (false, true) => "these are latents, the model is one of pictures",
            _ => {
                "--resize cuts pictures and resizes them, `meanflow data show PATH --size N --out FILE.png` shows how"
            }
        };
        let text = format!(
            "{path}: expected samples of shape {shape:?} as the model's, got {got:?}; {hint}"
        );
        Err(Damaged(text).into())
    }

    /// Encoded pictures as a recipe of this size reads them.
    fn resized(&self, channels: usize, size: usize) -> anyhow::Result<Box<dyn Dataset>> {
        let Named::Pictures(pictures) = named_data::open(&self.pictures, &self.look)? else {
            let path = self.pictures.display();
            let text = format!("--resize: {path} has samples of one shape already, not pictures");
            return Err(Usage(text).into());
        };
        pictures.refuse_transparent()?;
        let channels = match channels {
            1 => Channels::Grey,
            _ => Channels::Color,
        };
        let set = ImageDataset::new(pictures, size, channels, BadPictures::Refuse)?;
        Ok(Box::new(set))
    }

    /// The places asked for, of `count` pictures.
    fn chosen(&self, count: usize) -> Result<Vec<usize>, Usage> {
        let Some(Seeds(indices)) = &self.indices else {
            return Ok((0..count).collect());
        };
        match indices.iter().find(|&&index| index >= count as u64) {
            None => Ok(indices.iter().map(|&index| index as usize).collect()),
            Some(index) => {
                let path = self.pictures.display();
                let text = format!(
                    "--indices: expected 0 to {}, {path} has {count} pictures, got {index}",
                    count - 1
                );
                Err(Usage(text))
            }
        }
    }
}

impl Opened {
    /// The class of every row, each of a picture in this place and of a seed; none for a model without classes.
    ///
    /// Without a word the classes are those of the pictures, where pictures and model have some.
    pub(super) fn labels(
        &self,
        class: Option<&Class>,
        rows: &[(usize, u64)],
    ) -> anyhow::Result<Option<Vec<i64>>> {
        let classes = self.model.config().classes;
        if classes == 0 {
            return match class {
                None | Some(Class::Balanced | Class::Without) => Ok(None),
                _ => Err(
                    Usage("--class: expected none, this model has no classes".to_owned()).into(),
                ),
            };
        }
        let own = || -> anyhow::Result<Vec<i64>> {
            rows.iter()
                .map(|(place, _)| self.own_label(*place))
                .collect()
        };
        Ok(Some(match class {
            None if self.data.classes() > 0 => own()?,
            None | Some(Class::Without) => vec![classes; rows.len()],
            Some(Class::Data) => own()?,
            Some(Class::Balanced) => {
                let seeds: Vec<u64> = rows.iter().map(|(_, seed)| *seed).collect();
                balanced(&seeds, classes).unwrap_or_default()
            }
            Some(Class::Listed(words)) => {
                let listed = classes::numbers(words, classes, self.names.as_deref())?;
                let place =
                    |(_, seed): &(usize, u64)| listed[(seed % listed.len() as u64) as usize];
                rows.iter().map(place).collect()
            }
        }))
    }

    /// The class of the picture in this place, by the number it has for the model: a name counts where both have names.
    fn own_label(&self, place: usize) -> anyhow::Result<i64> {
        let refuse = |problem: String| {
            let hint = "--class none or another does not ask for it";
            Err(Usage(format!("--class data: {problem}; {hint}")).into())
        };
        let Some(&label) = self.data.labels().get(self.indices[place]) else {
            return refuse("the pictures have no classes".to_owned());
        };
        let name = self
            .data
            .class_names()
            .and_then(|names| names.get(label as usize));
        let found = match (name, &self.names) {
            (Some(name), Some(names)) => names
                .iter()
                .position(|known| known == name)
                .map(|n| n as i64),
            _ => (label < self.model.config().classes).then_some(label),
        };
        match found {
            Some(label) => Ok(label),
            None => {
                let shown = name.cloned().unwrap_or_else(|| label.to_string());
                refuse(format!(
                    "the model does not know the class {shown} of a picture"
                ))
            }
        }
    }

    /// Rows of pictures in these places, `[rows, …]`.
    pub(super) fn rows(&self, places: impl Iterator<Item = usize>) -> Tensor {
        let places: Vec<i64> = places.map(|place| place as i64).collect();
        self.x.index_select(0, &Tensor::from_slice(&places))
    }

    /// How many pictures were chosen.
    pub(super) fn len(&self) -> usize {
        self.indices.len()
    }
}
