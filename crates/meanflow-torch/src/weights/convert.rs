//! The names and layouts of the official weights, and ours.
//!
//! | | Flax (the JAX repositories) | PyTorch | ours |
//! |---|---|---|---|
//! | root | `net/` | | |
//! | separator | `/` | `.` | `.` |
//! | item of a list | `layers_3` | `3` | `3` |
//! | affine map | `…/_flax_linear/kernel` `[in, out]` | `….weight` `[out, in]` | as PyTorch |
//! | convolution | `…/kernel` `[height, width, in, out]` | `….weight` `[out, in, height, width]` | as PyTorch |
//! | label table | `…/_flax_embedding/embedding` `[classes + 1, width]` | `….weight` | as PyTorch |
//! | bias | `bias` | `bias` | `bias` |

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use tch::{Kind, Tensor, no_grad};

use crate::layers::{PatchGrid, outer, sincos_pos_embed};
use crate::model::parameters::Parameters;
use crate::networks::{DitConfig, NetworkConfig};
use crate::{Model, ModelConfig, TorchError};

/// How a framework names and stores parameters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// Flax modules of the official JAX repositories, flattened with `/`.
    Flax,
    /// `state_dict` of PyTorch modules.
    PyTorch,
}

impl Layout {
    /// Our name of a parameter, and its values as we store them.
    pub fn import(self, name: &str, tensor: &Tensor) -> (String, Tensor) {
        match self {
            Self::Flax => (from_flax(name), to_torch_order(name, tensor)),
            Self::PyTorch => (name.to_owned(), tensor.shallow_clone()),
        }
    }

    /// Their name of one of our parameters, and its values as they store them.
    pub fn export(self, name: &str, tensor: &Tensor) -> (String, Tensor) {
        match self {
            Self::Flax => {
                let theirs = to_flax(name);
                let values = to_flax_order(&theirs, tensor);
                (theirs, values)
            }
            Self::PyTorch => (name.to_owned(), tensor.shallow_clone()),
        }
    }
}

impl Layout {
    /// The layout that these names are of.
    pub fn of<'a>(mut names: impl Iterator<Item = &'a str>) -> Self {
        if names.any(|name| name.contains('/')) {
            Self::Flax
        } else {
            Self::PyTorch
        }
    }
}

/// What became of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertedTensor {
    /// Its name in the official file.
    pub official: String,
    /// Its shape there.
    pub official_shape: Vec<i64>,
    /// Its name here; none for a constant that is computed here.
    pub ours: Option<String>,
    /// Its shape here.
    pub shape: Vec<i64>,
}

impl fmt::Display for ConvertedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            official,
            official_shape,
            ours,
            shape,
        } = self;
        match ours {
            Some(ours) => write!(f, "{official} {official_shape:?} = {ours} {shape:?}"),
            None => write!(f, "{official} {official_shape:?}, a constant"),
        }
    }
}

/// The tensors whose names begin with `root`, without it: a checkpoint may hold several networks.
pub fn below(tensors: &BTreeMap<String, Tensor>, root: &str) -> BTreeMap<String, Tensor> {
    let inside = tensors.iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix(root)?;
        Some((name.to_owned(), tensor.shallow_clone()))
    });
    inside.collect()
}

/// Whether official tensors are exactly those of a network, before memory is taken for it.
///
/// # Errors
/// As [`import`].
pub fn fits(
    config: &ModelConfig,
    layout: Layout,
    tensors: &BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<(), TorchError> {
    let (outline, _) = config.outline()?;
    matched(&outline, config, layout, tensors, path).map(drop)
}

/// Sets the parameters of `model` to official ones: exactly those, and constants as they are computed here.
///
/// # Errors
/// With every missing, unexpected or differing tensor of the file `path`; nothing is changed then.
pub fn import(
    model: &Model,
    layout: Layout,
    tensors: &BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<Vec<ConvertedTensor>, TorchError> {
    let (entries, values) = matched(model.parameters(), model.config(), layout, tensors, path)?;
    for (parameter, tensor) in values {
        no_grad(|| parameter.shallow_clone().copy_(&tensor));
    }
    model.parameters().refuse_not_finite(path)?;
    Ok(entries)
}

/// What becomes of every tensor, and the values of the parameters.
type Matched<'a> = (Vec<ConvertedTensor>, Vec<(&'a Tensor, Tensor)>);

