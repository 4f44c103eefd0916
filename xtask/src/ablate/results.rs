//! Results, in memory and on disk: a finished run is not done again unless its recipe changed.
//!
//! Changes of the code are not seen: remove `target/ablations` to measure them.

use crate::files;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What a run was.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Recipe {
    /// The recipe that is varied, as text.
    pub base: String,
    /// Changes to it, KEY=VALUE.
    pub changes: Vec<String>,
    /// `[dr, dt]`, where the network was not differentiated along (v, 0, 1).
    pub wrong_direction: Option<[f64; 2]>,
}

/// What `score_digits.py` says.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Score {
    /// Share of samples with the class asked for, in [0, 1].
    pub accuracy: f64,
    /// Fréchet distance of the pixels.
    pub frechet: f64,
}

/// What the training says.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Training {
    /// Steps done: fewer than asked for where the run diverged.
    pub steps: u64,
    /// Wall time of the training.
    pub seconds: f64,
}

/// A finished run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Outcome {
    /// What was run.
    pub recipe: Recipe,
    /// How the training went.
    pub training: Training,
    /// Scores of samples by one and by two network evaluations.
    pub scores: [Score; 2],
}

impl Outcome {
    /// The result in a file, where it is there and of this recipe.
    pub(super) fn read(path: &Path, recipe: &Recipe) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let outcome: Self = serde_json::from_str(&text).ok()?;
        (outcome.recipe == *recipe).then_some(outcome)
    }

    /// Keeps the result in a file.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        files::write(path, text)
    }
}

/// Finished runs of every variant, one a seed.
#[derive(Debug, Default)]
pub(super) struct Results(BTreeMap<String, Vec<Outcome>>);

/// Mean and extremes over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// Mean.
    pub mean: f64,
    /// Smallest.
    pub low: f64,
    /// Largest.
    pub high: f64,
}

impl Results {
    /// One more seed of a variant.
    pub(super) fn add(&mut self, run: &str, outcome: Outcome) {
        self.0.entry(run.to_owned()).or_default().push(outcome);
    }

    /// The runs of a variant.
    pub(super) fn of(&self, run: &str) -> &[Outcome] {
        self.0.get(run).map_or(&[], Vec::as_slice)
    }

    /// Every run there is.
    pub(super) fn all(&self) -> impl Iterator<Item = &Outcome> {
        self.0.values().flatten()
    }

    /// A number of a variant over its seeds; none without a run.
    pub(super) fn spread(&self, run: &str, number: impl Fn(&Outcome) -> f64) -> Option<Spread> {
        let numbers: Vec<f64> = self.of(run).iter().map(number).collect();
        (!numbers.is_empty()).then(|| Spread {
            mean: numbers.iter().sum::<f64>() / numbers.len() as f64,
            low: numbers.iter().copied().fold(f64::INFINITY, f64::min),
            high: numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// A run with these scores.
#[cfg(test)]
pub(super) fn outcome(frechet: [f64; 2], accuracy: [f64; 2]) -> Outcome {
    let score = |index: usize| Score {
        accuracy: accuracy[index],
        frechet: frechet[index],
    };
    Outcome {
        recipe: Recipe {
            base: "seed = 0\n".to_owned(),
            changes: Vec::new(),
            wrong_direction: None,
        },
        training: Training {
            steps: 100,
            seconds: 1.5,
        },
        scores: [score(0), score(1)],
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::BASE;
    use super::*;

    #[test]
    fn a_result_is_of_its_recipe_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let kept = outcome([30.0, 20.0], [0.9, 0.95]);
        assert_eq!(
            Outcome::read(file.path(), &kept.recipe),
            None,
            "an empty file is no result"
        );
        kept.write(file.path()).unwrap();
        assert_eq!(Outcome::read(file.path(), &kept.recipe), Some(kept.clone()));
        let other = Recipe {
            changes: vec!["seed=1".to_owned()],
            ..kept.recipe.clone()
        };
        assert_eq!(Outcome::read(file.path(), &other), None);
        let other = Recipe {
            wrong_direction: Some([0.0, 0.0]),
            ..kept.recipe
        };
        assert_eq!(Outcome::read(file.path(), &other), None);
    }

    #[test]
    fn seeds_make_a_spread() {
        let mut results = Results::default();
        let number = |outcome: &Outcome| outcome.scores[0].frechet;
        assert_eq!(results.spread(BASE, number), None);
        for frechet in [30.0, 36.0, 27.0] {
            results.add(BASE, outcome([frechet, 0.0], [0.0, 0.0]));
        }
        assert_eq!(
            results.spread(BASE, number),
            Some(Spread {
                mean: 31.0,
                low: 27.0,
                high: 36.0
            })
        );
    }
}
