//! A data set of a program's own: registered under a name, which recipes may then say.

use meanflow_core::{Registry, RegistryError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{DataError, Dataset};

/// What describes a data set of one's own, as recipes write it, and how it is opened.
///
/// ```
/// use meanflow_data::custom::{self, DatasetBuilder};
/// use meanflow_data::{DataError, MemoryDataset, Dataset};
///
/// /// Points on a straight line.
/// #[derive(serde::Deserialize)]
/// struct Line {
///     size: u32,
/// }
///
/// impl DatasetBuilder for Line {
///     fn load(self, _seed: u64) -> Result<Box<dyn Dataset>, DataError> {
///         let values = (0..self.size).map(|i| i as f32 / self.size as f32);
///         Ok(Box::new(MemoryDataset::from_values(values.collect(), vec![1], Vec::new(), 0)?))
///     }
/// }
///
/// custom::register::<Line>("line")?;
/// let config = serde_json::json!({ "size": 5 });
/// let data = custom::load("line", config.as_object().unwrap(), 0)?;
/// assert_eq!(data.len(), 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait DatasetBuilder: DeserializeOwned {
    /// Opens or makes the data set. Whatever is random in it is a function of `seed`.
    ///
    /// # Errors
    /// When a file cannot be read, or there is no such data set.
    fn load(self, seed: u64) -> Result<Box<dyn Dataset>, DataError>;
}

type Load = fn(Value, u64) -> Result<Box<dyn Dataset>, DataError>;

static DATASETS: Registry<Load> = Registry::new("data set");

/// Makes data sets that a `B` describes known under a name: a recipe may then say
/// `data = { kind = "custom", name = "…", conditional = false, config = { … } }`, with the fields of `B` in `config`.
///
/// # Errors
/// [`RegistryError::Taken`].
pub fn register<B: DatasetBuilder>(name: &'static str) -> Result<(), RegistryError> {
    DATASETS.register(name, |config, seed| {
        let builder: B = serde_json::from_value(config).map_err(|error| {
            DataError::shape("data.config", "what describes the data set", error)
        })?;
        builder.load(seed)
    })
}

/// Refuses a name that this program has not registered.
///
/// # Errors
/// [`RegistryError::Unknown`].
pub fn known(name: &str) -> Result<(), RegistryError> {
    DATASETS.get(name).map(drop)
}

/// Opens the data set registered under `name`.
///
/// # Errors
/// [`DataError::Registry`] when nothing is registered under the name; those of [`DatasetBuilder::load`].
pub fn load(
    name: &str,
    config: &Map<String, Value>,
    seed: u64,
) -> Result<Box<dyn Dataset>, DataError> {
    let (_, load) = DATASETS.get(name).map_err(DataError::Registry)?;
    load(Value::Object(config.clone()), seed)
}