fn matched<'a>(
    parameters: &'a Parameters,
    config: &ModelConfig,
    layout: Layout,
    tensors: &BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<Matched<'a>, TorchError> {
    predicts_velocity(config)?;
    let mut given: Given = BTreeMap::new();
    for (official, tensor) in tensors {
        let (name, tensor) = layout.import(official, tensor);
        given.insert(name, (official, tensor));
    }
    let (mut entries, mut problems, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (name, parameter) in parameters.iter() {
        match take_parameter(&mut given, name, &parameter.size()) {
            Ok((official, tensor)) => {
                entries.push(ConvertedTensor {
                    official: official.to_owned(),
                    official_shape: tensors[official].size(),
                    ours: Some(name.to_owned()),
                    shape: parameter.size(),
                });
                values.push((parameter, tensor));
            }
            Err(problem) => problems.push(problem),
        }
    }
    for (name, value) in constants(config) {
        match take_constant(&mut given, &name, &value) {
            Ok(entry) => entries.extend(entry),
            Err(problem) => problems.push(problem),
        }
    }
    let rest = given.values();
    problems.extend(
        rest.map(|(official, tensor)| format!("unexpected: {official} {:?}", tensor.size())),
    );
    if !problems.is_empty() {
        let path = path.to_owned();
        return Err(TorchError::Weights { path, problems });
    }
    Ok((entries, values))
}

/// By our name: the official name, and the values as we store them.
type Given<'a> = BTreeMap<String, (&'a str, Tensor)>;

fn take_parameter<'a>(
    given: &mut Given<'a>,
    name: &str,
    shape: &[i64],
) -> Result<(&'a str, Tensor), String> {
    match given.remove(name) {
        Some((official, tensor)) if tensor.size() == shape => Ok((official, tensor)),
        Some((official, tensor)) => Err(format!(
            "{official}: expected shape {shape:?} as {name}, got {:?}",
            tensor.size()
        )),
        None => Err(format!("missing: {name} {shape:?}")),
    }
}

fn take_constant(
    given: &mut Given,
    name: &str,
    value: &Tensor,
) -> Result<Option<ConvertedTensor>, String> {
    match given.remove(name) {
        Some((official, tensor)) if is_close(&tensor, value) => Ok(Some(ConvertedTensor {
            official: official.to_owned(),
            official_shape: tensor.size(),
            ours: None,
            shape: value.size(),
        })),
        Some((official, _)) => Err(format!("{official}: not the constant computed here")),
        None => Ok(None),
    }
}

/// Tensors by their official names, and what each was.
pub type Exported = (Vec<(String, Tensor)>, Vec<ConvertedTensor>);

/// The parameters of `model` as the official code stores them, with the constants that it stores, and what they were.
///
/// # Errors
/// For a network that predicts anything but the velocity.
pub fn export(model: &Model, layout: Layout) -> Result<Exported, TorchError> {
    predicts_velocity(model.config())?;
    let (mut tensors, mut entries) = (Vec::new(), Vec::new());
    for (name, parameter) in model.parameters().iter() {
        let (official, tensor) = layout.export(name, &parameter.detach());
        entries.push(ConvertedTensor {
            official: official.clone(),
            official_shape: tensor.size(),
            ours: Some(name.to_owned()),
            shape: parameter.size(),
        });
        tensors.push((official, tensor));
    }
    let stored = layout == Layout::PyTorch;
    for (official, value) in constants(model.config()).into_iter().filter(|_| stored) {
        entries.push(ConvertedTensor {
            official: official.clone(),
            official_shape: value.size(),
            ours: None,
            shape: value.size(),
        });
        tensors.push((official, value.to_kind(Kind::Float)));
    }
    Ok((tensors, entries))
}

/// Refuses a model whose output the official programs would take for something else.
fn predicts_velocity(config: &ModelConfig) -> Result<(), TorchError> {
    if config.prediction.is_velocity() {
        return Ok(());
    }
    Err(TorchError::Config {
        key: "prediction",
        expected: "\"u\", which official weights predict".into(),
        got: "\"x\"".into(),
    })
}

