//! What is drawn for pictures and seeds, computed block by block, and where it goes.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use meanflow_data::picture::numbered;
use meanflow_data::write_bytes;
use meanflow_torch::sampler::Drawn;
use meanflow_torch::{Tensor, TorchError};
use meanflow_train::Samples;

use super::source::Opened;
use crate::commands::destination::{Output, quoted};
use crate::commands::unfinished::Unfinished;
use crate::effort::Effort;
use crate::options::Class;
use crate::progress::Count;
use crate::usage::Usage;

/// More rows than this in one call are a slip of the pen.
const MOST_ROWS: usize = 10_000_000;

/// Every picture with every seed, in the order of the pictures.
pub(super) struct Plan {
    /// The place of the picture among those chosen, and the seed.
    pub(super) rows: Vec<(usize, u64)>,
    /// The class of every row.
    pub(super) labels: Option<Vec<i64>>,
    seeds: usize,
}

/// A part of a plan: its pictures, seeds and classes.
pub(super) struct Block<'a> {
    /// `[rows, …]`.
    pub(super) x: Tensor,
    pub(super) seeds: Vec<u64>,
    pub(super) labels: Option<&'a [i64]>,
    /// The place of the picture of every row.
    pub(super) places: Vec<usize>,
}

impl Plan {
    pub(super) fn new(
        opened: &Opened,
        seeds: &[u64],
        class: Option<&Class>,
    ) -> anyhow::Result<Self> {
        let count = opened.len().saturating_mul(seeds.len());
        if count > MOST_ROWS {
            let (pictures, seeds) = (opened.len(), seeds.len());
            let text = format!(
                "expected at most {MOST_ROWS} results, got {pictures} pictures with {seeds} seeds each"
            );
            return Err(Usage(text).into());
        }
        let pairs = |place| seeds.iter().map(move |&seed| (place, seed));
        let rows: Vec<(usize, u64)> = (0..opened.len()).flat_map(pairs).collect();
        Ok(Self {
            labels: opened.labels(class, &rows)?,
            rows,
            seeds: seeds.len(),
        })
    }

    /// What `draw` makes of every row, and what each took.
    pub(super) fn draw(
        &self,
        opened: &Opened,
        name: &str,
        draw: impl Fn(&Block<'_>) -> Result<Drawn, TorchError>,
    ) -> anyhow::Result<(Samples, Effort)> {
        let start = Instant::now();
        let progress = Count::named(name, self.rows.len());
        let shape = opened.model.config().shape.iter();
        let mut all = Samples {
            values: Vec::new(),
            shape: shape.map(|&side| side as usize).collect(),
        };
        let mut nfe = Vec::new();
        let block = Samples::rows_an_evaluation(&opened.model);
        for first in (0..self.rows.len()).step_by(block) {
            let range = first..(first + block).min(self.rows.len());
            let rows = &self.rows[range.clone()];
            let block = Block {
                x: opened.rows(rows.iter().map(|(place, _)| *place)),
                seeds: rows.iter().map(|(_, seed)| *seed).collect(),
                labels: self.labels.as_deref().map(|labels| &labels[range]),
                places: rows.iter().map(|(place, _)| *place).collect(),
            };
            let drawn = draw(&block)?;
            let samples = Samples::from_tensor(&opened.model, &drawn.samples)?;
            progress.add(samples.len());
            all.values.extend(samples.values);
            nfe.extend(drawn.nfe);
        }
        progress.finish();
        Ok((all, Effort::new(&nfe, start.elapsed().as_secs_f64())))
    }

    /// Writes what was drawn. A picture shows every given picture, as it is and in the forms of `shown`, before what was made of it.
    pub(super) fn write(
        &self,
        opened: &Opened,
        samples: &Samples,
        (output, out): (Output, &Path),
        shown: &[&Tensor],
    ) -> anyhow::Result<()> {
        let labels = self.labels.as_deref().unwrap_or_default();
        let metadata = &opened.metadata;
        match output {
            Output::Picture => {
                let sheet = self.sheet(opened, samples, shown);
                let columns = NonZeroUsize::new(1 + shown.len() + self.seeds);
                // One picture and its results fill a square; several have a row each.
                let columns = columns.filter(|_| opened.len() > 1);
                output.write(out, &sheet, (&[], &[]), columns, metadata)
            }
            Output::Archive => output.write(out, samples, (labels, &[]), None, metadata),
            Output::Folder => {
                let unfinished = Unfinished::begin(out)?;
                let numbers: Vec<u64> = (0..self.rows.len() as u64).collect();
                output.write(out, samples, (labels, &numbers), None, metadata)?;
                self.write_index(opened, out)?;
                unfinished.finish()
            }
        }
    }

    /// Given pictures and results, picture by picture.
    fn sheet(&self, opened: &Opened, samples: &Samples, shown: &[&Tensor]) -> Samples {
        let size: usize = samples.shape.iter().product();
        let given: Vec<Vec<f32>> = std::iter::once(&&opened.x)
            .chain(shown)
            .map(|x| Vec::<f32>::try_from(x.reshape([-1])).unwrap_or_default())
            .collect();
        let mut values = Vec::new();
        for place in 0..opened.len() {
            for given in &given {
                values.extend_from_slice(&given[place * size..(place + 1) * size]);
            }
            let results = self.seeds * size;
            values.extend_from_slice(&samples.values[place * results..(place + 1) * results]);
        }
        Samples {
            values,
            shape: samples.shape.clone(),
        }
    }

    /// Writes `samples.csv`: picture, seed, file, number and name of the class of each result.
    fn write_index(&self, opened: &Opened, folder: &Path) -> anyhow::Result<()> {
        let mut text = "picture,seed,file,class,class_name\n".to_owned();
        for (number, (place, seed)) in self.rows.iter().enumerate() {
            let (picture, file) = (opened.indices[*place], numbered(number as u64));
            let label = self.labels.as_ref().map(|labels| labels[number]);
            let name = label.and_then(|label| opened.names.as_ref()?.get(label as usize));
            let name = name.map_or_else(String::new, |name| quoted(name));
            let label = label.map_or_else(String::new, |label| label.to_string());
            text += &format!("{picture},{seed},{},{label},{name}\n", file.display());
        }
        Ok(write_bytes(&folder.join("samples.csv"), text.as_bytes())?)
    }
}
