//! What metrics are computed over: numbers that a network, or nothing at all, makes of pictures.

use tch::{Kind, Tensor};

use crate::EvalError;

/// What an [`Extractor`] makes of `B` pictures.
#[derive(Debug)]
pub struct Features {
    /// `[B, D]`: for Fréchet and kernel distance, precision and recall.
    pub pooled: Tensor,
    /// `[B, S]`: features that keep places apart, for sFID.
    pub spatial: Option<Tensor>,
    /// `[B, K]`: the logits whose softmax is the class probabilities of the Inception Score.
    pub logits: Option<Tensor>,
}

/// Which features a value is over; it stands in the value's name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FeatureSet {
    /// The pixels, in `[−1, 1]`.
    Pixels,
    /// The embedded classifier of 8×8 digits.
    Digits,
    /// Inception v3 of 2015-12-05: the only features over which a value is called `fid` or `kid`.
    Inception,
    /// Another network, by a name of letters, digits and `-`.
    Network(String),
}

impl FeatureSet {
    /// A network by the name of its file; whatever is no letter, digit or `-` becomes `-`.
    pub fn network(name: &str) -> Self {
        let plain = |c: char| if c.is_alphanumeric() { c } else { '-' };
        Self::Network(name.chars().map(plain).collect())
    }

    /// The name of the features, such as `pixels`.
    pub fn name(&self) -> &str {
        match self {
            Self::Pixels => "pixels",
            Self::Digits => "digits",
            Self::Inception => "inception",
            Self::Network(name) => name,
        }
    }
}

/// Makes features of pictures.
pub trait Extractor {
    /// Which features these are.
    fn features(&self) -> FeatureSet;

    /// A description for the protocol of a result, with all that the features depend on.
    fn name(&self) -> String;

    /// Features of pictures `[B, C, H, W]` of type [`Kind::Uint8`], as they would be read from PNG files.
    ///
    /// # Errors
    /// For another type, or a shape it cannot use.
    fn extract(&self, pictures: &Tensor) -> Result<Features, EvalError>;
}

/// The pixels themselves, scaled to `[−1, 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Pixels;

impl Extractor for Pixels {
    fn features(&self) -> FeatureSet {
        FeatureSet::Pixels
    }

    fn name(&self) -> String {
        "pixels".into()
    }

    fn extract(&self, pictures: &Tensor) -> Result<Features, EvalError> {
        Ok(Features {
            pooled: to_model(&checked(pictures)?).flatten(1, -1),
            spatial: None,
            logits: None,
        })
    }
}

/// Bytes `0..=255` as numbers of `[−1, 1]` in f32.
pub(crate) fn to_model(pictures: &Tensor) -> Tensor {
    pictures.to_kind(Kind::Float) / 127.5 - 1.0
}

/// Refuses what are no pictures of bytes.
pub(crate) fn checked(pictures: &Tensor) -> Result<Tensor, EvalError> {
    if pictures.kind() == Kind::Uint8 && pictures.dim() == 4 && !pictures.size()[1..].contains(&0) {
        return Ok(pictures.shallow_clone());
    }
    Err(EvalError::Shape {
        what: "pictures",
        expected: format!("[B, C, H, W] of Uint8 (got {:?})", pictures.kind()),
        got: pictures.size(),
    })
}
