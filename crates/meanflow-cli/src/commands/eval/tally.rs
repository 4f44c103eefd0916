//! What is kept of samples as they are drawn: sums, and rows only where a figure needs them all at once.

use std::collections::BTreeMap;

use anyhow::Context;
use meanflow_eval::{
    Features, KernelSubsets, Moments, Named, PartFile, ScoreSums, frechet_distance,
    kernel_distance, precision_recall,
};
use meanflow_torch::{Device, Kind, Tensor};

use super::reference::Measured;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
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

impl Metric {
    /// Whether it needs all features at once, of the reference too.
    pub(super) fn needs_rows(self) -> bool {
        matches!(self, Self::Kid | Self::Pr)
    }
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
/// Samples that are kept for pictures and neighbours.
const FIRST: i64 = 100;

/// Samples as they come.
#[derive(Debug)]
pub(super) struct Drawn {
    /// Bytes, `[B, C, H, W]`.
    pub(super) pictures: Tensor,
    /// The classes that were asked for, where some were.
    pub(super) asked: Option<Vec<i64>>,
    /// Network evaluations of all of them together.
    pub(super) evaluations: u64,
}

/// Of one repetition, or of the part of it that a shard draws.
#[derive(Debug, Default)]
pub(super) struct Tally {
    drawn: u64,
    evaluations: u64,
    first: Option<Tensor>,
    moments: Option<Moments>,
    spatial: Option<Moments>,
    score: Option<ScoreSums>,
    /// For each class, in how many samples it is found, of how many that were asked to have it: `[K, 2]`.
    classes: Option<Tensor>,
    pooled: Vec<Tensor>,
}

/// What of the samples is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) metrics: &'a [Metric],
    /// Samples of a repetition.
    pub(super) samples: u64,
    pub(super) repeats: u64,
    /// Classes that can be asked for.
    pub(super) classes: u64,
}

impl Wanted<'_> {
    fn has(&self, metric: Metric) -> bool {
        self.metrics.contains(&metric)
    }
}

impl Tally {
    /// Takes in the samples from number `start` on, with their features.
    pub(super) fn push(
        &mut self,
        wanted: &Wanted<'_>,
        start: u64,
        drawn: &Drawn,
        features: &Features,
    ) -> anyhow::Result<()> {
        self.drawn += drawn.pictures.size()[0] as u64;
        self.evaluations += drawn.evaluations;
        append_first(&mut self.first, &drawn.pictures);
        if wanted.has(Metric::Fid) {
            add(&mut self.moments, &features.pooled)?;
            if let Some(spatial) = &features.spatial {
                add(&mut self.spatial, spatial)?;
            }
        }
        if let (true, Some(logits)) = (wanted.has(Metric::Is), &features.logits) {
            let classes = logits.size()[1];
            let sums = match &mut self.score {
                Some(sums) => sums,
                none => none.insert(ScoreSums::new(wanted.samples, PARTS, classes)?),
            };
            sums.push(start, logits)?;
            if let (Some(asked), true) = (&drawn.asked, classes as u64 == wanted.classes) {
                self.count(asked, logits)?;
            }
        }
        if wanted.metrics.iter().any(|metric| metric.needs_rows()) {
            self.pooled.push(features.pooled.to_kind(Kind::Float));
        }
        Ok(())
    }

    fn count(&mut self, asked: &[i64], logits: &Tensor) -> anyhow::Result<()> {
        let asked = Tensor::from_slice(asked);
        let right = logits
            .argmax(1, false)
            .to_device(Device::Cpu)
            .eq_tensor(&asked);
        let pair = Tensor::stack(&[right.to_kind(Kind::Int64), asked.ones_like()], 1);
        let size = [logits.size()[1], 2];
        let counts = self
            .classes
            .get_or_insert_with(|| Tensor::zeros(size, (Kind::Int64, Device::Cpu)));
        let _ = counts
            .f_index_add_(0, &asked, &pair)
            .context("classes that were asked for")?;
        Ok(())
    }

