//! Between pictures and latents: a data set encoded once, samples decoded.

use std::ops::Range;
use std::path::Path;

use meanflow_data::grid::{self, GridStyle};
use meanflow_data::latents::{self, Facts};
use meanflow_data::npy::{self, NpySlice, NpyView};
use meanflow_data::{DataError, Dataset, Picture, Pictures};
use meanflow_torch::networks::{Vae, VaeFiles};
use meanflow_torch::sampler::Decoder;
use meanflow_torch::{Device, Team, Tensor, TorchError};

use crate::files::create_folder;
use crate::samples::{Samples, to_vec};
use crate::{TrainError, fingerprint};

/// Pixels of one evaluation: one picture of 256×256 is work enough for a kernel, and its widest states take 67 MB each in
/// Stable Diffusion's VAE.
const PIXELS: usize = 1 << 16;

/// Most rows of one evaluation.
const MOST_ROWS: usize = 64;

/// Evaluations that each of several processes does before the first writes what all have.
const EVALUATIONS: usize = 8;

/// Writes the latents of every picture of `data`, in its order, into the new folder `folder`; with `flip` those of the mirrored
/// pictures too. Grey pictures are given to a VAE for colours three times. `done` is told the pictures encoded since it was told last.
///
/// The processes of a team share every block of pictures; the first writes, and alone needs the folder. The latents of a picture
/// depend on nothing but the picture. One block is in memory at a time. The facts are written last: a folder without them is not whole.
///
/// # Errors
/// When the VAE does not fit the pictures, the data cannot be read, the folder cannot be written, or another process was lost.
pub fn encode(
    (data, flip): (&dyn Dataset, bool),
    vae: &Vae,
    facts: &Facts,
    folder: &Path,
    team: &Team,
    mut done: impl FnMut(usize),
) -> Result<(), TrainError> {
    let encoder = Encoder::new(data, vae)?;
    if team.leads() {
        create_folder(folder)?;
    }
    for (name, mirrored) in [(latents::MOMENTS, false), (latents::MOMENTS_FLIP, true)] {
        if mirrored && !flip {
            continue;
        }
        let mut chunks = encoder.blocks(team).map(|block| {
            let own = encoder.moments(own(&block, team), mirrored)?;
            done(block.len());
            Ok::<_, TrainError>(team.gather_f32(own).map_err(TorchError::from)?)
        });
        if !team.leads() {
            chunks.try_for_each(|chunk| chunk.map(drop))?;
            continue;
        }
        let chunks = chunks.map(|chunk| Ok::<_, TrainError>(chunk?.unwrap_or_default()));
        npy::write_chunks(&folder.join(name), &encoder.shape, chunks)?;
    }
    if !team.leads() {
        return Ok(());
    }
    if data.classes() > 0 {
        let labels = NpyView {
            shape: &[data.len()],
            data: NpySlice::I64(data.labels()),
        };
        npy::write(&folder.join(latents::LABELS), labels)?;
    }
    Ok(latents::write_facts(folder, facts)?)
}

/// The part of a block of pictures that one of several processes encodes.
fn own(block: &Range<usize>, team: &Team) -> Range<usize> {
    let own = team.shard().samples(block.len() as u64);
    block.start + own.start as usize..block.start + own.end as usize
}

/// What the latents of this VAE are; `weights` is its file.
///
/// # Errors
/// When that cannot be read.
pub fn facts_of(vae: &Vae, name: &str, weights: &Path) -> Result<Facts, TrainError> {
    let config = vae.config();
    Ok(Facts {
        vae: name.to_owned(),
        scale: config.scaling_factor,
        shift: config.shift_factor,
        vae_sha256: Some(fingerprint(weights)?.1),
    })
}

