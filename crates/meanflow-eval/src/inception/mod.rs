//! Inception v3 of 2015-12-05, whose features the published Fréchet distances are over.

mod blocks;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor, no_grad};

use crate::{EvalError, Extractor, FeatureSet, Features, Resize};
use blocks::{Block, Branch, Pool};
use weights::{Convolution, Source};

/// Side of the pictures that the network sees.
const SIDE: i64 = 299;
const POOLED: i64 = 2048;
const CLASSES: i64 = 1008;
/// ADM's spatial features are those of `mixed_6/conv`, after its ReLU.
const SPATIAL_BLOCK: &str = "Mixed_6d";
/// So many of its channels, of 17×17 pixels, are about as many numbers as are pooled.
const SPATIAL_CHANNELS: i64 = 7;

/// The network, its weights in f32, and how it is given pictures.
#[derive(Debug)]
pub struct InceptionV3 {
    blocks: Vec<Block<Convolution>>,
    /// `[1008, 2048]`
    weight: Tensor,
    /// `[1008]`
    bias: Tensor,
    resize: Resize,
    device: Device,
}

/// Every layer that public implementations give as features of `B` pictures.
#[derive(Debug)]
pub struct InceptionLayers {
    /// `[B, 64]`: mean over the picture after the first pooling.
    pub pooled_64: Tensor,
    /// `[B, 192]`: after the second.
    pub pooled_192: Tensor,
    /// `[B, 768]`: before the auxiliary classifier.
    pub pooled_768: Tensor,
    /// `[B, 2048]`: before the classifier; what is meant by Inception features.
    pub pooled_2048: Tensor,
    /// `[B, 2023]`: seven channels of the first branch of `Mixed_6d` (`mixed_6/conv` in TensorFlow), pixel by pixel.
    pub spatial: Tensor,
    /// `[B, 1008]`: without the classifier's bias, which the Inception Score is published with.
    pub logits_unbiased: Tensor,
    /// `[B, 1008]`
    pub logits: Tensor,
}

impl InceptionV3 {
    /// Reads a safetensors file with the names of the state dictionary that torch-fidelity and pytorch-fid publish.
    ///
    /// # Errors
    /// [`EvalError::Torch`] with everything that is missing, unexpected or of another shape.
    pub fn load(path: &Path, resize: Resize, device: Device) -> Result<Self, EvalError> {
        Self::new(meanflow_torch::weights::read(path)?, path, resize, device)
    }

    /// Of tensors in memory; `origin` stands in messages.
    ///
    /// # Errors
    /// As [`InceptionV3::load`].
    pub fn new(
        tensors: BTreeMap<String, Tensor>,
        origin: &Path,
        resize: Resize,
        device: Device,
    ) -> Result<Self, EvalError> {
        let mut source = Source::new(tensors, device);
        let mut channels = 3;
        let blocks = blocks::network().into_iter().map(|block| {
            let (block, outputs) = source.block(&block, channels);
            channels = outputs;
            block
        });
        let blocks = blocks.collect();
        let weight = source.take("fc.weight", &[CLASSES, POOLED]);
        let bias = source.take("fc.bias", &[CLASSES]);
        let (weight, bias) = (source.place(&weight), source.place(&bias));
        source.finish(origin)?;
        Ok(Self {
            blocks,
            weight,
            bias,
            resize,
            device,
        })
    }

    /// All features of pictures `[B, C, H, W]` of bytes; one channel is repeated, as reading a grey picture as RGB does.
    ///
    /// # Errors
    /// [`EvalError::Shape`] unless they have one channel or three.
    pub fn layers(&self, pictures: &Tensor) -> Result<InceptionLayers, EvalError> {
        let resized = self.resize.apply(&pictures.to_device(self.device), SIDE)?;
        let resized = colour(&resized)?;
        Ok(no_grad(|| self.forward(&self.normalised(&resized))))
    }

    /// The scale that the code with this way of resizing uses.
    fn normalised(&self, pictures: &Tensor) -> Tensor {
        match self.resize {
            Resize::Clean | Resize::LegacyTf => (pictures - 128.0) / 128.0,
            Resize::LegacyPytorch => pictures / 127.5 - 1.0,
        }
    }

