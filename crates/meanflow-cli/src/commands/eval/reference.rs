//! What samples are compared with.

use std::path::Path;

use anyhow::Context;
use meanflow_data::Source;
use meanflow_data::npz::Npz;
use meanflow_eval::{Extractor, Moments, Statistics};
use meanflow_torch::Tensor;
use meanflow_train::TrainConfig;

use super::pictures::{self, CHUNK};
use super::protocol::Identity;
use super::subject::Subject;
use crate::failure::Usage;

/// Largest archive of statistics that is looked into.
const MOST_BYTES: u64 = 2 << 30;

/// What is known of a reference before its features are.
pub(super) struct Reference {
    pub(super) identity: Identity,
    content: Content,
}

enum Content {
    Statistics(meanflow_eval::Reference),
    Pictures(Box<dyn Source>),
}

/// Statistics of features, and the features and pictures themselves where they are known.
pub(super) struct Measured {
    pub(super) statistics: Statistics,
    pub(super) spatial: Option<Statistics>,
    /// The data, where it is more than statistics.
    pub(super) data: Option<Data>,
}

/// Pictures with their features.
pub(super) struct Data {
    pub(super) source: Box<dyn Source>,
    /// `[M, D]`.
    pub(super) features: Tensor,
}

impl Reference {
    /// Opens statistics or pictures; without a path, what the model was trained on.
    pub(super) fn open(
        path: Option<&Path>,
        recipe: Option<&TrainConfig>,
        subject: &Subject,
    ) -> anyhow::Result<Self> {
        let shape = subject.shape()?;
        let (identity, source) = match (path, recipe) {
            (Some(path), _) if is_statistics(path) => return Self::read(path),
            (Some(path), _) => (Identity::of_data(path)?, pictures::open(path, shape[0])?),
            (None, Some(recipe)) => {
                let data = recipe.data.plain().load(recipe.seed);
                let source = data
                    .context("the data that the model was trained on; or name another by --ref")?;
                (Identity::named("the training data"), source)
            }
            (None, None) => {
                let text = "--ref is needed: the file does not say what the samples should be like";
                return Err(Usage(text.to_owned()).into());
            }
        };
        if source.shape() != shape {
            let (got, name) = (source.shape(), &identity.name);
            let text =
                format!("the reference {name} has pictures {got:?}, the samples are {shape:?}");
            return Err(Usage(text).into());
        }
        let content = Content::Pictures(source);
        Ok(Self { identity, content })
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let file = meanflow_eval::Reference::read(path)?;
        let mut identity = super::identity(path)?;
        identity.name += &format!(" ({})", file.spelling);
        let content = Content::Statistics(file);
        Ok(Self { identity, content })
    }

    /// How many pictures it is made of, where that is known.
    pub(super) fn len(&self) -> Option<usize> {
        match &self.content {
            Content::Statistics(_) => None,
            Content::Pictures(source) => Some(source.len()),
        }
    }

    /// The class of every picture; empty where there are none.
    pub(super) fn labels(&self) -> &[i64] {
        match &self.content {
            Content::Statistics(_) => &[],
            Content::Pictures(source) => source.labels(),
        }
    }

    /// Makes the statistics, where they are not there already.
    pub(super) fn measure(self, extractor: &dyn Extractor) -> anyhow::Result<Measured> {
        match self.content {
            Content::Statistics(file) => Ok(Measured {
                statistics: file.pooled,
                spatial: file.spatial,
                data: None,
            }),
            Content::Pictures(source) => Measured::of(source, extractor),
        }
    }
}

impl Measured {
    fn of(source: Box<dyn Source>, extractor: &dyn Extractor) -> anyhow::Result<Self> {
        let (mut features, mut spatial) = (Vec::new(), None);
        for start in (0..source.len()).step_by(CHUNK) {
            let end = source.len().min(start + CHUNK);
            let found = extractor.extract(&pictures::bytes_of(&*source, start, end)?)?;
            if let Some(places) = &found.spatial {
                let moments = spatial.get_or_insert_with(|| Moments::new(places.size()[1]));
                moments.push(places)?;
            }
            features.push(found.pooled);
        }
        let features = Tensor::cat(&features, 0);
        Ok(Self {
            statistics: Statistics::of(&features)?,
            spatial: spatial.map(|moments| moments.statistics()).transpose()?,
            data: Some(Data { source, features }),
        })
    }
}

/// Whether a file holds statistics of features, in one of the spellings that are read.
fn is_statistics(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "npz")
        && Npz::open(path, MOST_BYTES).is_ok_and(|file| {
            file.names()
                .iter()
                .any(|name| name == "mu" || name == "ref_mu")
        })
}
