//! Classes that no sample has, and labels without them.

use std::path::PathBuf;

use crate::latents::Facts;
use crate::{DataError, Dataset, Examples};

/// The classes that no sample has: a network would be asked for them and never see one.
pub fn empty_classes(data: &dyn Dataset) -> Vec<usize> {
    let mut seen = vec![false; data.classes()];
    for &label in data.labels() {
        if let Some(seen) = usize::try_from(label)
            .ok()
            .and_then(|label| seen.get_mut(label))
        {
            *seen = true;
        }
    }
    (0..seen.len()).filter(|&class| !seen[class]).collect()
}

/// A source whose labels are numbered anew, in their order, without the classes that no sample has.
#[derive(Debug)]
pub struct Renumbered {
    data: Box<dyn Dataset>,
    labels: Vec<i64>,
    /// Of every class, its name, or the number it had.
    names: Vec<String>,
    /// Of every old class, its new number.
    new: Vec<i64>,
}

impl Renumbered {
    /// Numbers the classes of `data` anew. A class without a name is named by the number it had.
    pub fn new(data: Box<dyn Dataset>) -> Self {
        let empty = empty_classes(&*data);
        let mut new = Vec::with_capacity(data.classes());
        let mut names = Vec::new();
        for class in 0..data.classes() {
            new.push(names.len() as i64);
            if empty.binary_search(&class).is_err() {
                let name = data.class_names().map(|names| names[class].clone());
                names.push(name.unwrap_or_else(|| class.to_string()));
            }
        }
        let labels = data.labels().iter().map(|&label| new[label as usize]);
        Self {
            labels: labels.collect(),
            names,
            new,
            data,
        }
    }
}

impl Renumbered {
    fn renumber(&self, mut examples: Examples) -> Examples {
        for label in &mut examples.labels {
            *label = self.new[*label as usize];
        }
        examples
    }
}

impl Dataset for Renumbered {
    fn shape(&self) -> &[usize] {
        self.data.shape()
    }

    fn classes(&self) -> usize {
        self.names.len()
    }

    fn labels(&self) -> &[i64] {
        &self.labels
    }

    fn len(&self) -> usize {
        self.data.len()
    }

    fn class_names(&self) -> Option<&[String]> {
        Some(&self.names)
    }

    fn fingerprint(&self) -> Result<String, DataError> {
        self.data.fingerprint()
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = self.data.remarks();
        let shown: Vec<String> = (0..self.names.len().min(5))
            .map(|class| format!("{class} is {}", self.names[class]))
            .collect();
        let more = if shown.len() < self.names.len() {
            ", …"
        } else {
            ""
        };
        remarks.push(format!(
            "the classes are numbered anew, without empty ones: {}{more}",
            shown.join(", ")
        ));
        remarks
    }

    fn latents(&self) -> Option<&Facts> {
        self.data.latents()
    }

    fn batch(&self, indices: &[usize], seed: u64, step: u64) -> Result<Examples, DataError> {
        Ok(self.renumber(self.data.batch(indices, seed, step)?))
    }

    fn batch_rows(
        &self,
        indices: &[usize],
        rows: &[usize],
        seed: u64,
        step: u64,
    ) -> Result<Examples, DataError> {
        let examples = self.data.batch_rows(indices, rows, seed, step)?;
        Ok(self.renumber(examples))
    }

    fn skipped(&self) -> Vec<(PathBuf, String)> {
        self.data.skipped()
    }
}
