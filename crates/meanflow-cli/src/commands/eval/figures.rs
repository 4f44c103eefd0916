//! Figures of one set of samples.

use std::collections::BTreeMap;

use meanflow_eval::{
    Features, KernelSubsets, Moments, frechet_distance, inception_score, kernel_distance,
    precision_recall,
};
use meanflow_torch::Tensor;

use super::reference::Reference;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(super) enum Metric {
    /// Fréchet distance, of spatial features too where there are some.
    Fid,
    /// Kernel distance.
    Kid,
    /// Precision and recall.
    Pr,
    /// Inception Score, and the share of asked classes that is found.
    Is,
}

/// Subsets of the kernel distance, and samples in each where the sets are large enough.
pub(super) const KID: KernelSubsets = KernelSubsets {
    subsets: 100,
    size: 1000,
    seed: 0,
};
/// Neighbours that span the manifolds of precision and recall.
pub(super) const NEIGHBOURS: u64 = 3;
/// Parts of the Inception Score.
const PARTS: u64 = 10;

/// Features of samples, in what memory the figures need.
pub(super) struct Gathered {
    metrics: Vec<Metric>,
    moments: Option<Moments>,
    spatial: Option<Moments>,
    pooled: Vec<Tensor>,
    logits: Vec<Tensor>,
}

impl Gathered {
    pub(super) fn new(metrics: &[Metric]) -> Self {
        Self {
            metrics: metrics.to_vec(),
            moments: None,
            spatial: None,
            pooled: Vec::new(),
            logits: Vec::new(),
        }
    }

    fn wants(&self, metric: Metric) -> bool {
        self.metrics.contains(&metric)
    }

    /// Takes in the features of more samples.
    pub(super) fn push(&mut self, features: Features) -> anyhow::Result<()> {
        if self.wants(Metric::Fid) {
            add(&mut self.moments, &features.pooled)?;
            if let Some(spatial) = &features.spatial {
                add(&mut self.spatial, spatial)?;
            }
        }
        if self.wants(Metric::Kid) || self.wants(Metric::Pr) {
            self.pooled.push(features.pooled);
        }
        if self.wants(Metric::Is) {
            self.logits.extend(features.logits);
        }
        Ok(())
    }

    /// The figures that the reference and the features allow, by name.
    pub(super) fn figures(
        &self,
        reference: &Reference,
    ) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let mut figures = BTreeMap::new();
        if let Some(moments) = &self.moments {
            let found = moments.statistics()?;
            figures.insert("frechet", frechet_distance(&found, &reference.statistics)?);
        }
        if let (Some(moments), Some(spatial)) = (&self.spatial, &reference.spatial) {
            figures.insert(
                "spatial_frechet",
                frechet_distance(&moments.statistics()?, spatial)?,
            );
        }
        if let (false, Some(data)) = (self.pooled.is_empty(), &reference.data) {
            let pooled = Tensor::cat(&self.pooled, 0);
            let sizes = [pooled.size()[0], data.features.size()[0], KID.size as i64];
            if self.wants(Metric::Kid) {
                let size = sizes.into_iter().min().unwrap_or(0) as u64;
                let subsets = KernelSubsets { size, ..KID };
                let distance = kernel_distance(&pooled, &data.features, &subsets)?;
                figures.insert("kernel", distance.mean);
            }
            if self.wants(Metric::Pr) {
                let found = precision_recall(&pooled, &data.features, NEIGHBOURS)?;
                figures.insert("precision", found.precision);
                figures.insert("recall", found.recall);
            }
        }
        if let Some(logits) = self.logits() {
            figures.insert("inception_score", inception_score(&logits, PARTS)?.mean);
        }
        Ok(figures)
    }

    /// For each class, in how many samples it is found of how many that were asked to have it; none where nothing was asked, or the
    /// classifier knows another number of classes.
    pub(super) fn found(&self, asked: Option<&[i64]>, classes: i64) -> Option<Vec<[u64; 2]>> {
        let (logits, asked) = (self.logits()?, asked?);
        if logits.size()[1] != classes {
            return None;
        }
        let found: Vec<i64> = logits.argmax(1, false).try_into().ok()?;
        let mut counts = vec![[0, 0]; classes as usize];
        for (&asked, found) in asked.iter().zip(found) {
            let [right, all] = counts.get_mut(asked as usize)?;
            *all += 1;
            *right += u64::from(asked == found);
        }
        Some(counts)
    }

    fn logits(&self) -> Option<Tensor> {
        (!self.logits.is_empty()).then(|| Tensor::cat(&self.logits, 0))
    }
}

fn add(moments: &mut Option<Moments>, features: &Tensor) -> anyhow::Result<()> {
    let moments = moments.get_or_insert_with(|| Moments::new(features.size()[1]));
    Ok(moments.push(features)?)
}