/// What the official PyTorch modules store beside their parameters.
fn constants(config: &ModelConfig) -> Vec<(String, Tensor)> {
    match &config.network {
        NetworkConfig::Mlp(_) | NetworkConfig::Custom(_) => Vec::new(),
        NetworkConfig::Dit(DitConfig { patch, width, .. }) => {
            let grid = PatchGrid {
                channels: config.shape[0],
                rows: config.shape[1] / patch,
                columns: config.shape[2] / patch,
                patch: *patch,
            };
            let values = Tensor::from_slice(&sincos_pos_embed(&grid, *width));
            vec![(
                "pos_embed".into(),
                values.reshape([1, grid.tokens(), *width]),
            )]
        }
        NetworkConfig::Unet(unet) => {
            let side = unet.filter.len() as i64;
            let filter = Tensor::from_slice(&outer(&unet.filter)).reshape([1, 1, side, side]);
            let levels = 0..unet.multipliers.len();
            let sides: Vec<i64> = levels.map(|level| config.shape[1] >> level).collect();
            let down = sides
                .iter()
                .skip(1)
                .map(|side| format!("enc.{side}x{side}_down"));
            let up = sides
                .iter()
                .rev()
                .skip(1)
                .map(|side| format!("dec.{side}x{side}_up"));
            down.chain(up)
                .flat_map(|block| {
                    ["conv0", "skip"].map(|layer| format!("{block}.{layer}.resample_filter"))
                })
                .map(|name| (name, filter.shallow_clone()))
                .collect()
        }
    }
}

/// Whether a constant of a file equals `computed`, in f32, up to the rounding of f32; where the file was cast to halves as a whole,
/// up to one step of the halves, for some programs cut digits off instead of rounding.
fn is_close(given: &Tensor, computed: &Tensor) -> bool {
    let step = match given.kind() {
        Kind::BFloat16 => 2_f64.powi(-7),
        Kind::Half => 2_f64.powi(-10),
        _ => 0.0,
    };
    given.size() == computed.size() && {
        let computed = computed.to_kind(Kind::Double);
        let excess = (given.to_kind(Kind::Double) - &computed).abs() - computed.abs() * step;
        excess.max().double_value(&[]) < 1e-6
    }
}

/// The root of every name in the official Flax files.
const ROOT: &str = "net/";
/// Flax wraps its layers once more; these carry no meaning.
const WRAPPERS: [&str; 2] = ["_flax_linear", "_flax_embedding"];

fn from_flax(name: &str) -> String {
    let name = name.strip_prefix(ROOT).unwrap_or(name);
    let parts = name
        .split('/')
        .filter(|part| !WRAPPERS.contains(part))
        .map(|part| match part {
            "kernel" | "embedding" => "weight",
            part => part.strip_prefix("layers_").unwrap_or(part),
        });
    parts.collect::<Vec<_>>().join(".")
}

fn to_flax(name: &str) -> String {
    let (layer, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    let path = layer.split('.').map(|part| {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("layers_{part}")
        } else {
            part.to_owned()
        }
    });
    let path = path.collect::<Vec<_>>().join("/");
    match (layer, leaf) {
        (_, "weight") if layer.ends_with("embedding_table") => {
            format!("{ROOT}{path}/_flax_embedding/embedding")
        }
        ("x_embedder.proj", "weight") => format!("{ROOT}{path}/kernel"),
        ("x_embedder.proj", _) => format!("{ROOT}{path}/{leaf}"),
        (_, "weight") => format!("{ROOT}{path}/_flax_linear/kernel"),
        _ => format!("{ROOT}{path}/_flax_linear/{leaf}"),
    }
}

fn to_torch_order(flax: &str, tensor: &Tensor) -> Tensor {
    match (flax.ends_with("/kernel"), tensor.dim()) {
        (true, 2) => tensor.transpose(0, 1).contiguous(),
        (true, 4) => tensor.permute([3, 2, 0, 1]).contiguous(),
        _ => tensor.shallow_clone(),
    }
}

fn to_flax_order(flax: &str, tensor: &Tensor) -> Tensor {
    match (flax.ends_with("/kernel"), tensor.dim()) {
        (true, 2) => tensor.transpose(0, 1).contiguous(),
        (true, 4) => tensor.permute([2, 3, 1, 0]).contiguous(),
        _ => tensor.shallow_clone(),
    }
}