    /// Takes in what the next shard has seen.
    pub(super) fn append(&mut self, next: Self) -> anyhow::Result<()> {
        same_width("first", self.first.as_ref(), next.first.as_ref())?;
        same_width("classes", self.classes.as_ref(), next.classes.as_ref())?;
        same_width("pooled", self.pooled.first(), next.pooled.first())?;
        self.drawn += next.drawn;
        self.evaluations += next.evaluations;
        if let Some(first) = &next.first {
            append_first(&mut self.first, first);
        }
        merge(&mut self.moments, next.moments, |a, b| Ok(a.merge(b)?))?;
        merge(&mut self.spatial, next.spatial, |a, b| Ok(a.merge(b)?))?;
        merge(&mut self.score, next.score, |a, b| Ok(a.merge(b)?))?;
        merge(&mut self.classes, next.classes, |a, b| {
            *a += b;
            Ok(())
        })?;
        self.pooled.extend(next.pooled);
        Ok(())
    }

    /// Samples, and network evaluations of all of them together.
    pub(super) fn work(&self) -> [u64; 2] {
        [self.drawn, self.evaluations]
    }

    /// The first samples, at most 100; bytes, `[B, C, H, W]`.
    pub(super) fn first(&self) -> Tensor {
        let none = || Tensor::zeros([0], (Kind::Uint8, Device::Cpu));
        self.first.as_ref().map_or_else(none, Tensor::shallow_clone)
    }

    /// The figures that the reference and the features allow, by name.
    pub(super) fn figures(
        &self,
        wanted: &Wanted<'_>,
        reference: &Measured,
    ) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let mut figures = match &reference.data {
            Some(data) => self.figures_of_rows(wanted, &data.features)?,
            None => BTreeMap::new(),
        };
        if let Some(moments) = &self.moments {
            let found = moments.statistics()?;
            figures.insert("frechet", frechet_distance(&found, &reference.statistics)?);
        }
        if let (Some(moments), Some(spatial)) = (&self.spatial, &reference.spatial) {
            let found = moments.statistics()?;
            figures.insert("spatial_frechet", frechet_distance(&found, spatial)?);
        }
        if let Some(sums) = &self.score {
            figures.insert("inception_score", sums.score()?.mean);
        }
        if let Some(counts) = self.classes() {
            let [found, asked] = [0, 1].map(|of| counts.iter().map(|pair| pair[of]).sum::<u64>());
            figures.insert("class_accuracy", found as f64 / asked as f64);
        }
        Ok(figures)
    }

    /// Those figures that need all features at once, by name.
    fn figures_of_rows(
        &self,
        wanted: &Wanted<'_>,
        real: &Tensor,
    ) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        let mut figures = BTreeMap::new();
        if self.pooled.is_empty() {
            return Ok(figures);
        }
        let pooled = Tensor::cat(&self.pooled, 0).to_device(real.device());
        if wanted.has(Metric::Kid) {
            let rows = pooled.size()[0].min(real.size()[0]) as u64;
            let size = KID.size.min(rows);
            let subsets = KernelSubsets { size, ..KID };
            let distance = kernel_distance(&pooled, real, &subsets)?;
            figures.insert("kernel", distance.mean);
        }
        if wanted.has(Metric::Pr) {
            let found = precision_recall(&pooled, real, NEIGHBOURS)?;
            figures.insert("precision", found.precision);
            figures.insert("recall", found.recall);
        }
        Ok(figures)
    }

    /// For each class, in how many samples it is found, of how many that were asked to have it; none where nothing was asked, or the
    /// classifier knows another number of classes.
    pub(super) fn classes(&self) -> Option<Vec<[u64; 2]>> {
        let counts: Vec<Vec<i64>> = self.classes.as_ref()?.try_into().ok()?;
        let pair = |row: Vec<i64>| match row[..] {
            [found, asked] => Some([found as u64, asked as u64]),
            _ => None,
        };
        counts.into_iter().map(pair).collect()
    }

    /// As tensors of a shard's file, under names that begin with `name`.
    pub(super) fn named(&self, name: &str) -> Named {
        let at = |part: &str| format!("{name}.{part}");
        let work = Tensor::from_slice(&self.work().map(|count| count as i64));
        let mut tensors = vec![(at("work"), work)];
        for (part, tensor) in [("first", &self.first), ("classes", &self.classes)] {
            tensors.extend(tensor.as_ref().map(|tensor| (at(part), tensor.copy())));
        }
        for (part, moments) in [("moments", &self.moments), ("spatial", &self.spatial)] {
            tensors.extend(moments.iter().flat_map(|moments| moments.named(&at(part))));
        }
        tensors.extend(self.score.iter().flat_map(|sums| sums.named(&at("score"))));
        if !self.pooled.is_empty() {
            tensors.push((at("pooled"), Tensor::cat(&self.pooled, 0)));
        }
        tensors
    }

    /// Takes out of a shard's file what [`Tally::named`] put into it.
    pub(super) fn take(file: &mut PartFile, name: &str) -> anyhow::Result<Self> {
        let at = |part: &str| format!("{name}.{part}");
        let work: Vec<i64> = file.take_counts(&at("work"), 1)?.try_into()?;
        let &[drawn, evaluations] = &work[..] else {
            let problem = format!("{}: expected two numbers, got {}", at("work"), work.len());
            return Err(file.problem(problem).into());
        };
        let moments = |file: &mut PartFile, part| {
            let name = at(part);
            let has = file.has(&format!("{name}.mean"));
            has.then(|| Moments::take(file, &name)).transpose()
        };
        let rows = |file: &mut PartFile, part, axes, kind| {
            let name = at(part);
            let has = file.has(&name);
            has.then(|| file.take(&name, axes, kind)).transpose()
        };
        let score = at("score");
        let has_score = file.has(&format!("{score}.seen"));
        let has_classes = file.has(&at("classes"));
        Ok(Self {
            drawn: drawn as u64,
            evaluations: evaluations as u64,
            first: rows(file, "first", 4, Kind::Uint8)?,
            moments: moments(file, "moments")?,
            spatial: moments(file, "spatial")?,
            score: has_score
                .then(|| ScoreSums::take(file, &score))
                .transpose()?,
            classes: has_classes
                .then(|| file.take_counts(&at("classes"), 2))
                .transpose()?,
            pooled: rows(file, "pooled", 2, Kind::Float)?.into_iter().collect(),
        })
    }
}

