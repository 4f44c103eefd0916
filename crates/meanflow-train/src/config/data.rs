//! `[data]`: where samples come from.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use meanflow_data::decode::{Background, Channels, View};
use meanflow_data::{augment, custom};
use meanflow_torch::networks::NetworkConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::check::{Fault, fault};
use super::numbers::Share;

/// `[data]`: where samples come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataConfig {
    /// The 1797 handwritten digits that come with the program, 8×8, ten classes.
    Digits {
        /// Whether the class is given to the network.
        conditional: bool,
    },
    /// Grey pictures and labels in MNIST's IDX format, plain or gzipped.
    Idx {
        /// The folder with the pair of files.
        path: PathBuf,
        /// Whether the class is given to the network.
        conditional: bool,
        /// What the files must hold, so that the recipe can be checked without them; they may hold anything without the key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect: Option<Expected>,
        /// What happens to classes that no sample has; without the key they are an error for a network that is given the class.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        empty_classes: Option<EmptyClasses>,
    },
    /// The training part of CIFAR-10 in its binary version.
    Cifar10(CifarConfig),
    /// The training part of CIFAR-100 in its binary version, with its hundred fine classes.
    Cifar100(CifarConfig),
    /// A folder of PNG and JPEG files, with a folder for each class or without classes.
    Folder(PicturesConfig),
    /// A zip archive of PNG and JPEG files with the labels of EDM's layout.
    Zip(PicturesConfig),
    /// A tar archive of PNG and JPEG files in WebDataset's layout, or a folder of them.
    Tar(PicturesConfig),
    /// Latents of a VAE on the disk.
    Latents(LatentsConfig),
    /// Points of the plane, uniform on the black squares of a board.
    Checkerboard {
        /// How many points are drawn.
        size: NonZeroUsize,
    },
    /// A data set that the program has registered ([`meanflow_data::custom`]).
    Custom {
        /// Which one.
        name: String,
        /// Whether the class is given to the network.
        conditional: bool,
        /// What describes it.
        #[serde(default)]
        config: Map<String, Value>,
    },
}

/// CIFAR's pictures and what is done to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CifarConfig {
    /// The folder with the `.bin` files.
    pub path: PathBuf,
    /// Whether the class is given to the network.
    pub conditional: bool,
    /// Whether every picture is mirrored with even odds, of which the network is not told.
    pub flip: bool,
    /// The probability of each transformation of EDM's augmentation (Karras et al. 2022), of which the network is told
    /// by six numbers; no augmentation without the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment_probability: Option<Share>,
}

/// What files must hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Channels, height and width of a picture.
    pub shape: [NonZeroUsize; 3],
    /// Number of classes.
    pub classes: usize,
    /// Number of pictures.
    pub samples: NonZeroUsize,
}

/// Encoded pictures, and what is done to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PicturesConfig {
    /// The folder or archive.
    pub path: PathBuf,
    /// Whether the class is given to the network.
    pub conditional: bool,
    /// Height and width of the centre square that every picture is cut to.
    pub size: NonZeroUsize,
    /// How many channels are made of what the files hold.
    pub channels: ChannelCount,
    /// Whether every picture is mirrored with even odds, of which the network is not told.
    pub flip: bool,
    /// The probability of each transformation of EDM's augmentation (Karras et al. 2022), of which the network is told by six numbers; no
    /// augmentation without the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment_probability: Option<Share>,
    /// The share of the pictures that may be damaged: each is replaced by the next good one, and listed. Without the
    /// key the first damaged one is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_damaged: Option<Share>,
    /// What shows behind transparent pixels. Without the key files with an alpha channel are an error, which counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<BackgroundName>,
    /// Whether pictures are turned and mirrored as their Exif metadata say, before they are cut.
    #[serde(default, skip_serializing_if = "is_false")]
    pub apply_orientation: bool,
    /// Whether links in a folder may lead out of it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub follow_links: bool,
    /// What happens to classes that no picture has; without the key they are an error for a network that is given the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_classes: Option<EmptyClasses>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What happens to classes that no sample has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyClasses {
    /// They stay classes of the network, which never sees one.
    Keep,
    /// The others are numbered anew, in their order, and named by the numbers they had.
    Renumber,
}

/// A [`Background`] by its name: `white`, `black`, `#rrggbb` or `keep-rgb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackgroundName(pub Background);

impl TryFrom<String> for BackgroundName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse().map(Self)
    }
}

impl From<BackgroundName> for String {
    fn from(name: BackgroundName) -> Self {
        name.0.to_string()
    }
}

impl PicturesConfig {
    /// How every picture is looked at.
    pub fn view(&self) -> View {
        View {
            background: self.background.map(|name| name.0),
            apply_orientation: self.apply_orientation,
        }
    }
}

/// 1 for grey pictures, 3 for colour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct ChannelCount(Channels);

impl ChannelCount {
    /// What pictures are decoded to.
    pub fn get(self) -> Channels {
        self.0
    }
}

impl TryFrom<u8> for ChannelCount {
    type Error = String;

    fn try_from(count: u8) -> Result<Self, String> {
        match count {
            1 => Ok(Self(Channels::Grey)),
            3 => Ok(Self(Channels::Color)),
            _ => Err(format!("channels: expected 1 or 3, got {count}")),
        }
    }
}

