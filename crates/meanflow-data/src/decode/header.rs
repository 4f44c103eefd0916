//! What the first bytes of a picture file promise, read without a decoder.

use image::metadata::Orientation;

/// What a file says about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) is_png: bool,
    pub(super) width: u32,
    pub(super) height: u32,
    /// What a decoder needs at least, in bytes a pixel.
    pub(super) bytes_a_pixel: u32,
    /// Whether pixels can be transparent: a channel for it, or a colour or places of a palette that stand for it.
    pub(super) has_alpha: bool,
    pub(super) is_sixteen_bit: bool,
    pub(super) is_cmyk: bool,
    /// How the metadata wants the picture turned.
    pub(super) orientation: Orientation,
}
