//! A network with its parameters and all that is needed to rebuild it and to sample from it.

pub(crate) mod compute;
pub(crate) mod condition;
pub(crate) mod flops;
pub(crate) mod parameters;
pub(crate) mod passes;
pub(crate) mod prediction;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use meanflow_core::Schedule;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::model::compute::Compute;
use crate::model::condition::Conditioning;
use crate::model::parameters::{Declaration, Parameters};
use crate::model::passes::{Counter, ForwardCounts};
use crate::model::prediction::Prediction;
use crate::networks::{Network, NetworkConfig};
use crate::tensor::per_row;
use crate::weights::{self, Verify, WeightsHeader};
use crate::{Dual, Flops, TorchError, host};

/// The key of a weights file's metadata under which the [`ModelConfig`] stands as JSON.
pub const MODEL_KEY: &str = "model";

/// What a model is, apart from its weights.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The network.
    pub network: NetworkConfig,
    /// The shape of a sample: `[channels, height, width]`, or `[dimensions]`.
    pub shape: Vec<i64>,
    /// Number of classes; 0 for an unconditional model. The label `classes` means "no class".
    pub classes: i64,
    /// The path from data to noise.
    pub schedule: Schedule,
    /// What the network's output stands for.
    #[serde(default, skip_serializing_if = "Prediction::is_velocity")]
    pub prediction: Prediction,
}

/// More values in a sample, or more classes, are a slip of the pen: a limit that is looked at before anything is built.
const MOST_VALUES: i64 = 1 << 26;
const MOST_CLASSES: i64 = 1 << 24;

impl ModelConfig {
    /// Checks that there is such a network.
    ///
    /// # Errors
    /// With the key, what it should be and what it is.
    pub fn validate(&self) -> Result<(), TorchError> {
        if self.shape.is_empty() || self.shape.iter().any(|side| *side < 1) {
            let expected = "at least one dimension, none of them empty".into();
            return Err(TorchError::Shape {
                what: "sample".into(),
                expected,
                got: self.shape.clone(),
            });
        }
        let values: f64 = self.shape.iter().map(|side| *side as f64).product();
        if values > MOST_VALUES as f64 {
            return Err(TorchError::Shape {
                what: "sample".into(),
                expected: format!("at most {MOST_VALUES} values"),
                got: self.shape.clone(),
            });
        }
        if !(0..=MOST_CLASSES).contains(&self.classes) {
            let (expected, got) = (format!("0 to {MOST_CLASSES}"), self.classes.to_string());
            return Err(TorchError::Config {
                key: "classes",
                expected,
                got,
            });
        }
        self.prediction.validate(&self.schedule)?;
        self.network.validate(&self.shape, self.classes)
    }
}

impl ModelConfig {
    /// How many parameters the network has; none of them is allocated.
    ///
    /// # Errors
    /// If the configuration describes no network.
    pub fn parameter_count(&self) -> Result<usize, TorchError> {
        Ok(self.outline()?.0.count())
    }

    /// What a forward of one row costs, counted without doing it.
    ///
    /// # Errors
    /// If the configuration describes no network.
    pub fn flops(&self) -> Result<Flops, TorchError> {
        Ok(self.outline()?.1.flops())
    }

    /// What the model of a weights file is, by the file's header.
    pub(crate) fn in_header(path: &Path, header: &WeightsHeader) -> Result<Self, TorchError> {
        let problem = |problem| TorchError::File {
            path: path.to_owned(),
            problem,
        };
        let json = header.metadata.get(MODEL_KEY).ok_or_else(|| {
            problem(format!(
                "no \"{MODEL_KEY}\" in the metadata: these weights were not written by meanflow; `meanflow convert import` reads official ones"
            ))
        })?;
        serde_json::from_str(json)
            .map_err(|error| problem(format!("unreadable \"{MODEL_KEY}\": {error}")))
    }

