//! The document: it says what was measured, and nothing else.

use super::findings::{findings, noise, show};
use super::parts::{BASE, PARTS, Part, Row};
use super::results::{Outcome, Results};
use std::fmt::Write as _;

/// The whole document.
pub(super) fn text(results: &Results, steps: u32) -> String {
    let mut text = opening(steps);
    text.push_str("\n## What the paper found, and what is found here\n\n");
    text.push_str(&orderings(results));
    text.push_str("\n## All numbers\n\n");
    text.push_str("The recipe as it is stands in bold. Numbers over several seeds are means, with the extremes in brackets.\n");
    text.push_str(&tables(results));
    text
}

/// A table for every part that has a result besides the base recipe's.
pub(super) fn tables(results: &Results) -> String {
    PARTS
        .iter()
        .filter(|part| measured(part, results))
        .map(|part| table(part, results))
        .collect()
}

/// Whether a part has a result of its own.
pub(super) fn measured(part: &Part, results: &Results) -> bool {
    let own = part.rows.iter().filter(|row| row.run != BASE);
    own.clone().any(|row| !results.of(&row.run).is_empty())
}

fn opening(steps: u32) -> String {
    format!(
        "# Ablations\n\n\
         Written by `cargo xtask ablate --steps {steps}`; the next run overwrites it.\n\n\
         Table 1 of [Mean Flows](https://arxiv.org/abs/2505.13447) in miniature: one setting at a time of the recipe `benches/ablation.toml` is changed \
         (digits, {steps} training steps). Every variant draws 1797 samples, seeds 0 to 1796, with the labels of the \
         data, by one and by two network evaluations, with the recipe's average of the weights. Accuracy and Fréchet distance are those of [Evaluation](evaluation.md): \
         two halves of the data are 18 apart. Accuracy alone says little: the mean of a class, which a network without MeanFlow rows draws at one step, is recognised as well.\n\n\
         ![Fréchet distance and share of wrong classes of every variant](images/ablations.svg)\n\n\
         The last column is the paper's FID at one step (DiT-B/4, ImageNet 256×256, 80 epochs, where 25 % of the rows are MeanFlow rows unless varied). It is another measure of other data: only \
         the order within a part can be compared. Wrong tangents exist only for this experiment; no recipe can ask for one.\n"
    )
}

fn orderings(results: &Results) -> String {
    let mut text = String::new();
    for finding in findings(results) {
        let verdict = if finding.holds {
            "holds"
        } else {
            "does not hold here"
        };
        let seeds = match finding.seeds {
            1 => "one seed".to_owned(),
            seeds => format!("{seeds} seeds"),
        };
        let _ = writeln!(
            text,
            "- {} **It {verdict}** ({seeds}). {}.",
            finding.claim, finding.numbers
        );
    }
    if text.is_empty() {
        text.push_str("No part that the paper orders was measured completely.\n");
    }
    if let Some(noise) = noise(results) {
        let seeds = results.of(BASE).len();
        let _ = writeln!(
            text,
            "\nWhat chance does: {seeds} seeds of the recipe as it is differ at one step from {:.1} to {:.1} in Fréchet distance. \
             Differences of that size between single runs mean nothing.",
            noise.low, noise.high
        );
    }
    text
}

fn table(part: &Part, results: &Results) -> String {
    let mut text = format!(
        "\n### {}\n\n| {} | Fréchet, 1 step | 2 steps | accuracy in %, 1 step | 2 steps | seeds | paper, FID |\n|---|---|---|---|---|---|---|\n",
        part.title, part.column
    );
    for row in &part.rows {
        text.push_str(&line(row, results).unwrap_or_default());
    }
    text
}

fn line(row: &Row, results: &Results) -> Option<String> {
    let runs = results.of(&row.run);
    let number = |number: fn(&Outcome) -> f64| results.spread(&row.run, number).map(show);
    let cells = [
        number(|outcome| outcome.scores[0].frechet)?,
        number(|outcome| outcome.scores[1].frechet)?,
        number(|outcome| 100.0 * outcome.scores[0].accuracy)?,
        number(|outcome| 100.0 * outcome.scores[1].accuracy)?,
    ];
    let label = match row.run == BASE {
        true => format!("**{}**", row.label),
        false => row.label.clone(),
    };
    let label = label + &gave_up(runs, results);
    Some(format!(
        "| {label} | {} | {} | {:.2} |\n",
        cells.join(" | "),
        runs.len(),
        row.paper
    ))
}

/// Says so where a run diverged: it did fewer steps than others.
fn gave_up(runs: &[Outcome], results: &Results) -> String {
    let asked = results
        .all()
        .map(|run| run.training.steps)
        .max()
        .unwrap_or(0);
    let mut steps = runs.iter().map(|run| run.training.steps);
    let early = steps.find(|steps| *steps < asked);
    early.map_or_else(String::new, |steps| format!(" (diverged at step {steps})"))
}

#[cfg(test)]
mod tests {
    use super::super::parts::variants;
    use super::super::results::outcome;
    use super::*;

    fn results(part: &str) -> Results {
        let mut results = Results::default();
        for (index, variant) in variants(&[part.to_owned()]).iter().enumerate() {
            results.add(
                &variant.run,
                outcome([30.0 + index as f64, 20.0], [0.9, 0.95]),
            );
        }
        results
    }

    #[test]
    fn a_document_has_the_parts_that_were_measured_and_no_other() {
        let text = text(&results("power"), 100);
        assert!(
            text.contains("\n### Power of the adaptive weight\n"),
            "{text}"
        );
        assert_eq!(
            text.matches("\n### ").count(),
            1,
            "the base alone is no part: {text}"
        );
        assert!(
            text.contains("| **1** | 32.0 | 20.0 | 90.0 | 95.0 | 1 | 61.06 |"),
            "{text}"
        );
        assert!(text.contains("No part that the paper orders"), "{text}");
    }

    #[test]
    fn several_seeds_are_a_mean_with_extremes() {
        let mut results = results("omega");
        results.add(BASE, outcome([34.0, 20.0], [0.94, 0.95]));
        let text = text(&results, 100);
        assert!(
            text.contains(
                "| **1 (none)** | 32.0 (30.0–34.0) | 20.0 | 92.0 (90.0–94.0) | 95.0 | 2 |"
            ),
            "{text}"
        );
        assert!(
            text.contains("**It does not hold here** (one seed)."),
            "{text}"
        );
        assert!(
            text.contains("2 seeds of the recipe as it is differ at one step from 30.0 to 34.0"),
            "{text}"
        );
    }

    #[test]
    fn a_run_that_diverged_is_marked() {
        let mut results = results("power");
        let mut early = outcome([900.0; 2], [0.1; 2]);
        early.training.steps = 40;
        results.add("power-0", early);
        assert!(tables(&results).contains("| 0 (diverged at step 40) |"));
    }
}
