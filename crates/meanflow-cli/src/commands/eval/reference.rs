//! What samples are compared with.

use std::path::Path;

use anyhow::Context;
use meanflow_data::npz::Npz;
use meanflow_eval::{Evaluation, Extractor, ReferenceFacts, ReferenceFeatures};

use super::identity::Identity;
use super::model::ModelUnderTest;
use super::options::Labels;
use crate::commands::named_data::Look;
use crate::commands::picture_data::{self, PictureData};
use crate::progress::Count;
use crate::usage::Usage;

/// Largest archive of statistics that is looked into.
const MOST_BYTES: u64 = 2 << 30;

/// What is known of a reference before its features are made.
pub(super) struct ReferenceData {
    pub(super) identity: Identity,
    content: Content,
}

enum Content {
    Statistics(meanflow_eval::Reference),
    Pictures(PictureData),
}

/// The features of a reference, and its pictures where there are some.
pub(super) struct Measured {
    pub(super) features: ReferenceFeatures,
    pub(super) data: Option<PictureData>,
}

impl ReferenceData {
    /// Opens statistics or pictures; without a path, what the model was trained on.
    pub(super) fn open(
        path: Option<&Path>,
        model: &ModelUnderTest,
        look: &Look,
    ) -> anyhow::Result<Self> {
        let shape = model.shape()?;
        let (identity, data) = match (path, model.trained_on()) {
            (Some(path), _) if is_statistics(path) => return Self::read(path),
            (Some(path), _) => (
                Identity::of_path(path)?,
                picture_data::open(path, Some(shape[0]), look)?,
            ),
            (None, Some(recipe)) => {
                let source = recipe.data.plain().load(recipe.seed);
                let source = source
                    .context("the data that the model was trained on; or name another by --ref")?;
                let class_names = model.class_names().map(<[String]>::to_vec);
                let data = PictureData {
                    source,
                    class_names,
                };
                (Identity::named("the training data"), data)
            }
            (None, None) => {
                let text = "--ref is needed: the file does not say what the samples should be like";
                return Err(Usage(text.to_owned()).into());
            }
        };
        if data.source.shape() != shape {
            let (got, name) = (data.source.shape(), &identity.name);
            let text =
                format!("the reference {name} has pictures {got:?}, the samples are {shape:?}");
            return Err(Usage(text).into());
        }
        let content = Content::Pictures(data);
        Ok(Self { identity, content })
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let file = meanflow_eval::Reference::read(path)?;
        let mut identity = Identity::of_path(path)?;
        identity.name += &format!(" ({})", file.spelling);
        let content = Content::Statistics(file);
        Ok(Self { identity, content })
    }

    /// Refuses classes that are not those of the model, where the model is asked for the reference's.
    pub(super) fn check_classes(
        &self,
        model: &ModelUnderTest,
        labels: Labels,
    ) -> anyhow::Result<()> {
        let is_asked = matches!(model, ModelUnderTest::Model(_)) && model.classes() > 0;
        if !is_asked || labels != Labels::Data {
            return Ok(());
        }
        let refuse = |problem: String| {
            let name = &self.identity.name;
            let hint = "--labels balanced or random draws classes without the reference's";
            Err(Usage(format!(
                "--labels data: {problem} (reference {name}); {hint}"
            ))
            .into())
        };
        let classes = self.pictures().map_or(0, |data| data.source.classes());
        if self.labels().is_empty() {
            return refuse("the reference has no classes".to_owned());
        }
        if classes as u64 != model.classes() {
            let known = model.classes();
            return refuse(format!(
                "the model has {known} classes, the reference has {classes}"
            ));
        }
        let names = self.pictures().and_then(|data| data.class_names.as_deref());
        let pair = model.class_names().zip(names);
        let differs = pair.and_then(|(ours, theirs)| {
            let mut pairs = ours.iter().zip(theirs).enumerate();
            pairs.find(|(_, (ours, theirs))| ours != theirs)
        });
        match differs {
            None => Ok(()),
            Some((class, (ours, theirs))) => refuse(format!(
                "class {class} is {ours} for the model and {theirs} in the reference"
            )),
        }
    }

    /// What of it decides which metrics are possible.
    pub(super) fn facts(&self) -> ReferenceFacts {
        match &self.content {
            Content::Statistics(file) => ReferenceFacts::Statistics {
                pooled: file.pooled.dims() as u64,
                spatial: file.spatial.as_ref().map(|spatial| spatial.dims() as u64),
            },
            Content::Pictures(data) => ReferenceFacts::Pictures(data.source.len() as u64),
        }
    }

    /// How many pictures it is made of, where that is known.
    pub(super) fn len(&self) -> Option<usize> {
        self.pictures().map(|data| data.source.len())
    }

    /// The class of every picture; empty where there are none.
    pub(super) fn labels(&self) -> &[i64] {
        self.pictures().map_or(&[], |data| data.source.labels())
    }

    fn pictures(&self) -> Option<&PictureData> {
        match &self.content {
            Content::Statistics(_) => None,
            Content::Pictures(data) => Some(data),
        }
    }

    /// Makes the features, where they are not there already.
    pub(super) fn measure(
        self,
        extractor: &dyn Extractor,
        evaluation: &Evaluation<'_>,
    ) -> anyhow::Result<Measured> {
        let data = match self.content {
            Content::Statistics(file) => {
                let features = ReferenceFeatures::of_statistics(file);
                let data = None;
                return Ok(Measured { features, data });
            }
            Content::Pictures(data) => data,
        };
        let progress = Count::named("reference", data.source.len());
        let features = ReferenceFeatures::of_pictures(
            &*data.source,
            extractor,
            evaluation.needs_statistics(),
            |more| progress.add(more as usize),
        )?;
        progress.finish();
        let data = Some(data);
        Ok(Measured { features, data })
    }
}

/// Whether a file holds statistics of features, in one of the spellings that are read.
fn is_statistics(path: &Path) -> bool {
    let is_name = |name: &String| name == "mu" || name == "ref_mu";
    path.extension().is_some_and(|end| end == "npz")
        && Npz::open(path, MOST_BYTES).is_ok_and(|file| file.names().iter().any(is_name))
}