    /// The network without memory for its parameters.
    pub(crate) fn outline(&self) -> Result<(Parameters, Box<dyn Network>), TorchError> {
        self.validate()?;
        let mut declaration = Declaration::shapes();
        let mut root = declaration.root();
        let network = self.network.build(&mut root, &self.shape, self.classes);
        Ok((declaration.finish(), network))
    }
}

/// A network, its parameters and their device.
///
/// ```
/// use meanflow_torch::{Device, Kind, Model, Tensor};
/// # use meanflow_core::Schedule;
/// # use meanflow_torch::layers::TimeEmbedding;
/// # use meanflow_torch::networks::{MlpConfig, NetworkConfig};
/// # use meanflow_torch::{ModelConfig, Prediction};
/// # let network = NetworkConfig::Mlp(MlpConfig { width: 8, depth: 1, embedding: TimeEmbedding::TH });
/// # let config = ModelConfig { network, shape: vec![2], classes: 0, schedule: Schedule::Linear, prediction: Prediction::Velocity };
///
/// let model = Model::new(config, 0, Device::Cpu, Kind::Float)?;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.safetensors");
/// model.save(&path, Default::default())?;
/// let (again, _metadata) = Model::load(&path, Device::Cpu)?;
/// // The average velocity over the whole interval, of one state.
/// let z = Tensor::from_slice(&[0.5_f32, -0.5]).reshape([1, 2]);
/// assert_eq!(model.predict(&z, &[0.0], &[1.0], None), again.predict(&z, &[0.0], &[1.0], None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    parameters: Parameters,
    network: Box<dyn Network>,
    kind: Kind,
    device: Device,
    compute: Compute,
    passes: Arc<Counter>,
}

impl Model {
    /// A model with parameters drawn from `seed`, the same on every device.
    ///
    /// # Errors
    /// If the configuration describes no network.
    pub fn new(
        config: ModelConfig,
        seed: u64,
        device: Device,
        kind: Kind,
    ) -> Result<Self, TorchError> {
        config.validate()?;
        Ok(Self::declare(
            config,
            Declaration::drawn(seed, kind, device),
            kind,
            device,
        ))
    }

    fn declare(
        config: ModelConfig,
        mut declaration: Declaration,
        kind: Kind,
        device: Device,
    ) -> Self {
        let network = config
            .network
            .build(&mut declaration.root(), &config.shape, config.classes);
        Self {
            config,
            compute: declaration.compute(),
            parameters: declaration.finish(),
            network,
            kind,
            device,
            passes: Arc::default(),
        }
    }

    /// The model of a weights file with the file's metadata.
    ///
    /// # Errors
    /// If the file is no weights file of this crate, its tensors are not exactly those of the network or hold a number that
    /// is not finite, or its content is not what its hash says.
    pub fn load(
        path: &Path,
        device: Device,
    ) -> Result<(Self, BTreeMap<String, String>), TorchError> {
        Self::load_with(path, device, Verify::Content)
    }

