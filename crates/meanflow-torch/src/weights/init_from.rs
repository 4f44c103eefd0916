//! The weights of another model as the start of a new one: fine-tuning, also for other classes or samples of another size.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

use crate::networks::NetworkConfig;
use crate::{Model, ModelConfig, TorchError, weights};

/// The table of classes, one row a class and a last one for no class; every network that has one calls it so.
const CLASS_TABLE: &str = "y_embedder.embedding_table.weight";

/// Weights to start from.
#[derive(Clone, Copy, Debug)]
pub struct InitFrom<'a> {
    /// A weights file of this crate.
    pub path: &'a Path,
    /// The names of its classes, where it has any.
    pub their_classes: Option<&'a [String]>,
    /// The names of the new model's classes, where they have any.
    pub our_classes: Option<&'a [String]>,
    /// Whether tensors that do not fit are left as they were drawn, instead of being an error.
    pub partial: bool,
}

/// What became of one tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InitEntry {
    /// Its name in the network, or in the file where the network has none of that name.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<i64>,
    /// What became of it.
    pub outcome: InitOutcome,
}

/// What became of a tensor of the network or of the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum InitOutcome {
    /// The file's values are taken.
    Taken,
    /// Rows of the table of classes are taken; the other classes begin as "no class".
    Rows {
        /// Classes that were found in the file.
        found: usize,
        /// Classes of the new model.
        of: usize,
        /// Whether classes are the same by name, or else by number.
        by_name: bool,
    },
    /// The network's tensor stays as it was drawn.
    Drawn {
        /// The shape in the file, where there is such a tensor.
        got: Option<Vec<i64>>,
    },
    /// The network has no such tensor.
    Unused,
}

impl InitOutcome {
    /// Whether a strict start accepts it.
    fn is_whole(&self) -> bool {
        match self {
            Self::Taken => true,
            Self::Rows { found, of, .. } => found == of,
            Self::Drawn { .. } | Self::Unused => false,
        }
    }
}

impl fmt::Display for InitEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, shape, .. } = self;
        match &self.outcome {
            InitOutcome::Taken => write!(f, "{name} {shape:?}: taken"),
            InitOutcome::Rows { found, of, by_name } => {
                let by = if *by_name { "name" } else { "number" };
                write!(
                    f,
                    "{name}: expected rows of {of} classes, got {found} by {by}"
                )
            }
            InitOutcome::Drawn { got: Some(got) } => {
                write!(f, "{name}: expected shape {shape:?}, got {got:?}")
            }
            InitOutcome::Drawn { got: None } => write!(f, "missing: {name} {shape:?}"),
            InitOutcome::Unused => write!(f, "unexpected: {name} {shape:?}"),
        }
    }
}

/// Sets the parameters of `model` to those of a weights file, as far as they fit, and says what became of every tensor of both.
///
/// Classes are matched by name where both models name theirs, and by number where there are as many; with
/// [`InitFrom::partial`] the other ones begin as the file's "no class". A U-Net's levels are matched from its first, whatever
/// the side of the samples. The positions of a transformer are computed, not stored: they are those of the new grid.
///
/// # Errors
/// If the file is damaged, no weights file of this crate, or holds numbers that are not finite; with every tensor that does not
/// fit, unless that is allowed, and if nothing fits. Nothing is changed then, but in the case of numbers that are not finite.
pub fn init_from(model: &Model, init: &InitFrom<'_>) -> Result<Vec<InitEntry>, TorchError> {
    let path = init.path;
    let config = config_of(path)?;
    let tensors = weights::read(path)?;
    let mut given: BTreeMap<String, (String, Tensor)> = BTreeMap::new();
    for (name, tensor) in tensors {
        given.insert(renamed(&name, &config, model.config()), (name, tensor));
    }
    let (mut entries, mut values) = (Vec::new(), Vec::new());
    for (name, parameter) in model.parameters().iter() {
        let theirs = given.remove(name).map(|(_, tensor)| tensor);
        let (outcome, value) = matched(name, parameter, theirs, init);
        entries.push(InitEntry {
            name: name.to_owned(),
            shape: parameter.size(),
            outcome,
        });
        values.extend(value.map(|value| (parameter, value)));
    }
    entries.extend(given.into_values().map(|(name, tensor)| InitEntry {
        name,
        shape: tensor.size(),
        outcome: InitOutcome::Unused,
    }));
    let strays = entries.iter().filter(|entry| !entry.outcome.is_whole());
    let problems: Vec<String> = strays.map(ToString::to_string).collect();
    if values.is_empty() || !(init.partial || problems.is_empty()) {
        return Err(TorchError::Weights {
            path: path.to_owned(),
            problems,
        });
    }
    for (parameter, value) in values {
        no_grad(|| parameter.shallow_clone().copy_(&value));
    }
    model.parameters().refuse_not_finite(path)?;
    Ok(entries)
}

