//! The variational autoencoder of latent diffusion (Rombach et al. 2022, arXiv:2112.10752): diffusers' `AutoencoderKL`.
//!
//! Legend: `B` samples, `C` latent channels, pictures `[B, channels, H, W]` in [−1, 1], latents `[B, C, h, w]` with
//! `H = factor · h`, `W = factor · w`.

mod block;
mod coder;
mod config;
mod hints;
mod names;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor, no_grad};

use self::coder::{Decoder, Encoder};
pub use self::config::VaeConfig;
use crate::layers::Convolution;
use crate::model::parameters::{Declaration, Parameters, VarBuilder};
use crate::{Dual, TorchError, weights};

/// Encoder and decoder with their parameters.
#[derive(Debug)]
pub struct Vae {
    config: VaeConfig,
    parameters: Parameters,
    network: VaeNetwork,
    kind: Kind,
    device: Device,
}

/// Where the files of a VAE are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VaeFiles {
    /// `config.json`.
    pub config: PathBuf,
    /// The weights.
    pub weights: PathBuf,
}

impl VaeFiles {
    /// Of a folder as diffusers writes it (`config.json`, `diffusion_pytorch_model.safetensors`), or of a weights file with
    /// `config.json` beside it. The files need not be there.
    pub fn of(path: &Path) -> Self {
        let weights = if path.is_dir() {
            path.join("diffusion_pytorch_model.safetensors")
        } else {
            path.to_owned()
        };
        Self {
            config: weights.with_file_name("config.json"),
            weights,
        }
    }
}

impl Vae {
    /// A VAE with parameters drawn from `seed`, the same on every device.
    ///
    /// # Errors
    /// If the configuration describes no network.
    pub fn new(
        config: VaeConfig,
        seed: u64,
        device: Device,
        kind: Kind,
    ) -> Result<Self, TorchError> {
        config.validate()?;
        let declaration = Declaration::drawn(seed, kind, device);
        Ok(Self::declare(config, declaration, kind, device))
    }

    /// The VAE of a folder or weights file (see [`VaeFiles`]), in f32. The names of the attention may be the older ones
    /// (`query`, `key`, `value`, `proj_attn`).
    ///
    /// # Errors
    /// As [`VaeConfig::read`] and [`weights::load_strict`]: with every missing, unexpected or differing tensor.
    pub fn load(path: &Path, device: Device) -> Result<Self, TorchError> {
        let files = VaeFiles::of(path);
        // First, for it refuses what is no weights file at all.
        hints::refuse_absent(&files.weights)?;
        let header = weights::header(&files.weights)?;
        let config = VaeConfig::read(&files.config)?;
        let kind = Kind::Float;
        let there: BTreeSet<&str> = header.tensors.iter().map(|one| one.name.as_str()).collect();
        let renamed = |parameters: &Parameters| -> Vec<(String, Tensor)> {
            let named = parameters.named().into_iter();
            named
                .map(|(name, tensor)| (names::in_file(&name, &there), tensor))
                .collect()
        };
        // The file has the sizes before memory is taken for them.
        let mut outline = Declaration::shapes();
        VaeNetwork::new(&mut outline.root(), &config);
        weights::fits(&files.weights, &header, &renamed(&outline.finish()))
            .map_err(|error| hints::of_layout(error, &there))?;
        let vae = Self::declare(config, Declaration::blank(kind, device), kind, device);
        weights::load_strict(&files.weights, &renamed(&vae.parameters))?;
        vae.parameters.refuse_not_finite(&files.weights)?;
        Ok(vae)
    }

    fn declare(
        config: VaeConfig,
        mut declaration: Declaration,
        kind: Kind,
        device: Device,
    ) -> Self {
        let network = VaeNetwork::new(&mut declaration.root(), &config);
        Self {
            config,
            parameters: declaration.finish(),
            network,
            kind,
            device,
        }
    }

    /// What it is.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Its parameters, under diffusers' names.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Their type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Refuses a shape of samples, without the batch, that are no latents of this VAE.
    ///
    /// # Errors
    /// If it is not `[latent_channels, h, w]`.
    pub fn fits(&self, shape: &[i64]) -> Result<(), TorchError> {
        let channels = self.config.latent_channels;
        if matches!(shape[..], [c, _, _] if c == channels) {
            return Ok(());
        }
        Err(TorchError::Argument {
            what: "VAE",
            expected: format!("a model of latents [{channels}, height, width]"),
            got: format!("one of {shape:?}"),
        })
    }

