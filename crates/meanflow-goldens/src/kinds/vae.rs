//! Goldens of the VAE: a folder as diffusers writes it, pictures with the law of their latents, latents with their pictures.

use std::path::Path;

use meanflow_torch::TorchError;
use meanflow_torch::networks::Vae;
use serde::Deserialize;
use tch::{Kind, no_grad};

use crate::{Computed, GoldenFile, Report, Setting, Tolerance};

#[derive(Deserialize)]
struct Config {
    /// The folder with configuration and weights, beside the golden.
    folder: String,
}

pub(super) fn check(file: &GoldenFile, setting: &Setting) -> Result<Report, TorchError> {
    let folder = file.beside(&file.config::<Config>()?.folder);
    let vae = load(&folder, setting)?;
    let moments = vae.encode(&file.input("in/pictures", setting)?)?;
    let channels = vae.config().latent_channels;
    let part = |name: &str, start: i64| {
        let values = moments.narrow(1, start, channels);
        Computed::new(name, values, Tolerance::VAE)
    };
    let decoded = vae.decode(&file.input("in/latents", setting)?)?;
    let results = [
        part("out/mean", 0),
        part("out/logvar", channels),
        Computed::new("out/decoded", decoded, Tolerance::VAE),
    ];
    file.report(&results, Vec::new(), |name| name.starts_with("out/"))
}

/// The VAE in the type of the setting; its files are in f32.
fn load(folder: &Path, setting: &Setting) -> Result<Vae, TorchError> {
    let vae = Vae::load(folder, setting.device)?;
    if setting.kind == Kind::Float {
        return Ok(vae);
    }
    let wide = Vae::new(vae.config().clone(), 0, setting.device, setting.kind)?;
    let pairs = wide.parameters().iter().zip(vae.parameters().iter());
    no_grad(|| pairs.for_each(|((_, wide), (_, single))| wide.shallow_clone().copy_(single)));
    Ok(wide)
}
