//! What is kept of the samples of one repetition as they are drawn.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::Evaluation;
use crate::part::{Named, PartFile};
use crate::{EvalError, Metric, MetricInput, pictures};

/// Samples that are kept for pictures and neighbours.
const PREVIEW: i64 = 100;

/// Samples as a sampler gives them.
#[derive(Debug)]
pub struct SampleBatch {
    /// The samples as bytes, `[B, C, H, W]`.
    pub pictures: Tensor,
    /// The classes that were asked for, where some were.
    pub labels: Option<Vec<i64>>,
    /// Network evaluations of all of them together.
    pub nfe: u64,
}

/// The state of one repetition's metrics, or of the part of it that a shard has drawn.
#[derive(Debug)]
pub struct RepetitionState {
    samples: u64,
    nfe: u64,
    preview: Option<Tensor>,
    preview_labels: Vec<i64>,
    pub(super) metrics: Vec<Box<dyn Metric>>,
}

impl Evaluation<'_> {
    /// Takes in the samples of this range, which `draw` gives in chunks in order; `progress` is called with the number of further samples done.
    ///
    /// # Errors
    /// What `draw` returns; [`EvalError`] for samples that do not fit the features or are not finite.
    pub fn collect<E: From<EvalError>>(
        &self,
        shape: &[usize],
        samples: Range<u64>,
        mut draw: impl FnMut(Range<u64>) -> Result<SampleBatch, E>,
        mut progress: impl FnMut(u64),
    ) -> Result<RepetitionState, E> {
        let chunk = pictures::chunk(shape) as u64;
        let mut state = self.empty()?;
        let mut start = samples.start;
        while start < samples.end {
            let end = samples.end.min(start + chunk);
            let batch = draw(start..end)?;
            let features = self.extractor.extract(&batch.pictures)?;
            let input = MetricInput {
                start,
                features: &features,
                labels: batch.labels.as_deref(),
            };
            for metric in &mut state.metrics {
                metric.update(&input)?;
            }
            state.add(batch.pictures.size()[0] as u64, batch.nfe);
            state.preview(&batch.pictures, batch.labels.as_deref());
            progress(end - start);
            start = end;
        }
        Ok(state)
    }

    /// The state without any sample.
    ///
    /// # Errors
    /// [`EvalError::TooFew`] for an Inception Score of too few samples.
    pub fn empty(&self) -> Result<RepetitionState, EvalError> {
        Ok(RepetitionState {
            samples: 0,
            nfe: 0,
            preview: None,
            preview_labels: Vec::new(),
            metrics: self.fresh()?,
        })
    }
}

impl RepetitionState {
    /// Samples that were taken in.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Network evaluations of all of them together.
    pub fn nfe(&self) -> u64 {
        self.nfe
    }

    /// The first samples, at most 100, as bytes `[B, C, H, W]`.
    pub fn first_pictures(&self) -> Tensor {
        let none = || Tensor::zeros([0], (Kind::Uint8, Device::Cpu));
        let preview = self.preview.as_ref();
        preview.map_or_else(none, Tensor::shallow_clone)
    }

    /// The classes of the first samples; empty where none were asked for.
    pub fn first_labels(&self) -> &[i64] {
        &self.preview_labels
    }

    fn add(&mut self, samples: u64, nfe: u64) {
        self.samples += samples;
        self.nfe += nfe;
    }

    /// Keeps those of the next samples that are among the first.
    fn preview(&mut self, pictures: &Tensor, labels: Option<&[i64]>) {
        let kept = self.preview.as_ref().map_or(0, |kept| kept.size()[0]);
        let count = (PREVIEW - kept).min(pictures.size()[0]);
        if count == 0 {
            return;
        }
        let more = pictures.narrow(0, 0, count);
        self.preview = Some(match self.preview.take() {
            Some(kept) => Tensor::cat(&[kept, more], 0),
            None => more.copy(),
        });
        let labels = labels.unwrap_or_default().iter().take(count as usize);
        self.preview_labels.extend(labels);
    }

    /// As tensors of a shard's file, under names that begin with `name`.
    pub fn state(&self, name: &str) -> Named {
        let at = |part: &str| format!("{name}.{part}");
        let work = Tensor::from_slice(&[self.samples as i64, self.nfe as i64]);
        let mut tensors = vec![(at("work"), work)];
        if let Some(preview) = &self.preview {
            tensors.push((at("first"), preview.copy()));
        }
        if !self.preview_labels.is_empty() {
            let labels = Tensor::from_slice(&self.preview_labels);
            tensors.push((at("first_labels"), labels));
        }
        for (index, metric) in self.metrics.iter().enumerate() {
            tensors.extend(metric.state(&at(&index.to_string())));
        }
        tensors
    }

    /// Adds what the shard that follows has left under this name.
    ///
    /// # Errors
    /// [`EvalError::File`] if there is something else; [`EvalError::Shape`] for samples of another shape.
    pub fn merge(&mut self, file: &mut PartFile, name: &str) -> Result<(), EvalError> {
        let at = |part: &str| format!("{name}.{part}");
        let work = file.take_counts(&at("work"), 1)?;
        if work.numel() != 2 {
            let problem = format!("{}: expected two numbers, got {}", at("work"), work.numel());
            return Err(file.problem(problem));
        }
        let [samples, nfe] = [0, 1].map(|index| work.int64_value(&[index]) as u64);
        if samples == 0 {
            return Ok(());
        }
        let first = file.take(&at("first"), 4, Kind::Uint8)?;
        if let Some(kept) = &self.preview
            && kept.size()[1..] != first.size()[1..]
        {
            let (expected, got) = (kept.size(), first.size());
            let problem = format!("{}: expected {expected:?}, got {got:?}", at("first"));
            return Err(file.problem(problem));
        }
        let labels = match file.has(&at("first_labels")) {
            true => Vec::try_from(file.take_counts(&at("first_labels"), 1)?).ok(),
            false => None,
        };
        self.add(samples, nfe);
        self.preview(&first, labels.as_deref());
        for (index, metric) in self.metrics.iter_mut().enumerate() {
            metric.merge(file, &at(&index.to_string()))?;
        }
        Ok(())
    }
}
