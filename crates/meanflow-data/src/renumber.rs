//! Classes that no sample has, and labels without them.

use std::path::PathBuf;

use crate::{DataError, Dataset, DatasetInfo, Examples};

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
    /// A class without a name is named by the number it had.
    info: DatasetInfo,
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
        let info = DatasetInfo {
            classes: names.len(),
            labels: labels.collect(),
            class_names: Some(names),
            ..data.info().clone()
        };
        Self { data, info, new }
    }

    fn renumber(&self, mut examples: Examples) -> Examples {
        for label in &mut examples.labels {
            *label = self.new[*label as usize];
        }
        examples
    }
}

impl Dataset for Renumbered {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn fingerprint(&self) -> Result<String, DataError> {
        self.data.fingerprint()
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = self.data.remarks();
        let names = self.class_names().unwrap_or_default().iter().enumerate();
        let shown = names
            .take(5)
            .map(|(class, name)| format!("{class} is {name}"));
        let shown: Vec<String> = shown.collect();
        let more = if self.classes() > 5 { ", …" } else { "" };
        remarks.push(format!(
            "the classes are numbered anew, without empty ones: {}{more}",
            shown.join(", ")
        ));
        remarks
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
