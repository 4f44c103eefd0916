//! What can be computed, what cannot and why, and what it takes.

use serde::Serialize;

use super::{EvalConfig, FeatureDims};
use crate::{
    ClassAccuracy, EvalError, FeatureSet, FrechetMetric, KernelSubsets, Metric, MetricFamily,
    MetricId, PairwiseMetric, ScoreMetric,
};

/// What is known of a reference before its features are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReferenceFacts {
    /// Statistics alone, of so many pooled and spatial features.
    Statistics {
        /// Pooled features.
        pooled: u64,
        /// Spatial features, where there are some.
        spatial: Option<u64>,
    },
    /// So many pictures.
    Pictures(u64),
}

/// A metric that was asked for and cannot be computed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Omitted {
    /// Its identity.
    #[serde(skip)]
    pub id: MetricId,
    /// Its name in reports.
    pub metric: String,
    /// Why it cannot be computed.
    pub reason: String,
}

/// A metric that can be computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Planned {
    Frechet,
    SpatialFrechet,
    Kernel(KernelSubsets),
    PrecisionRecall,
    Score,
    ClassAccuracy,
}

impl Planned {
    /// The values that it gives.
    pub(super) fn ids(self) -> Vec<MetricId> {
        match self {
            Self::Frechet => vec![MetricId::FrechetDistance],
            Self::SpatialFrechet => vec![MetricId::SpatialFrechetDistance],
            Self::Kernel(_) => vec![MetricId::KernelDistance],
            Self::PrecisionRecall => vec![MetricId::Precision, MetricId::Recall],
            Self::Score => vec![MetricId::InceptionScore],
            Self::ClassAccuracy => vec![MetricId::ClassAccuracy],
        }
    }

    /// The metric, without any sample.
    pub(super) fn metric(
        self,
        dims: FeatureDims,
        config: &EvalConfig,
    ) -> Result<Box<dyn Metric>, EvalError> {
        let wide = |dims: Option<u64>| dims.unwrap_or_default() as i64;
        Ok(match self {
            Self::Frechet => Box::new(FrechetMetric::pooled(dims.pooled as i64, config.samples)),
            Self::SpatialFrechet => {
                Box::new(FrechetMetric::spatial(wide(dims.spatial), config.samples))
            }
            Self::Kernel(subsets) => Box::new(PairwiseMetric::kernel(subsets)),
            Self::PrecisionRecall => Box::new(PairwiseMetric::precision_recall(config.neighbours)),
            Self::Score => {
                let classes = wide(dims.logits);
                Box::new(ScoreMetric::new(config.samples, config.splits, classes)?)
            }
            Self::ClassAccuracy => Box::new(ClassAccuracy::new(wide(dims.logits))),
        })
    }
}

/// All that a decision depends on.
struct Situation<'a> {
    features: &'a FeatureSet,
    dims: FeatureDims,
    reference: ReferenceFacts,
    config: &'a EvalConfig,
}

/// What of the metrics asked for can be computed, and what cannot.
pub(super) fn plan(
    features: &FeatureSet,
    dims: FeatureDims,
    reference: ReferenceFacts,
    config: &EvalConfig,
) -> Result<(Vec<Planned>, Vec<Omitted>), EvalError> {
    let situation = Situation {
        features,
        dims,
        reference,
        config,
    };
    let (mut planned, mut omitted) = (Vec::new(), Vec::new());
    for family in &config.families {
        for (id, found) in situation.family(*family)? {
            match found {
                Ok(metric) => planned.push(metric),
                Err(reason) => omitted.push(Omitted {
                    id,
                    metric: id.key(features),
                    reason,
                }),
            }
        }
    }
    Ok((planned, omitted))
}

type Decision = (MetricId, Result<Planned, String>);

