//! How a picture is looked at: what shows behind transparent pixels, and whether it is turned as its metadata says.

use std::fmt;
use std::str::FromStr;

use super::Channels;

/// What shows behind transparent pixels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Background {
    /// A colour, red, green and blue: pixels are laid over it as a viewer does, in the file's own numbers.
    Color([u8; 3]),
    /// Nothing: the colours that are stored under transparent pixels are taken as they are, which nobody ever saw.
    KeepRgb,
}

impl Background {
    /// Black.
    pub const BLACK: Self = Self::Color([0; 3]);
    /// White.
    pub const WHITE: Self = Self::Color([255; 3]);
}

/// `white`, `black`, `#rrggbb` or `keep-rgb`.
impl FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_color = |digits: &&str| {
            digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let digits = text.strip_prefix('#').filter(is_color);
        let color = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match (text, color) {
            ("white", _) => Ok(Self::WHITE),
            ("black", _) => Ok(Self::BLACK),
            ("keep-rgb", _) => Ok(Self::KeepRgb),
            (_, Some(color)) => Ok(Self::Color([16, 8, 0].map(|bits| (color >> bits) as u8))),
            _ => Err(format!(
                "background: expected \"white\", \"black\", \"#rrggbb\" or \"keep-rgb\", got {text:?}"
            )),
        }
    }
}

impl fmt::Display for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WHITE => f.write_str("white"),
            Self::BLACK => f.write_str("black"),
            Self::KeepRgb => f.write_str("keep-rgb"),
            Self::Color([red, green, blue]) => write!(f, "#{red:02x}{green:02x}{blue:02x}"),
        }
    }
}

/// What is decided about every picture of a set, apart from its channels.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct View {
    /// What shows behind transparent pixels; none: a picture with such pixels is an error.
    pub background: Option<Background>,
    /// Whether a picture is turned and mirrored as its Exif metadata say.
    pub apply_orientation: bool,
}

/// How one picture is decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reading {
    /// What comes out.
    pub channels: Channels,
    /// How the picture is looked at.
    pub view: View,
}

/// Nothing is decided about transparency, nothing is turned.
impl From<Channels> for Reading {
    fn from(channels: Channels) -> Self {
        Self {
            channels,
            view: View::default(),
        }
    }
}