/// The first samples of those before and these.
fn append_first(first: &mut Option<Tensor>, next: &Tensor) {
    let missing = FIRST - first.as_ref().map_or(0, |first| first.size()[0]);
    if missing == 0 {
        return;
    }
    let more = next.narrow(0, 0, missing.min(next.size()[0]));
    *first = Some(match first.take() {
        Some(first) => Tensor::cat(&[first, more], 0),
        None => more.copy(),
    });
}

fn add(moments: &mut Option<Moments>, features: &Tensor) -> anyhow::Result<()> {
    let moments = moments.get_or_insert_with(|| Moments::new(features.size()[1]));
    Ok(moments.push(features)?)
}

/// Merges what both have; a shard without samples has nothing.
fn merge<T>(
    ours: &mut Option<T>,
    theirs: Option<T>,
    merge: impl FnOnce(&mut T, &T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match (ours.as_mut(), theirs) {
        (Some(ours), Some(theirs)) => merge(ours, &theirs)?,
        (None, theirs) => *ours = theirs,
        (Some(_), None) => {}
    }
    Ok(())
}

/// Refuses rows of other shards that are of another kind.
fn same_width(what: &str, ours: Option<&Tensor>, theirs: Option<&Tensor>) -> anyhow::Result<()> {
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        let (expected, got) = (&ours.size()[1..], &theirs.size()[1..]);
        anyhow::ensure!(
            expected == got,
            "{what}: expected rows {expected:?}, got {got:?}"
        );
    }
    Ok(())
}
