//! Classes as a request names them.

use serde::Deserialize;

use crate::api_error::ApiError;
use crate::catalogue::ModelEntry;

/// Which class a sample is asked to have.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(untagged)]
pub(crate) enum Class {
    /// Samples without class.
    #[default]
    Without,
    /// By its number.
    Number(i64),
    /// By its name, or its number as text; `balanced` goes through all classes.
    Name(String),
}

impl Class {
    /// The label of every seed; none for a model without classes.
    pub(crate) fn labels(
        &self,
        model: &ModelEntry,
        seeds: &[u64],
    ) -> Result<Option<Vec<i64>>, ApiError> {
        if model.classes > 0 && matches!(self, Self::Name(name) if name == "balanced") {
            return Ok(meanflow_train::balanced(seeds, model.classes));
        }
        let label = self.label(model)?;
        Ok(label.map(|label| vec![label; seeds.len()]))
    }

    /// The one label; none for a model without classes.
    pub(crate) fn label(&self, model: &ModelEntry) -> Result<Option<i64>, ApiError> {
        let classes = model.classes;
        if classes == 0 {
            return match self {
                Self::Without => Ok(None),
                Self::Name(name) if name == "balanced" => Ok(None),
                _ => Err(ApiError::bad(
                    "class",
                    "null, the model has no classes",
                    self,
                )),
            };
        }
        let number = match self {
            Self::Without => return Ok(Some(classes)),
            Self::Number(number) => Some(*number),
            Self::Name(name) => place(name, model).or_else(|| name.parse().ok()),
        };
        let known = number.filter(|number| (0..classes).contains(number));
        known.map(Some).ok_or_else(|| {
            let expected =
                format!("a name or number of one of {classes} classes, or null for none");
            ApiError::bad("class", expected, self)
        })
    }
}

/// The number of the class of this name; another case counts where that is the only one.
fn place(name: &str, model: &ModelEntry) -> Option<i64> {
    let names = model.class_names.as_deref().unwrap_or_default();
    let only = |fits: &dyn Fn(&str) -> bool| {
        let mut places = (0..).zip(names).filter(|(_, known)| fits(known));
        let first = places.next().map(|(place, _)| place);
        first.filter(|_| places.next().is_none())
    };
    only(&|known| known == name)
        .or_else(|| only(&|known| known.to_lowercase() == name.to_lowercase()))
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Without => f.write_str("null"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}
