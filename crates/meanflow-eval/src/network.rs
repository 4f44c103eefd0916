//! A network of one's own as a source of features, described in the file that holds its weights.
//!
//! The file is safetensors. Its metadata has, under `meanflow-features`, the shape of a picture and the layers in order:
//!
//! ```json
//! {"input": [1, 8, 8], "layers": [{"conv": "c1"}, "relu", "max_pool", {"linear": "fc1"}, "relu", "feature", {"linear": "out"}]}
//! ```
//!
//! A picture is given as numbers of `[−1, 1]`. `{"conv": NAME}` is a convolution that keeps the size of the picture and
//! `{"linear": NAME}` a linear layer over all numbers of it, each with the tensors `NAME.weight` (`[out, in, k, k]`, `k` odd, or
//! `[out, in]`) and `NAME.bias` in f32; `relu`, `silu` and `gelu` (by the hyperbolic tangent) act on each number; `max_pool` and
//! `avg_pool` halve the picture; `mean` averages over it. At `feature`, of which there is one, the features are taken; what
//! the layers after it give, if there are any, are logits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meanflow_torch::weights;
use serde::Deserialize;
use tch::{Device, Kind, Tensor, no_grad};

use crate::{EvalError, Extractor, FeatureSet, Features, features};

/// The metadata key of the description.
const KEY: &str = "meanflow-features";

/// A feed-forward network that gives features, and logits if it is a classifier.
#[derive(Debug)]
pub struct FeatureNetwork {
    features: FeatureSet,
    input: [i64; 3],
    layers: Vec<Layer>,
    device: Device,
}

/// A layer with its tensors.
#[derive(Debug)]
enum Layer {
    Convolution { weight: Tensor, bias: Tensor },
    Linear { weight: Tensor, bias: Tensor },
    Plain(Plain),
    Feature,
}

#[derive(Clone, Copy, Debug)]
enum Plain {
    Relu,
    Silu,
    Gelu,
    MaxPool,
    AvgPool,
    Mean,
}

/// The description in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    input: [i64; 3],
    layers: Vec<LayerForm>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayerForm {
    Conv(String),
    Linear(String),
    Relu,
    Silu,
    Gelu,
    MaxPool,
    AvgPool,
    Mean,
    Feature,
}

impl FeatureNetwork {
    /// Reads a file.
    ///
    /// # Errors
    /// [`EvalError::File`] for a description that is missing, names a layer that is not known, or does not fit its tensors,
    /// or for tensors that it does not name; [`EvalError::Torch`] if it is not a whole safetensors file.
    pub fn load(path: &Path, device: Device) -> Result<Self, EvalError> {
        let bytes = std::fs::read(path).map_err(|source| {
            EvalError::Torch(meanflow_torch::TorchError::Io {
                operation: "read",
                path: path.to_owned(),
                source,
            })
        })?;
        Self::from_bytes(path, &bytes, device)
    }

    /// Of the bytes of a file, such as one embedded in the program; `origin` stands in messages and names the features.
    ///
    /// # Errors
    /// As [`FeatureNetwork::load`].
    pub fn from_bytes(origin: &Path, bytes: &[u8], device: Device) -> Result<Self, EvalError> {
        let (header, tensors) = weights::decode(origin, bytes)?;
        let problem = problem_of(origin);
        let form = header.metadata.get(KEY).ok_or_else(|| {
            problem(format!(
                "its metadata has no {KEY}: not a network of features"
            ))
        })?;
        let form: Form =
            serde_json::from_str(form).map_err(|error| problem(format!("{KEY}: {error}")))?;
        if form.input.iter().any(|side| !(1..=4096).contains(side)) {
            let input = form.input;
            return Err(problem(format!(
                "{KEY}: input: expected sides of 1 to 4096, got {input:?}"
            )));
        }
        let builder = Builder {
            origin: origin.to_owned(),
            shape: form.input.to_vec(),
            tensors,
            device,
        };
        let stem = origin.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self {
            features: FeatureSet::network(&stem),
            input: form.input,
            layers: builder.layers(form.layers)?,
            device,
        })
    }

    /// The same network, its features being known as others than those of its file.
    pub(crate) fn known_as(self, features: FeatureSet) -> Self {
        Self { features, ..self }
    }

    fn forward(&self, pictures: &Tensor) -> Features {
        let mut x = features::to_model(&pictures.to_device(self.device));
        let mut pooled = None;
        for layer in &self.layers {
            if let Layer::Feature = layer {
                pooled = Some(x.flatten(1, -1));
            }
            x = layer.forward(&x);
        }
        let is_classifier = !matches!(self.layers.last(), Some(Layer::Feature));
        Features {
            pooled: pooled.expect("a feature layer, as the constructor saw to"),
            spatial: None,
            logits: is_classifier.then_some(x),
        }
    }
}

impl Extractor for FeatureNetwork {
    fn features(&self) -> FeatureSet {
        self.features.clone()
    }

    fn name(&self) -> String {
        format!("network {}", self.features.name())
    }

    fn extract(&self, pictures: &Tensor) -> Result<Features, EvalError> {
        let pictures = features::checked(pictures)?;
        let [channels, height, width] = self.input;
        if pictures.size()[1..] != self.input {
            return Err(EvalError::Shape {
                what: "pictures for this network",
                expected: format!("[B, {channels}, {height}, {width}]"),
                got: pictures.size(),
            });
        }
        Ok(no_grad(|| self.forward(&pictures)))
    }
}

