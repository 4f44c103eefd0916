//! The networks, each written once over [`Dual`]: plain in, plain out; dual in, dual out.

mod custom;
mod dit;
mod mlp;
mod unet;
mod vae;

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

pub use custom::{CustomNetwork, NetworkBuilder, register};
pub use dit::{Dit, DitConfig};
pub use mlp::{Mlp, MlpConfig};
pub use unet::{Unet, UnetConfig};
pub use vae::{Vae, VaeConfig, VaeFiles, VaeNetwork};

use crate::model::condition::Conditioning;
use crate::model::parameters::VarBuilder;
use crate::{Dual, Flops, TorchError};

/// A network for the average velocity `u(z, r, t | label)`.
///
/// A network of one's own implements it, and a [`NetworkBuilder`] describes it.
pub trait Network: Debug + Send {
    /// `z [B, …]`, `r` and `t` `[B]`, to `u [B, …]`; what the network has no use for in the condition it ignores.
    ///
    /// Rows do not influence each other.
    fn forward(&self, z: &Dual, r: &Dual, t: &Dual, condition: &Conditioning) -> Dual;

    /// What a forward of one row costs.
    fn flops(&self) -> Flops;
}

/// Which network, and its size.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetworkConfig {
    /// A residual perceptron, for points.
    Mlp(MlpConfig),
    /// A diffusion transformer, for pictures and latents.
    Dit(DitConfig),
    /// A convolutional network, for pictures.
    Unet(UnetConfig),
    /// A network that this program has registered.
    Custom(CustomNetwork),
}

impl NetworkConfig {
    /// Checks the sizes against the shape of a sample and the number of classes.
    ///
    /// # Errors
    /// With the first key that describes no network.
    pub fn validate(&self, shape: &[i64], classes: i64) -> Result<(), TorchError> {
        match self {
            Self::Mlp(config) => config.validate(shape),
            Self::Dit(config) => config.validate(shape),
            Self::Unet(config) => config.validate(shape),
            Self::Custom(network) => network.builder().validate(shape, classes),
        }
    }

    /// A length that some parameter of the network has in one of its dimensions; 0 where none is known.
    pub(crate) fn width(&self) -> i64 {
        match self {
            Self::Custom(_) => 0,
            Self::Mlp(config) => config.width,
            Self::Dit(config) => config.width,
            Self::Unet(config) => config.channels,
        }
    }

    /// Whether units are dropped in training: then two forwards of one row differ.
    pub fn has_dropout(&self) -> bool {
        match self {
            Self::Unet(config) => config.dropout > 0.0,
            Self::Mlp(_) | Self::Dit(_) => false,
            Self::Custom(network) => network.builder().has_dropout(),
        }
    }

    /// Declares the parameters and puts the network together; the configuration has been validated.
    pub(crate) fn build(
        &self,
        vars: &mut VarBuilder,
        shape: &[i64],
        classes: i64,
    ) -> Box<dyn Network> {
        match self {
            Self::Mlp(config) => Box::new(Mlp::new(vars, config, shape, classes)),
            Self::Dit(config) => Box::new(Dit::new(vars, config, shape, classes)),
            Self::Unet(config) => Box::new(Unet::new(vars, config, shape, classes)),
            Self::Custom(network) => network.builder().build(vars, shape, classes),
        }
    }
}

/// Refuses a size below one.
pub(crate) fn positive(key: &'static str, value: i64) -> Result<(), TorchError> {
    if value >= 1 {
        return Ok(());
    }
    Err(TorchError::Config {
        key,
        expected: "at least 1".into(),
        got: value.to_string(),
    })
}

/// Limits on sizes, looked at before anything is built: far above all published networks, and low enough that a network
/// can be outlined at once and its sizes can be multiplied.
pub(crate) mod limits {
    /// Widths and channels.
    pub(crate) const WIDTH: i64 = 1 << 16;
    /// Blocks one after the other.
    pub(crate) const DEPTH: i64 = 1 << 12;
    /// Numbers in the table of positions.
    pub(crate) const POSITIONS: i64 = 1 << 25;
    /// Factors between sizes.
    pub(crate) const RATIO: i64 = 1 << 10;
}

/// Refuses a size below one or above a limit.
pub(crate) fn within(key: &'static str, value: i64, limit: i64) -> Result<(), TorchError> {
    if (1..=limit).contains(&value) {
        return Ok(());
    }
    Err(TorchError::Config {
        key,
        expected: format!("1 to {limit}"),
        got: value.to_string(),
    })
}

/// Refuses a size that is not a multiple of another.
pub(crate) fn multiple(
    key: &'static str,
    value: i64,
    of: i64,
    what: &str,
) -> Result<(), TorchError> {
    if value % of == 0 {
        return Ok(());
    }
    Err(TorchError::Config {
        key,
        expected: format!("a multiple of {of} ({what})"),
        got: value.to_string(),
    })
}