impl Situation<'_> {
    fn family(&self, family: MetricFamily) -> Result<Vec<Decision>, EvalError> {
        Ok(match family {
            MetricFamily::Frechet => {
                let mut found = vec![(MetricId::FrechetDistance, self.frechet()?)];
                if let Some(spatial) = self.dims.spatial {
                    found.push((MetricId::SpatialFrechetDistance, self.spatial(spatial)));
                }
                found
            }
            MetricFamily::Kernel => vec![(MetricId::KernelDistance, self.kernel())],
            MetricFamily::PrecisionRecall => vec![(MetricId::Precision, self.precision_recall())],
            MetricFamily::Score => {
                let mut found = vec![(MetricId::InceptionScore, self.score())];
                if self.config.classes > 0 && self.dims.logits.is_some() {
                    found.push((MetricId::ClassAccuracy, self.class_accuracy()));
                }
                found
            }
        })
    }

    fn frechet(&self) -> Result<Result<Planned, String>, EvalError> {
        if let ReferenceFacts::Statistics { pooled, .. } = self.reference
            && pooled != self.dims.pooled
        {
            let (name, dims) = (self.features.name(), self.dims.pooled);
            return Err(EvalError::Unfit {
                problem: format!(
                    "the reference's statistics are of {pooled} features, and {name} gives {dims}: choose the features that the \
                     statistics were made of (2048 are Inception's)"
                ),
            });
        }
        Ok(self.at_least(2).map(|()| Planned::Frechet))
    }

    fn spatial(&self, dims: u64) -> Result<Planned, String> {
        match self.reference {
            ReferenceFacts::Statistics {
                spatial: Some(spatial),
                ..
            } if spatial != dims => Err(format!(
                "the reference's statistics are of {spatial} spatial features, expected {dims}"
            )),
            ReferenceFacts::Statistics { spatial: None, .. } => {
                Err("the reference has no statistics of spatial features".to_owned())
            }
            _ => self.at_least(2).map(|()| Planned::SpatialFrechet),
        }
    }

    fn kernel(&self) -> Result<Planned, String> {
        let pictures = self.pictures()?;
        self.at_least(2)?;
        let size = self
            .config
            .kernel
            .size
            .min(self.config.samples)
            .min(pictures);
        let subsets = KernelSubsets {
            size,
            ..self.config.kernel
        };
        Ok(Planned::Kernel(subsets))
    }

    fn precision_recall(&self) -> Result<Planned, String> {
        self.pictures()?;
        self.at_least(self.config.neighbours + 1)?;
        Ok(Planned::PrecisionRecall)
    }

    fn score(&self) -> Result<Planned, String> {
        if self.dims.logits.is_none() {
            let name = self.features.name();
            return Err(format!("{name} gives no class probabilities"));
        }
        let (samples, splits) = (self.config.samples, self.config.splits);
        if samples < splits {
            return Err(format!("needs at least {splits} samples, got {samples}"));
        }
        Ok(Planned::Score)
    }

    fn class_accuracy(&self) -> Result<Planned, String> {
        let (known, asked) = (self.dims.logits.unwrap_or_default(), self.config.classes);
        if known == asked {
            return Ok(Planned::ClassAccuracy);
        }
        let name = self.features.name();
        Err(format!(
            "{name} knows {known} classes, the samples have {asked}"
        ))
    }

    fn pictures(&self) -> Result<u64, String> {
        match self.reference {
            ReferenceFacts::Pictures(count) => Ok(count),
            ReferenceFacts::Statistics { .. } => {
                Err("needs pictures as reference, not statistics alone".to_owned())
            }
        }
    }

    /// Whether samples and pictures of the reference are enough.
    fn at_least(&self, needed: u64) -> Result<(), String> {
        let samples = self.config.samples;
        if samples < needed {
            return Err(format!("needs at least {needed} samples, got {samples}"));
        }
        match self.reference {
            ReferenceFacts::Pictures(got) if got < needed => Err(format!(
                "needs at least {needed} pictures in the reference, got {got}"
            )),
            _ => Ok(()),
        }
    }
}

/// What a reader has to know of the number of samples behind the values.
pub(super) fn notes(
    features: &FeatureSet,
    dims: FeatureDims,
    reference: ReferenceFacts,
    planned: &[Planned],
    config: &EvalConfig,
) -> Vec<String> {
    let mut notes = Vec::new();
    let fewest = match reference {
        ReferenceFacts::Pictures(pictures) => config.samples.min(pictures),
        ReferenceFacts::Statistics { .. } => config.samples,
    };
    if planned.contains(&Planned::Frechet) && fewest <= dims.pooled {
        let (name, dims) = (MetricId::FrechetDistance.key(features), dims.pooled);
        notes.push(format!(
            "{name} is biased upwards: {fewest} samples are fewer than needed for a covariance of {dims} features of full rank"
        ));
    }
    for metric in planned {
        if let Planned::Kernel(subsets) = metric
            && subsets.size < config.kernel.size
        {
            let name = MetricId::KernelDistance.key(features);
            let (size, usual) = (subsets.size, config.kernel.size);
            notes.push(format!(
                "{name} is over subsets of {size} samples, as many as there are, not of {usual}"
            ));
        }
    }
    notes
}

/// Bytes of features and what is made of them: the features of one repetition and of the data in f32, and in f64 the larger of what a
/// Fréchet distance and what pairs of samples take.
pub(super) fn memory(
    dims: FeatureDims,
    reference: ReferenceFacts,
    planned: &[Planned],
    config: &EvalConfig,
) -> u64 {
    let wide = u128::from;
    let (samples, features) = (wide(config.samples), wide(dims.pooled));
    let pictures = match reference {
        ReferenceFacts::Pictures(pictures) => wide(pictures),
        ReferenceFacts::Statistics { .. } => 0,
    };
    let has_frechet = planned.contains(&Planned::Frechet);
    let is_pair =
        |metric: &Planned| matches!(metric, Planned::Kernel(_) | Planned::PrecisionRecall);
    let has_pairs = planned.iter().any(is_pair);
    let keeps_rows = has_pairs || samples < features;
    let kept = 4 * features * (pictures + if keeps_rows { samples } else { 0 });
    let rank = |count: u128| if count < features { count } else { features };
    let of_data = if pictures == 0 {
        features
    } else {
        rank(pictures)
    };
    // A statistic and its factor for each set, and the product of the factors with the work space of its singular values.
    let frechet = 2 * (rank(samples) + of_data) * features + 3 * rank(samples) * of_data;
    let pairs = (samples + pictures) * features;
    let largest = [(has_frechet, frechet), (has_pairs, pairs)];
    let largest = largest.iter().filter(|(is_asked, _)| *is_asked);
    let largest = largest.map(|(_, numbers)| 8 * numbers).max().unwrap_or(0);
    u64::try_from(kept + largest).unwrap_or(u64::MAX)
}