impl Layer {
    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Convolution { weight, bias } => {
                let padding = weight.size()[2] / 2;
                x.conv2d(weight, Some(bias), [1, 1], [padding, padding], [1, 1], 1)
            }
            Self::Linear { weight, bias } => x.flatten(1, -1).linear(weight, Some(bias)),
            Self::Plain(Plain::Relu) => x.relu(),
            Self::Plain(Plain::Silu) => x.silu(),
            Self::Plain(Plain::Gelu) => x.gelu("tanh"),
            Self::Plain(Plain::MaxPool) => x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false),
            Self::Plain(Plain::AvgPool) => x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None),
            Self::Plain(Plain::Mean) => x.mean_dim([2, 3].as_slice(), false, None::<Kind>),
            Self::Feature => x.shallow_clone(),
        }
    }
}

/// Follows the shape of one sample through the layers.
struct Builder {
    origin: PathBuf,
    shape: Vec<i64>,
    tensors: BTreeMap<String, Tensor>,
    device: Device,
}

impl Builder {
    fn layers(mut self, forms: Vec<LayerForm>) -> Result<Vec<Layer>, EvalError> {
        let layers = forms.into_iter().map(|form| self.layer(form));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let count = layers
            .iter()
            .filter(|layer| matches!(layer, Layer::Feature))
            .count();
        if count != 1 {
            return Err(self.problem(format!("expected one layer \"feature\", got {count}")));
        }
        let is_classifier = !matches!(layers.last(), Some(Layer::Feature));
        if is_classifier && self.shape.len() != 1 {
            let shape = &self.shape;
            return Err(self.problem(format!("expected logits [K] at the end, got {shape:?}")));
        }
        match self.tensors.keys().next() {
            None => Ok(layers),
            Some(name) => Err(self.problem(format!("no layer uses the tensor {name}"))),
        }
    }

    fn layer(&mut self, form: LayerForm) -> Result<Layer, EvalError> {
        Ok(match form {
            LayerForm::Conv(name) => self.convolution(&name)?,
            LayerForm::Linear(name) => self.linear(&name)?,
            LayerForm::Relu => Layer::Plain(Plain::Relu),
            LayerForm::Silu => Layer::Plain(Plain::Silu),
            LayerForm::Gelu => Layer::Plain(Plain::Gelu),
            LayerForm::MaxPool => self.pool("max_pool", Plain::MaxPool, |side| side / 2)?,
            LayerForm::AvgPool => self.pool("avg_pool", Plain::AvgPool, |side| side / 2)?,
            LayerForm::Mean => {
                let layer = self.pool("mean", Plain::Mean, |_| 1)?;
                self.shape.truncate(1);
                layer
            }
            LayerForm::Feature => Layer::Feature,
        })
    }

    fn convolution(&mut self, name: &str) -> Result<Layer, EvalError> {
        let [channels, ..] = self.picture(name)?;
        let (weight, bias) = self.take(name)?;
        match weight.size()[..] {
            [outputs, inputs, height, width]
                if inputs == channels && height == width && height % 2 == 1 =>
            {
                self.shape[0] = outputs;
                Ok(Layer::Convolution { weight, bias })
            }
            _ => Err(self.unfit(
                name,
                &format!("[out, {channels}, k, k] with odd k"),
                &weight,
            )),
        }
    }

    fn linear(&mut self, name: &str) -> Result<Layer, EvalError> {
        let numbers: i64 = self.shape.iter().product();
        let (weight, bias) = self.take(name)?;
        match weight.size()[..] {
            [outputs, inputs] if inputs == numbers => {
                self.shape = vec![outputs];
                Ok(Layer::Linear { weight, bias })
            }
            _ => Err(self.unfit(name, &format!("[out, {numbers}]"), &weight)),
        }
    }

    fn pool(&mut self, name: &str, layer: Plain, side: fn(i64) -> i64) -> Result<Layer, EvalError> {
        let [channels, height, width] = self.picture(name)?;
        self.shape = vec![channels, side(height), side(width)];
        if self.shape.contains(&0) {
            return Err(self.problem(format!("{name}: {height}×{width} pixels are too few")));
        }
        Ok(Layer::Plain(layer))
    }

    /// The shape where it must still be that of a picture.
    fn picture(&self, name: &str) -> Result<[i64; 3], EvalError> {
        let shape = &self.shape;
        let picture = shape.as_slice().try_into();
        picture.map_err(|_| self.problem(format!("{name}: expected [C, H, W], got {shape:?}")))
    }

    /// Weight and bias of a layer.
    fn take(&mut self, name: &str) -> Result<(Tensor, Tensor), EvalError> {
        let mut part = |part: &str| {
            let name = format!("{name}.{part}");
            let tensor = self.tensors.remove(&name);
            let tensor = tensor.filter(|tensor| tensor.kind() == Kind::Float && tensor.dim() > 0);
            tensor.ok_or_else(|| problem_of(&self.origin)(format!("missing: {name} in f32")))
        };
        let (weight, bias) = (part("weight")?, part("bias")?);
        if bias.size() != weight.size()[..1] {
            let expected = format!("[{}]", weight.size()[0]);
            return Err(self.unfit(&format!("{name}.bias"), &expected, &bias));
        }
        Ok((weight.to_device(self.device), bias.to_device(self.device)))
    }

    fn unfit(&self, name: &str, expected: &str, tensor: &Tensor) -> EvalError {
        self.problem(format!(
            "{name}: expected shape {expected}, got {:?}",
            tensor.size()
        ))
    }

    fn problem(&self, problem: String) -> EvalError {
        problem_of(&self.origin)(problem)
    }
}

fn problem_of(path: &Path) -> impl Fn(String) -> EvalError {
    move |problem| EvalError::File {
        path: path.to_owned(),
        problem,
    }
}
