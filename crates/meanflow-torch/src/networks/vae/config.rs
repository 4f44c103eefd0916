//! The size of a VAE, as diffusers' `config.json` says it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::super::{limits, multiple, positive, within};
use crate::TorchError;

/// The size of a [`Vae`](super::Vae), and how its latents are scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels of the pictures that are encoded.
    pub in_channels: i64,
    /// Channels of the pictures that come out.
    pub out_channels: i64,
    /// Channels of a latent.
    pub latent_channels: i64,
    /// Channels at every resolution, each half the one before.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks a resolution of the encoder; the decoder has one more.
    pub layers_per_block: i64,
    /// Groups of every norm.
    pub norm_num_groups: i64,
    /// Whether the blocks at the lowest resolution have attention between them.
    pub attention: bool,
    /// Whether a convolution of side 1 follows the encoder.
    pub quant_conv: bool,
    /// Whether a convolution of side 1 comes before the decoder.
    pub post_quant_conv: bool,
    /// What a latent is multiplied by, to have a variance of about 1.
    pub scaling_factor: f64,
    /// What is subtracted before.
    pub shift_factor: f64,
}

/// A longer `config.json` is none.
const MAX_BYTES: u64 = 1 << 16;

impl VaeConfig {
    /// Reads a `config.json` of an `AutoencoderKL`.
    ///
    /// A key that is absent has diffusers' own default: the files of the first Stable Diffusion name no
    /// `scaling_factor`, which is 0.18215 then.
    ///
    /// # Errors
    /// If the file is not there, is of another class, has an unknown key, or describes no network.
    pub fn read(path: &Path) -> Result<Self, TorchError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
            .map_err(|source| TorchError::Io {
                operation: "read",
                path: path.to_owned(),
                source,
            })?;
        Self::parse(&text).map_err(|problem| TorchError::File {
            path: path.to_owned(),
            problem,
        })
    }

    /// The configuration in the text of a `config.json`, or what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut keys: serde_json::Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("not a configuration: {error}"))?;
        let class = keys.get("_class_name").and_then(Value::as_str);
        if let Some(other) = class.filter(|class| *class != CLASS) {
            return Err(format!("_class_name: expected {CLASS}, got {other}"));
        }
        // The others with an underscore say where the file comes from.
        keys.retain(|key, _| !key.starts_with('_'));
        let file: ConfigFile = serde_json::from_value(Value::Object(keys))
            .map_err(|error| format!("not a configuration of an {CLASS}: {error}"))?;
        file.check_kinds()?;
        let config = file.config();
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// Checks that there is such a network.
    ///
    /// # Errors
    /// With the first key that describes none.
    pub fn validate(&self) -> Result<(), TorchError> {
        for (key, value, limit) in [
            ("in_channels", self.in_channels, limits::WIDTH),
            ("out_channels", self.out_channels, limits::WIDTH),
            ("latent_channels", self.latent_channels, limits::WIDTH),
            ("layers_per_block", self.layers_per_block, limits::DEPTH),
            ("norm_num_groups", self.norm_num_groups, limits::WIDTH),
        ] {
            within(key, value, limit)?;
        }
        positive("block_out_channels", self.block_out_channels.len() as i64)?;
        let refused = |key, expected: &str, got: String| {
            let expected = expected.to_owned();
            Err(TorchError::Config { key, expected, got })
        };
        if self.block_out_channels.len() > MOST_LEVELS {
            let got = self.block_out_channels.len().to_string();
            return refused("block_out_channels", "at most 16 resolutions", got);
        }
        for &channels in &self.block_out_channels {
            within("block_out_channels", channels, limits::WIDTH)?;
            let groups = self.norm_num_groups;
            multiple("block_out_channels", channels, groups, "norm_num_groups")?;
        }
        if !(self.scaling_factor.is_finite() && self.scaling_factor > 0.0) {
            let got = self.scaling_factor.to_string();
            return refused("scaling_factor", "a number above 0", got);
        }
        if !self.shift_factor.is_finite() {
            return refused("shift_factor", "a number", self.shift_factor.to_string());
        }
        Ok(())
    }

    /// Pixels a side of a picture for one of its latent.
    pub fn factor(&self) -> i64 {
        1 << (self.block_out_channels.len() - 1)
    }
}

const CLASS: &str = "AutoencoderKL";
const MOST_LEVELS: usize = 16;

/// `config.json` as it is written; what is not in it has diffusers' default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    in_channels: i64,
    out_channels: i64,
    latent_channels: i64,
    block_out_channels: Vec<i64>,
    layers_per_block: i64,
    norm_num_groups: i64,
    #[serde(default)]
    act_fn: Option<String>,
    #[serde(default)]
    down_block_types: Option<Vec<String>>,
    #[serde(default)]
    up_block_types: Option<Vec<String>>,
    #[serde(default)]
    scaling_factor: Option<f64>,
    #[serde(default)]
    shift_factor: Option<f64>,
    #[serde(default)]
    latents_mean: Option<Value>,
    #[serde(default)]
    latents_std: Option<Value>,
    #[serde(default)]
    use_quant_conv: Option<bool>,
    #[serde(default)]
    use_post_quant_conv: Option<bool>,
    #[serde(default)]
    mid_block_add_attention: Option<bool>,
    /// The size that tiles have, which do not exist here.
    #[serde(default, rename = "sample_size")]
    _sample_size: Option<Value>,
    /// About half precision, which does not exist here.
    #[serde(default, rename = "force_upcast")]
    _force_upcast: Option<Value>,
}

impl ConfigFile {
    /// Refuses what the network here is not.
    fn check_kinds(&self) -> Result<(), String> {
        let levels = self.block_out_channels.len();
        let blocks = |key: &str, got: &Option<Vec<String>>, kind: &str| match got {
            Some(got) if got.len() != levels || got.iter().any(|one| one != kind) => {
                Err(format!("{key}: expected {levels} of {kind}, got {got:?}"))
            }
            _ => Ok(()),
        };
        blocks(
            "down_block_types",
            &self.down_block_types,
            "DownEncoderBlock2D",
        )?;
        blocks("up_block_types", &self.up_block_types, "UpDecoderBlock2D")?;
        if let Some(other) = self.act_fn.as_ref().filter(|name| *name != "silu") {
            return Err(format!("act_fn: expected silu, got {other}"));
        }
        if self.latents_mean.is_some() || self.latents_std.is_some() {
            return Err("latents_mean, latents_std: expected none, got numbers a channel".into());
        }
        Ok(())
    }

    fn config(self) -> VaeConfig {
        VaeConfig {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            latent_channels: self.latent_channels,
            block_out_channels: self.block_out_channels,
            layers_per_block: self.layers_per_block,
            norm_num_groups: self.norm_num_groups,
            attention: self.mid_block_add_attention.unwrap_or(true),
            quant_conv: self.use_quant_conv.unwrap_or(true),
            post_quant_conv: self.use_post_quant_conv.unwrap_or(true),
            scaling_factor: self.scaling_factor.unwrap_or(0.182_15),
            shift_factor: self.shift_factor.unwrap_or(0.0),
        }
    }
}
