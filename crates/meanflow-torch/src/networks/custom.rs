//! A network of a program's own: registered under a name, and from then on described, saved, loaded and trained like ours.

use std::fmt::Debug;
use std::sync::Arc;

use meanflow_core::{Registry, RegistryError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Network;
use crate::model::parameters::VarBuilder;
use crate::{TorchError, networks};

/// What describes a network of one's own: its sizes, as recipes and weights files write them, and how it is built.
///
/// [`networks::register`] makes it known under a name.
pub trait NetworkBuilder: Debug + Send + Sync {
    /// Checks the sizes against the shape of a sample and the number of classes, 0 for an unconditional network.
    ///
    /// Files hold sizes too: what passes is built, so a size beyond all reason has to be refused here.
    ///
    /// # Errors
    /// [`TorchError::Config`] with the first key that describes no network.
    fn validate(&self, shape: &[i64], classes: i64) -> Result<(), TorchError>;

    /// Declares the parameters and puts the network together; the sizes have been validated.
    ///
    /// It is called once for every copy of a model and must declare the same names and shapes each time. The label
    /// `classes` means "no class".
    fn build(&self, vars: &mut VarBuilder, shape: &[i64], classes: i64) -> Box<dyn Network>;

    /// Whether units are dropped in training: then two forwards of one row differ.
    fn has_dropout(&self) -> bool {
        false
    }
}

type Read = fn(Value) -> Result<Arc<dyn NetworkBuilder>, serde_json::Error>;

static NETWORKS: Registry<Read> = Registry::new("network");

/// Makes networks that a `B` describes known under a name: a recipe may then say
/// `network = { kind = "custom", name = "…", config = { … } }`, with the fields of `B` in `config`.
///
/// # Errors
/// [`RegistryError::Taken`].
pub fn register<B: NetworkBuilder + DeserializeOwned + 'static>(
    name: &'static str,
) -> Result<(), RegistryError> {
    NETWORKS.register(name, |config| {
        serde_json::from_value::<B>(config).map(|builder| Arc::new(builder) as _)
    })
}

/// A network that this program has registered, with its sizes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct CustomNetwork {
    name: String,
    config: Map<String, Value>,
    builder: Arc<dyn NetworkBuilder>,
}

/// The network as recipes and weights files write it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    config: Map<String, Value>,
}

impl CustomNetwork {
    /// The network registered under `name`, with these sizes.
    ///
    /// # Errors
    /// [`TorchError::Registry`] when nothing is registered under the name, [`TorchError::Config`] when the sizes are not
    /// those it takes.
    pub fn new(name: &str, config: Map<String, Value>) -> Result<Self, TorchError> {
        let (_, read) = NETWORKS.get(name)?;
        let builder = read(Value::Object(config.clone())).map_err(|error| TorchError::Config {
            key: "config",
            expected: format!("the sizes of the network \"{name}\""),
            got: error.to_string(),
        })?;
        Ok(Self {
            name: name.to_owned(),
            config,
            builder,
        })
    }

    /// What builds it.
    pub(super) fn builder(&self) -> &dyn NetworkBuilder {
        &*self.builder
    }
}

/// The same name and the same sizes.
impl PartialEq for CustomNetwork {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.config) == (&other.name, &other.config)
    }
}

impl TryFrom<Written> for CustomNetwork {
    type Error = TorchError;

    fn try_from(written: Written) -> Result<Self, TorchError> {
        Self::new(&written.name, written.config)
    }
}

impl From<CustomNetwork> for Written {
    fn from(network: CustomNetwork) -> Self {
        Self {
            name: network.name,
            config: network.config,
        }
    }
}

impl From<CustomNetwork> for networks::NetworkConfig {
    fn from(network: CustomNetwork) -> Self {
        Self::Custom(network)
    }
}