    /// As [`Model::load`], with or without the comparison of the hash.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_with(
        path: &Path,
        device: Device,
        verify: Verify,
    ) -> Result<(Self, BTreeMap<String, String>), TorchError> {
        let header = weights::header(path)?;
        let problem = |problem| TorchError::File {
            path: path.to_owned(),
            problem,
        };
        let config = ModelConfig::in_header(path, &header)?;
        // A size that no tensor of the file has is not even outlined.
        let sides = header.tensors.iter().flat_map(|tensor| &tensor.shape);
        let longest = sides.copied().max().unwrap_or(0);
        let unusable = |error: TorchError| problem(format!("unusable \"{MODEL_KEY}\": {error}"));
        config.validate().map_err(unusable)?;
        if config.network.width() > longest {
            return Err(problem(format!(
                "unusable \"{MODEL_KEY}\": a network of width {}, where no tensor of the file is longer than {longest}",
                config.network.width()
            )));
        }
        let (outline, _) = config.outline().map_err(unusable)?;
        weights::fits(path, &header, &outline.named())?;
        let kind = Kind::Float;
        let model = Self::declare(config, Declaration::blank(kind, device), kind, device);
        let metadata = weights::load_strict_with(path, &model.parameters.named(), verify)?;
        model.parameters.refuse_not_finite(path)?;
        Ok((model, metadata))
    }

    /// Writes the parameters, with the configuration and `metadata` beside them.
    ///
    /// # Errors
    /// If the file cannot be written; a file that was there before is then unchanged.
    pub fn save(&self, path: &Path, metadata: BTreeMap<String, String>) -> Result<(), TorchError> {
        weights::save(path, &self.parameters.named(), self.described(metadata))
    }

    /// This metadata with the configuration, from which [`Model::load`] builds the network again.
    pub fn described(&self, mut metadata: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let json =
            serde_json::to_string(&self.config).expect("a configuration is representable in JSON");
        metadata.insert(MODEL_KEY.into(), json);
        metadata
    }

    /// The same model, computed in another way.
    pub fn computed(self, compute: Compute) -> Self {
        let (kind, device) = (self.kind, self.device);
        let bound = Declaration::bound(&self.parameters, kind, device).computed(compute);
        Self::declare(self.config, bound, kind, device)
    }

    /// A second model of the same configuration, computed in the kind of its parameters, with a copy of them that takes no
    /// gradients: an average.
    pub fn twin(&self) -> Self {
        let copy = self.parameters.frozen_copy();
        Self::declare(
            self.config.clone(),
            Declaration::bound(&copy, self.kind, self.device),
            self.kind,
            self.device,
        )
    }

    /// The same model for another thread: its parameters are in the same memory and have gradients of their own. What goes
    /// through either is counted in the [`Model::passes`] of both.
    pub fn replica(&self) -> Self {
        let alias = self.parameters.alias();
        let bound = Declaration::bound(&alias, self.kind, self.device).computed(self.compute);
        let replica = Self::declare(self.config.clone(), bound, self.kind, self.device);
        Self {
            passes: Arc::clone(&self.passes),
            ..replica
        }
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Where they are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Their type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `u(z, r, t | label)` as a plain tensor on the tape; `z [B, …]`, one `r`, `t` and label a row.
    ///
    /// Without labels a conditional model takes every row for one without class.
    pub fn average_velocity(
        &self,
        z: &Tensor,
        r: &[f64],
        t: &[f64],
        labels: Option<&[i64]>,
    ) -> Tensor {
        let condition = Conditioning::of_labels(self.label_tensor(labels, r.len()));
        let (r, t) = (per_row(r, z).into(), per_row(t, z).into());
        self.forward(&z.shallow_clone().into(), &r, &t, &condition)
            .into_parts()
            .0
    }

    /// The same without a tape.
    pub fn predict(&self, z: &Tensor, r: &[f64], t: &[f64], labels: Option<&[i64]>) -> Tensor {
        no_grad(|| self.average_velocity(z, r, t, labels))
    }

    /// `u(z, r, t)` over dual numbers; the condition has labels where the model has classes.
    pub fn forward(&self, z: &Dual, r: &Dual, t: &Dual, condition: &Conditioning) -> Dual {
        let output = self.network.forward(z, r, t, condition);
        self.passes.forward(&output);
        self.config.prediction.average_velocity(output, z, t)
    }

    /// The rows that have gone through the network until now.
    ///
    /// Of [`JvpMethod::DoubleBackward`](crate::JvpMethod::DoubleBackward) only the first of the two backward passes is counted.
    pub fn passes(&self) -> ForwardCounts {
        self.passes.total()
    }

    /// Counts tangents of libtorch's forward mode, which are inside its tensors.
    pub(crate) fn count_tangents(&self, rows: i64) {
        self.passes.tangents(rows as u64);
    }

    /// Labels on the device, "no class" for all `rows` where none are given; nothing for an unconditional model.
    pub(crate) fn label_tensor(&self, labels: Option<&[i64]>, rows: usize) -> Option<Tensor> {
        let classes = self.config.classes;
        (classes > 0).then(|| match labels {
            Some(labels) => host::upload(labels, self.device),
            None => Tensor::full([rows as i64], classes, (Kind::Int64, self.device)),
        })
    }
}
