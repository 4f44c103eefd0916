//! Which metrics there are, and what they are called.

use crate::FeatureSet;

/// A value that an evaluation gives.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MetricId {
    /// Fréchet distance of the pooled features.
    FrechetDistance,
    /// Fréchet distance of the spatial features.
    SpatialFrechetDistance,
    /// Kernel distance of the pooled features.
    KernelDistance,
    /// The share of the samples that lie in the manifold of the data.
    Precision,
    /// The share of the data that lies in the manifold of the samples.
    Recall,
    /// `exp` of the mean divergence of a sample's class probabilities from those of all.
    InceptionScore,
    /// The share of the samples in which a classifier finds the class that was asked for.
    ClassAccuracy,
}

/// Metrics that are asked for together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricFamily {
    /// Fréchet distances, of spatial features too where there are some.
    Frechet,
    /// Kernel distance.
    Kernel,
    /// Precision and recall.
    PrecisionRecall,
    /// Inception Score, and class accuracy where classes were asked for.
    Score,
}

impl MetricId {
    /// Every metric, in the order of reports.
    pub const ALL: [Self; 7] = [
        Self::FrechetDistance,
        Self::SpatialFrechetDistance,
        Self::KernelDistance,
        Self::Precision,
        Self::Recall,
        Self::InceptionScore,
        Self::ClassAccuracy,
    ];

    /// The name in reports. `fid`, `sfid`, `kid` and `inception_score` are those over Inception's features; over others the
    /// features stand in the name, such as `fd_pixels`, so that no number passes for what it is not.
    ///
    /// ```
    /// use meanflow_eval::{FeatureSet, MetricId};
    ///
    /// assert_eq!(MetricId::FrechetDistance.key(&FeatureSet::Inception), "fid");
    /// assert_eq!(MetricId::FrechetDistance.key(&FeatureSet::Digits), "fd_digits");
    /// ```
    pub fn key(self, features: &FeatureSet) -> String {
        let (published, prefix) = match self {
            Self::FrechetDistance => ("fid", "fd"),
            Self::SpatialFrechetDistance => ("sfid", "sfd"),
            Self::KernelDistance => ("kid", "kd"),
            Self::InceptionScore => ("inception_score", "is"),
            Self::Precision => return "precision".to_owned(),
            Self::Recall => return "recall".to_owned(),
            Self::ClassAccuracy => return "class_accuracy".to_owned(),
        };
        match features {
            FeatureSet::Inception => published.to_owned(),
            other => format!("{prefix}_{}", other.name()),
        }
    }

    /// Whether a family of metrics is about this one; the others are there where features and samples allow it.
    pub fn is_main(self) -> bool {
        !matches!(self, Self::SpatialFrechetDistance | Self::ClassAccuracy)
    }

    /// The name in a heading, without the features.
    pub fn title(self) -> &'static str {
        match self {
            Self::FrechetDistance => "Fréchet distance",
            Self::SpatialFrechetDistance => "Fréchet distance of spatial features",
            Self::KernelDistance => "Kernel distance",
            Self::Precision => "Precision",
            Self::Recall => "Recall",
            Self::InceptionScore => "Inception Score",
            Self::ClassAccuracy => "Class accuracy",
        }
    }

    /// What the value says, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::FrechetDistance | Self::SpatialFrechetDistance | Self::KernelDistance => {
                "lower is better"
            }
            Self::Precision => "share of samples among the data",
            Self::Recall => "share of the data among samples",
            Self::InceptionScore => "higher is better",
            Self::ClassAccuracy => "share of samples with the class asked for",
        }
    }
}