impl From<ChannelCount> for u8 {
    fn from(count: ChannelCount) -> Self {
        count.0.count() as Self
    }
}

/// A folder of latents, and what the files must hold: so a recipe can be checked without them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentsConfig {
    /// The folder.
    pub path: PathBuf,
    /// Whether the class is given to the network.
    pub conditional: bool,
    /// Whether latents of the mirrored pictures are taken half of the time.
    pub flip: bool,
    /// Channels, height and width of a latent.
    pub shape: [NonZeroUsize; 3],
    /// Number of classes; 0 for latents without labels.
    pub classes: usize,
    /// Number of latents.
    pub samples: NonZeroUsize,
}

impl DataConfig {
    /// Whether the network is given a class.
    pub fn is_conditional(&self) -> bool {
        match self {
            Self::Digits { conditional }
            | Self::Idx { conditional, .. }
            | Self::Custom { conditional, .. } => *conditional,
            Self::Cifar10(config) | Self::Cifar100(config) => config.conditional,
            Self::Folder(config) | Self::Zip(config) | Self::Tar(config) => config.conditional,
            Self::Latents(config) => config.conditional,
            Self::Checkerboard { .. } => false,
        }
    }

    /// Where the files are; none for data that are inside of the program or made by it, or that only it can open.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Digits { .. } | Self::Checkerboard { .. } | Self::Custom { .. } => None,
            Self::Idx { path, .. } => Some(path),
            Self::Cifar10(config) | Self::Cifar100(config) => Some(&config.path),
            Self::Folder(config) | Self::Zip(config) | Self::Tar(config) => Some(&config.path),
            Self::Latents(config) => Some(&config.path),
        }
    }

    /// The same data elsewhere; nothing changes for those that are not in files.
    pub fn move_to(&mut self, place: PathBuf) {
        match self {
            Self::Digits { .. } | Self::Checkerboard { .. } | Self::Custom { .. } => {}
            Self::Idx { path, .. } => *path = place,
            Self::Cifar10(config) | Self::Cifar100(config) => config.path = place,
            Self::Folder(config) | Self::Zip(config) | Self::Tar(config) => config.path = place,
            Self::Latents(config) => config.path = place,
        }
    }

    /// The share of the samples that may be damaged.
    pub fn skip_damaged(&self) -> f64 {
        match self {
            Self::Folder(config) | Self::Zip(config) | Self::Tar(config) => {
                config.skip_damaged.map_or(0.0, Share::get)
            }
            _ => 0.0,
        }
    }

    /// What happens to classes that no sample has, where that can be said.
    pub(crate) fn empty_classes(&self) -> Option<EmptyClasses> {
        match self {
            Self::Idx { empty_classes, .. } => *empty_classes,
            Self::Folder(config) | Self::Zip(config) | Self::Tar(config) => config.empty_classes,
            _ => None,
        }
    }

    /// The same samples as they are, without augmentation.
    pub fn plain(&self) -> Self {
        let mut plain = self.clone();
        match &mut plain {
            Self::Cifar10(config) | Self::Cifar100(config) => {
                (config.flip, config.augment_probability) = (false, None);
            }
            Self::Folder(config) | Self::Zip(config) | Self::Tar(config) => {
                (config.flip, config.augment_probability) = (false, None);
                // Who wants every sample at its place wants no other one there.
                config.skip_damaged = None;
            }
            Self::Latents(config) => config.flip = false,
            Self::Digits { .. }
            | Self::Idx { .. }
            | Self::Checkerboard { .. }
            | Self::Custom { .. } => {}
        }
        plain
    }

    /// How many numbers tell the network of the augmentation.
    fn told(&self) -> usize {
        let probability = match self {
            Self::Cifar10(config) | Self::Cifar100(config) => config.augment_probability,
            Self::Folder(config) | Self::Zip(config) | Self::Tar(config) => {
                config.augment_probability
            }
            _ => None,
        };
        probability.map_or(0, |_| augment::LABELS)
    }

    /// The first contradiction within the section or with the network.
    pub(super) fn fault(&self, network: &NetworkConfig) -> Option<Fault> {
        if let Self::Latents(config) = self
            && config.conditional
            && config.classes == 0
        {
            return fault(
                "data.classes",
                &"expected at least 1 for a network that is given the class, got 0",
            );
        }
        if let Self::Custom { name, .. } = self {
            // Whether the network is for such samples shows when they are opened.
            return custom::known(name)
                .err()
                .and_then(|error| fault("data.name", &error));
        }
        let points = matches!(self, Self::Checkerboard { .. });
        match network {
            NetworkConfig::Dit(_) | NetworkConfig::Unet(_) if points => fault(
                "network.kind",
                &"expected a network for points such as \"mlp\", got one for pictures",
            ),
            NetworkConfig::Mlp(_) if !points => fault(
                "network.kind",
                &"expected a network for pictures such as \"dit\", got \"mlp\", which is for points",
            ),
            NetworkConfig::Unet(unet) if unet.augment != self.told() as i64 => fault(
                "network.augment",
                &format!(
                    "expected {}, as many numbers as tell of this data's augmentation, got {}",
                    self.told(),
                    unet.augment
                ),
            ),
            _ => None,
        }
    }
}