    fn forward(&self, pictures: &Tensor) -> InceptionLayers {
        let mut x = pictures.shallow_clone();
        let (mut means, mut spatial) = (BTreeMap::new(), None);
        for block in &self.blocks {
            let branches = block.branches.iter().map(|branch| through(branch, &x));
            let outputs: Vec<Tensor> = branches.collect();
            x = Tensor::cat(&outputs, 1);
            means.insert(
                block.name,
                x.mean_dim([2, 3].as_slice(), false, None::<Kind>),
            );
            if block.name == SPATIAL_BLOCK {
                // Its first branch is first. TensorFlow keeps the channels of a pixel together.
                let channels = x.narrow(1, 0, SPATIAL_CHANNELS).permute([0, 2, 3, 1]);
                spatial = Some(channels.flatten(1, -1));
            }
        }
        let mut pooled = |block: &str| means.remove(block).expect("a block of the network");
        let pooled_2048 = pooled("Mixed_7c");
        let logits_unbiased = pooled_2048.matmul(&self.weight.tr());
        InceptionLayers {
            pooled_64: pooled("MaxPool_1"),
            pooled_192: pooled("MaxPool_2"),
            pooled_768: pooled("Mixed_6e"),
            spatial: spatial.expect("a block of the network"),
            logits: &logits_unbiased + &self.bias,
            pooled_2048,
            logits_unbiased,
        }
    }
}

impl Extractor for InceptionV3 {
    fn features(&self) -> FeatureSet {
        FeatureSet::Inception
    }

    fn name(&self) -> String {
        format!("inception-v3-2015-12-05, resize {}", self.resize)
    }

    fn extract(&self, pictures: &Tensor) -> Result<Features, EvalError> {
        let layers = self.layers(pictures)?;
        Ok(Features {
            pooled: layers.pooled_2048,
            spatial: Some(layers.spatial),
            logits: Some(layers.logits_unbiased),
        })
    }
}

/// Pictures of three channels; one is repeated.
fn colour(pictures: &Tensor) -> Result<Tensor, EvalError> {
    match pictures.size()[1] {
        1 => Ok(pictures.expand([-1, 3, -1, -1], false)),
        3 => Ok(pictures.shallow_clone()),
        _ => Err(EvalError::Shape {
            what: "pictures for Inception",
            expected: "[B, 1 or 3, H, W]".into(),
            got: pictures.size(),
        }),
    }
}

fn through(branch: &Branch<Convolution>, x: &Tensor) -> Tensor {
    let mut x = match branch.pool {
        None => x.shallow_clone(),
        Some(Pool::Average) => x.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None),
        Some(Pool::Max) => x.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false),
        Some(Pool::Halve) => x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false),
    };
    for convolution in &branch.chain {
        x = conv2d(convolution, &x);
    }
    if branch.fork.is_empty() {
        return x;
    }
    let forked: Vec<Tensor> = branch
        .fork
        .iter()
        .map(|convolution| conv2d(convolution, &x))
        .collect();
    Tensor::cat(&forked, 1)
}

fn conv2d(convolution: &Convolution, x: &Tensor) -> Tensor {
    let Convolution {
        weight,
        bias,
        stride,
        padding,
    } = convolution;
    x.conv2d(weight, Some(bias), [*stride, *stride], *padding, [1, 1], 1)
        .relu_()
}

#[cfg(test)]
mod tests {
    use super::colour;
    use tch::Tensor;

    #[test]
    fn grey_pictures_have_three_equal_channels() {
        let grey = Tensor::from_slice(&[1.0, 2.0]).reshape([1, 1, 1, 2]);
        let colours = Tensor::from_slice(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]).reshape([1, 3, 1, 2]);
        assert_eq!(colour(&grey).unwrap(), colours);
        assert_eq!(colour(&colours).unwrap(), colours);
        assert!(colour(&colours.narrow(1, 0, 2)).is_err());
    }
}
