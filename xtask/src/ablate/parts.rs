//! What is varied, by the table `parts.toml`.

use serde::Deserialize;
use std::sync::LazyLock;

/// A question with its answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// Its name on the command line.
    pub name: String,
    /// Its title in the document.
    pub title: String,
    /// What the rows differ in.
    pub column: String,
    /// The rows, in the paper's order.
    pub rows: Vec<Row>,
}

/// A variant in its part.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// What is written in the table.
    pub label: String,
    /// The training that it stands for, by the name of its folder; parts share trainings.
    pub run: String,
    /// Changes to the recipe.
    #[serde(default)]
    pub set: Vec<String>,
    /// `[dr, dt]` of the direction, where it is not the right one, (v, 0, 1).
    pub wrong_direction: Option<[f64; 2]>,
    /// The paper's FID at one step.
    pub paper: f64,
}

/// The name of the recipe as it is.
pub(super) const BASE: &str = "base";

/// All parts.
pub(super) static PARTS: LazyLock<Vec<Part>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct Table {
        part: Vec<Part>,
    }
    let table: Table = toml::from_str(include_str!("parts.toml")).expect("the table of parts");
    table.part
});

/// The names of the parts.
pub(super) fn names() -> Vec<&'static str> {
    PARTS.iter().map(|part| part.name.as_str()).collect()
}

/// A row for every run once, in the order of the parts that are wanted; all without names.
pub(super) fn variants(only: &[String]) -> Vec<&'static Row> {
    let wanted = |part: &&Part| only.is_empty() || only.contains(&part.name);
    let mut variants: Vec<&Row> = Vec::new();
    for row in PARTS.iter().filter(wanted).flat_map(|part| &part.rows) {
        if variants.iter().all(|other| other.run != row.run) {
            variants.push(row);
        }
    }
    variants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_the_same_in_every_part_and_the_base_changes_nothing() {
        let all = variants(&[]);
        let rows = || PARTS.iter().flat_map(|part| &part.rows);
        for row in rows() {
            let one = all.iter().find(|one| one.run == row.run).unwrap();
            let what = |row: &Row| (row.set.clone(), row.wrong_direction);
            assert_eq!(what(one), what(row), "{}", row.run);
            assert_eq!(row.run == BASE, what(row) == (Vec::new(), None));
            assert_ne!(row.wrong_direction, Some([0.0, 1.0]));
        }
        // Seven parts are held together by six runs of the base and one of ω = 2.
        assert_eq!((rows().count(), all.len()), (30, 30 - 5 - 1));
        let of =
            |only: &[&str]| variants(&only.iter().map(|&name| name.into()).collect::<Vec<_>>());
        assert_eq!(of(&["kappa", "omega"]).len(), 7);
    }

    #[test]
    fn kappa_varies_at_one_effective_scale() {
        let part = PARTS.iter().find(|part| part.name == "kappa").unwrap();
        for row in &part.rows {
            let recipe: toml::Table = toml::from_str(&row.set[0]).unwrap();
            let [omega, kappa] = ["omega", "kappa"].map(|key| recipe["guidance"][key].as_float());
            // Rounding of two operations.
            let effective = omega.unwrap() / (1.0 - kappa.unwrap());
            assert!((effective - 2.0).abs() < 1e-12, "{effective}");
        }
    }
}
