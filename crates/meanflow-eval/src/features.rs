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

/// Makes features of pictures.
pub trait Extractor {
    /// A name for the protocol of a result.
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