/// The pictures of samples of latents, scaled as `facts` say.
///
/// A picture depends on its latent alone: every evaluation has the same number of rows, the last one padded.
///
/// # Errors
/// When the VAE has other latents, or other pictures than grey and coloured ones.
pub fn decode(samples: &Samples, vae: &Vae, facts: &Facts) -> Result<Pictures, TrainError> {
    let [channels, height, width] = latent_shape(&samples.shape)?;
    let factor = vae.config().factor() as usize;
    let shape = [
        vae.config().out_channels as usize,
        height * factor,
        width * factor,
    ];
    let size = samples.shape.iter().product::<usize>();
    let rows = rows_of(shape[1] * shape[2]);
    let latent = [-1, channels as i64, height as i64, width as i64];
    let mut values = Vec::with_capacity(samples.len() * shape.iter().product::<usize>());
    for chunk in samples.values.chunks(rows * size) {
        let fresh = chunk.len() / size;
        let latents =
            padded(&Tensor::from_slice(chunk).reshape(latent), rows) / facts.scale + facts.shift;
        let pictures = vae.decode(&latents)?.narrow(0, 0, fresh as i64);
        values.extend(to_vec(&pictures)?);
    }
    Ok(Pictures::from_model(&values, shape)?)
}

/// A VAE that turns the latents of a model into pictures.
#[derive(Debug)]
pub struct LatentDecoder {
    vae: Vae,
    facts: Facts,
    is_another: bool,
}

impl LatentDecoder {
    /// Reads a VAE, a folder or a weights file, for latents of this shape. What is known of the latents that the model is trained on
    /// counts, then what the VAE's own configuration says.
    ///
    /// # Errors
    /// When the VAE cannot be read, or has other latents.
    pub fn open(
        path: &Path,
        device: Device,
        shape: &[i64],
        trained_on: Option<&Facts>,
    ) -> Result<Self, TrainError> {
        let vae = Vae::load(path, device)?;
        vae.fits(shape)?;
        let own = facts_of(&vae, "", &VaeFiles::of(path).weights)?;
        let known = trained_on.and_then(|facts| facts.vae_sha256.as_ref());
        Ok(Self {
            vae,
            is_another: known.is_some() && known != own.vae_sha256.as_ref(),
            facts: trained_on.cloned().unwrap_or(own),
        })
    }

    /// `[channels, height, width]` of the pictures of latents of this shape.
    pub fn picture_shape(&self, latent: &[i64]) -> [usize; 3] {
        let factor = self.vae.config().factor() as usize;
        let side = |place: usize| latent.get(place).map_or(0, |&side| side as usize * factor);
        [self.vae.config().out_channels as usize, side(1), side(2)]
    }

    /// The same for a graph of the sampler.
    pub fn for_trace(&self) -> Decoder<'_> {
        Decoder {
            vae: &self.vae,
            scale: self.facts.scale,
            shift: self.facts.shift,
        }
    }

    /// What a person should know: that the latents are of another VAE.
    pub fn note(&self) -> Option<String> {
        let name = &self.facts.vae;
        self.is_another
            .then(|| format!("the latents are of another VAE, {name}; this one decodes them"))
    }

    /// The pictures of samples.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode(&self, samples: &Samples) -> Result<Pictures, TrainError> {
        decode(samples, &self.vae, &self.facts)
    }
}

/// A grid of samples, as [`Samples::sheet`] makes it; of latents the pictures that a decoder makes of them.
///
/// # Errors
/// As [`Samples::sheet`], and those of the decoder.
pub(crate) fn sheet(
    samples: &Samples,
    decoder: Option<&LatentDecoder>,
    columns: usize,
) -> Result<Picture, TrainError> {
    let Some(decoder) = decoder else {
        return Ok(samples.sheet(columns)?);
    };
    let pictures = decoder.decode(samples)?;
    let style = GridStyle::legible(columns, pictures.shape()[1]);
    Ok(grid::sheet(&pictures, &style)?)
}

/// Pictures on their way through the encoder.
struct Encoder<'a> {
    data: &'a dyn Dataset,
    vae: &'a Vae,
    /// Channels, height and width of a picture.
    picture: [i64; 3],
    /// Of all moments together.
    shape: [usize; 4],
    rows: usize,
}