/// What the model of a weights file is.
///
/// # Errors
/// If the file is no weights file of this crate.
pub fn config_of(path: &Path) -> Result<ModelConfig, TorchError> {
    ModelConfig::in_header(path, &weights::header(path)?)
}

/// What becomes of a parameter, and its new value, if it gets one.
fn matched(
    name: &str,
    parameter: &Tensor,
    theirs: Option<Tensor>,
    init: &InitFrom<'_>,
) -> (InitOutcome, Option<Tensor>) {
    let shape = parameter.size();
    let Some(theirs) = theirs.filter(|tensor| tensor.kind() != Kind::Int64) else {
        return (InitOutcome::Drawn { got: None }, None);
    };
    let got = theirs.size();
    if name == CLASS_TABLE && got[1..] == shape[1..] {
        return class_rows(&shape, &theirs, init);
    }
    if got == shape {
        return (InitOutcome::Taken, Some(theirs));
    }
    (InitOutcome::Drawn { got: Some(got) }, None)
}

/// The table of classes, made of the rows of another.
fn class_rows(
    shape: &[i64],
    theirs: &Tensor,
    init: &InitFrom<'_>,
) -> (InitOutcome, Option<Tensor>) {
    let (ours, null) = (shape[0] - 1, theirs.size()[0] - 1);
    let names = init.our_classes.zip(init.their_classes);
    let source = |class: i64| match names {
        Some((our_names, their_names)) => {
            let name = our_names.get(class as usize)?;
            let place = their_names.iter().position(|known| known == name)?;
            Some(place as i64)
        }
        None => (ours == null).then_some(class),
    };
    let rows: Vec<Option<i64>> = (0..ours).map(source).collect();
    let outcome = InitOutcome::Rows {
        found: rows.iter().flatten().count(),
        of: rows.len(),
        by_name: names.is_some(),
    };
    let of_names = rows.into_iter().map(|row| row.unwrap_or(null));
    let indices: Vec<i64> = of_names.chain([null]).collect();
    let is_same = indices
        .iter()
        .enumerate()
        .all(|(at, row)| at as i64 == *row);
    if is_same && ours == null {
        return (InitOutcome::Taken, Some(theirs.shallow_clone()));
    }
    let value = theirs.index_select(0, &Tensor::from_slice(&indices));
    (outcome, Some(value))
}

/// The name in the new network of a tensor of the file: a U-Net's blocks are named by the side of their level.
fn renamed(name: &str, from: &ModelConfig, to: &ModelConfig) -> String {
    let (NetworkConfig::Unet(unet), NetworkConfig::Unet(_)) = (&from.network, &to.network) else {
        return name.to_owned();
    };
    let (Some(theirs), Some(ours)) = (from.shape.get(1), to.shape.get(1)) else {
        return name.to_owned();
    };
    for level in 0..unet.multipliers.len() {
        let named = |side: i64| format!(".{side}x{side}_", side = side >> level);
        if name.contains(&named(*theirs)) {
            return name.replace(&named(*theirs), &named(*ours));
        }
    }
    name.to_owned()
}
