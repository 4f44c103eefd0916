//! The data set that every binary carries: 1797 grey hand-written digits of 8×8 pixels, ten classes.
//!
//! E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998,
//! doi 10.24432/C50P49, test part, CC BY 4.0; the files and their check sums are described in `data/digits/README.md`.

use std::path::Path;

use crate::{DataError, MemoryDataset, idx};

const IMAGES: &[u8] = include_bytes!("../digits/images-idx3-ubyte");
const LABELS: &[u8] = include_bytes!("../digits/labels-idx1-ubyte");

/// The digits, read through the same strict reader as a file of the user's.
///
/// # Shapes
/// `[1, 8, 8]`, N = 1797, 10 classes.
///
/// # Errors
/// Those of [`idx::parse`], if the binary was built from damaged files.
pub fn load() -> Result<MemoryDataset, DataError> {
    let images = Path::new("data/digits/images-idx3-ubyte");
    let labels = Path::new("data/digits/labels-idx1-ubyte");
    let names = (0..10).map(|digit| digit.to_string()).collect();
    idx::parse((images, IMAGES), (labels, LABELS))?.with_class_names(Some(names))
}