    /// The network over dual numbers, on the tape.
    pub fn network(&self) -> &VaeNetwork {
        &self.network
    }

    /// The law of the latents of pictures, without a tape: `[B, channels, H, W]` to `[B, 2·C, h, w]`, mean, then logarithm
    /// of the variance. Rows do not influence each other.
    ///
    /// # Errors
    /// If the pictures have other channels, or a side that is no multiple of the factor.
    pub fn encode(&self, pictures: &Tensor) -> Result<Tensor, TorchError> {
        let (channels, factor) = (self.config.in_channels, self.config.factor());
        let fits = matches!(pictures.size()[..], [_, c, height, width]
            if c == channels && sides_fit([height, width], factor));
        if !fits {
            let expected = format!("[B, {channels}, H, W], H and W multiples of {factor}");
            return Err(shape_error("pictures for the VAE", expected, pictures));
        }
        let pictures = pictures.to_kind(self.kind).to_device(self.device);
        Ok(no_grad(|| {
            self.network.encode(&pictures.into()).into_parts().0
        }))
    }

    /// The pictures of latents as the encoder gives them, without a tape: `[B, C, h, w]` to `[B, channels, H, W]`. Rows do not
    /// influence each other.
    ///
    /// # Errors
    /// If the latents have other channels.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, TorchError> {
        let channels = self.config.latent_channels;
        let fits = matches!(latents.size()[..], [_, c, height, width]
            if c == channels && sides_fit([height, width], 1));
        if !fits {
            let expected = format!("[B, {channels}, h, w]");
            return Err(shape_error("latents for the VAE", expected, latents));
        }
        let latents = latents.to_kind(self.kind).to_device(self.device);
        Ok(no_grad(|| {
            self.network.decode(&latents.into()).into_parts().0
        }))
    }
}

impl VaeConfig {
    /// Name and shape of every parameter; none of them is allocated.
    ///
    /// # Errors
    /// If the configuration describes no network.
    pub fn tensors(&self) -> Result<Vec<(String, Vec<i64>)>, TorchError> {
        self.validate()?;
        let mut declaration = Declaration::shapes();
        drop(VaeNetwork::new(&mut declaration.root(), self));
        let parameters = declaration.finish();
        let shapes = parameters.iter();
        Ok(shapes
            .map(|(name, tensor)| (name.to_owned(), tensor.size()))
            .collect())
    }
}

/// Encoder, decoder and the convolutions of side 1 between them.
#[derive(Debug)]
pub struct VaeNetwork {
    encoder: Encoder,
    decoder: Decoder,
    quant: Option<Convolution>,
    post_quant: Option<Convolution>,
}

impl VaeNetwork {
    /// Declares `encoder`, `decoder`, `quant_conv` and `post_quant_conv`; the configuration has been validated.
    fn new(vars: &mut VarBuilder, config: &VaeConfig) -> Self {
        let channels = config.latent_channels;
        let encoder = Encoder::new(&mut vars.sub("encoder"), config);
        let decoder = Decoder::new(&mut vars.sub("decoder"), config);
        let mut pointwise = |name: &str, channels: i64| {
            Convolution::new(&mut vars.sub(name), channels, channels, 1, 1.0)
        };
        Self {
            encoder,
            decoder,
            quant: config
                .quant_conv
                .then(|| pointwise("quant_conv", 2 * channels)),
            post_quant: config
                .post_quant_conv
                .then(|| pointwise("post_quant_conv", channels)),
        }
    }

    /// As [`Vae::encode`], on the tape; the shape has been checked.
    pub fn encode(&self, pictures: &Dual) -> Dual {
        let moments = self.encoder.forward(pictures);
        match &self.quant {
            Some(quant) => quant.forward(&moments),
            None => moments,
        }
    }

    /// As [`Vae::decode`], on the tape; the shape has been checked.
    pub fn decode(&self, latents: &Dual) -> Dual {
        match &self.post_quant {
            Some(post_quant) => self.decoder.forward(&post_quant.forward(latents)),
            None => self.decoder.forward(latents),
        }
    }
}

fn sides_fit(sides: [i64; 2], factor: i64) -> bool {
    sides.iter().all(|side| *side > 0 && side % factor == 0)
}

fn shape_error(what: &str, expected: String, got: &Tensor) -> TorchError {
    TorchError::Shape {
        what: what.into(),
        expected,
        got: got.size(),
    }
}
