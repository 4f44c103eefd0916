//! The classifier of 8×8 digits that every program carries, so that features mean something without a download.
//!
//! Two convolutions and a layer of 64 features, trained by `cargo run --release -p meanflow-eval --example classifier` on four
//! fifths of the embedded digits; it names 97.5 % of the others.

use std::path::Path;

use tch::Device;

use crate::{EvalError, FeatureNetwork, FeatureSet};

/// The file of the classifier, whose hash a protocol states.
pub const DIGITS_CLASSIFIER: &[u8] = include_bytes!("../../../data/digits/classifier.safetensors");

/// Whether the classifier was not shown sample `index` of the digits: every fifth.
pub fn is_held_out(index: usize) -> bool {
    index.is_multiple_of(5)
}

/// The classifier: 64 features and ten logits of pictures `[B, 1, 8, 8]`.
///
/// # Errors
/// As [`FeatureNetwork::load`], if the program was built with a damaged file.
pub fn digits_classifier(device: Device) -> Result<FeatureNetwork, EvalError> {
    let origin = Path::new("data/digits/classifier.safetensors");
    let network = FeatureNetwork::from_bytes(origin, DIGITS_CLASSIFIER, device)?;
    Ok(network.known_as(FeatureSet::Digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Extractor;
    use meanflow_data::{Dataset, digits};
    use tch::{Kind, Tensor};

    #[test]
    fn it_names_what_it_was_not_shown() {
        let data = digits::load().unwrap();
        let indices: Vec<usize> = (0..data.len()).filter(|&i| is_held_out(i)).collect();
        let examples = data.examples(&indices);
        let pictures = (Tensor::from_slice(&examples.values) + 1.0) * 127.5;
        let pictures = pictures.round().to_kind(Kind::Uint8);
        let network = digits_classifier(Device::Cpu).unwrap();
        let found = network.extract(&pictures.reshape([-1, 1, 8, 8])).unwrap();
        assert_eq!(found.pooled.size(), [360, 64]);
        let named = found.logits.unwrap().argmax(1, false);
        let right = named.eq_tensor(&Tensor::from_slice(&examples.labels));
        // What its training printed.
        assert_eq!(right.sum(Kind::Int64).int64_value(&[]), 351);
    }
}