impl<'a> Encoder<'a> {
    fn new(data: &'a dyn Dataset, vae: &'a Vae) -> Result<Self, TrainError> {
        let (config, factor) = (vae.config(), vae.config().factor());
        let wanted = config.in_channels;
        let fits = |side: usize| side as i64 % factor == 0;
        match *data.shape() {
            [channels, height, width]
                if (channels == 1 || channels as i64 == wanted) && fits(height) && fits(width) =>
            {
                let side = |side: usize| side / factor as usize;
                let moments = 2 * config.latent_channels as usize;
                Ok(Self {
                    data,
                    vae,
                    picture: [channels as i64, height as i64, width as i64],
                    shape: [data.len(), moments, side(height), side(width)],
                    rows: rows_of(height * width),
                })
            }
            ref other => {
                let error = TorchError::Shape {
                    what: "pictures for the VAE".into(),
                    expected: format!("[1 or {wanted}, H, W], H and W multiples of {factor}"),
                    got: other.iter().map(|&side| side as i64).collect(),
                };
                Err(error.into())
            }
        }
    }

    /// The pictures that are encoded before they are written: of one process alone those of an evaluation, else of some for each.
    fn blocks(&self, team: &Team) -> impl Iterator<Item = Range<usize>> + use<> {
        let world = team.shard().world() as usize;
        let evaluations = if world == 1 { 1 } else { EVALUATIONS * world };
        let (all, block) = (self.data.len(), self.rows * evaluations);
        (0..all)
            .step_by(block)
            .map(move |start| start..all.min(start + block))
    }

    /// The moments of some pictures.
    fn moments(&self, pictures: Range<usize>, mirrored: bool) -> Result<Vec<f32>, TrainError> {
        let mut values =
            Vec::with_capacity(pictures.len() * self.shape[1..].iter().product::<usize>());
        for start in pictures.clone().step_by(self.rows) {
            let indices: Vec<usize> = (start..pictures.end.min(start + self.rows)).collect();
            values.extend(self.evaluate(&indices, mirrored)?);
        }
        Ok(values)
    }

    /// The moments of the pictures of one evaluation.
    fn evaluate(&self, indices: &[usize], mirrored: bool) -> Result<Vec<f32>, TrainError> {
        let examples = self.data.batch(indices, 0, 0)?;
        let [channels, height, width] = self.picture;
        let mut pictures =
            Tensor::from_slice(&examples.values).reshape([-1, channels, height, width]);
        if mirrored {
            pictures = pictures.flip([-1]);
        }
        if channels != self.vae.config().in_channels {
            pictures = pictures.repeat([1, self.vae.config().in_channels, 1, 1]);
        }
        let moments = self.vae.encode(&padded(&pictures, self.rows))?;
        let fresh = moments.narrow(0, 0, indices.len() as i64);
        Ok(to_vec(&fresh)?)
    }
}

/// Rows of one evaluation, the same everywhere: libtorch's last bits depend on it.
fn rows_of(pixels: usize) -> usize {
    (PIXELS / pixels.max(1)).clamp(1, MOST_ROWS)
}

/// `[B, …]` with the last row repeated up to `rows`.
fn padded(x: &Tensor, rows: usize) -> Tensor {
    let count = x.size()[0];
    let missing = rows as i64 - count;
    if missing <= 0 {
        return x.shallow_clone();
    }
    let mut size = x.size();
    size[0] = missing;
    let last = x.narrow(0, count - 1, 1).expand(size, false);
    Tensor::cat(&[x, &last], 0)
}

fn latent_shape(shape: &[usize]) -> Result<[usize; 3], DataError> {
    shape.try_into().map_err(|_| DataError::Shape {
        what: "samples",
        expected: "latents [channels, height, width]".to_owned(),
        got: format!("{shape:?}"),
    })
}
