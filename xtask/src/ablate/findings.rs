//! What the paper found, and whether it holds here.

use super::parts::{BASE, PARTS};
use super::results::{Outcome, Results, Spread};

/// An ordering of the paper, looked for in the results.
#[derive(Debug, PartialEq)]
pub(super) struct Finding {
    /// What the paper found, and what is taken for it here.
    pub claim: &'static str,
    /// Whether it holds, in the means over seeds.
    pub holds: bool,
    /// The numbers that say so.
    pub numbers: String,
    /// Seeds of the variant that has the fewest.
    pub seeds: usize,
}

/// What the paper found in a part: how the first row stands to every other.
struct Claim {
    part: &'static str,
    text: &'static str,
    what: &'static str,
    number: fn(&Outcome) -> f64,
    holds: fn(f64, f64) -> bool,
}

/// "By far": as many times as far from the data.
const FAR: f64 = 2.0;
const FRECHET: &str = "Fréchet distance at one step";

const CLAIMS: [Claim; 4] = [
    Claim {
        part: "jump-rows",
        text: "Without MeanFlow rows (0 %) one step fails: more than twice as far from the data as with any share of them.",
        what: FRECHET,
        number: frechet,
        holds: |without, with| without > FAR * with,
    },
    Claim {
        part: "tangent",
        text: "The tangent (v, 0, 1) beats every other by far: the others are more than twice as far from the data at one step.",
        what: FRECHET,
        number: frechet,
        holds: |right, wrong| wrong > FAR * right,
    },
    Claim {
        part: "omega",
        text: "Guidance improves class accuracy: at one step it is higher with every ω > 1 than with none.",
        what: "Accuracy at one step in percent",
        number: |outcome| 100.0 * outcome.scores[0].accuracy,
        holds: |none, guided| guided > none,
    },
    Claim {
        part: MIXING,
        text: "κ > 0 at the same ω' = 2 is no worse than κ = 0: the Fréchet distance at one step is no larger.",
        what: FRECHET,
        number: frechet,
        holds: |without, with| with <= without,
    },
];
/// The part whose claim is of no difference, so that chance alone can break it.
const MIXING: &str = "kappa";

/// Fréchet distance at one step.
fn frechet(outcome: &Outcome) -> f64 {
    outcome.scores[0].frechet
}

/// The orderings whose parts are complete.
pub(super) fn findings(results: &Results) -> Vec<Finding> {
    let found = CLAIMS.iter().filter_map(|claim| claim.finding(results));
    found.collect()
}

impl Claim {
    fn finding(&self, results: &Results) -> Option<Finding> {
        let part = PARTS.iter().find(|part| part.name == self.part)?;
        let values = part
            .rows
            .iter()
            .map(|row| results.spread(&row.run, self.number));
        let values: Vec<Spread> = values.collect::<Option<_>>()?;
        let (first, others) = values.split_first()?;
        let broken = |other: &&Spread| !(self.holds)(first.mean, other.mean);
        let mut broken = others.iter().filter(broken).peekable();
        let holds = broken.peek().is_none();
        let rows = part.rows.iter().zip(&values);
        let numbers: Vec<String> = rows
            .map(|(row, value)| format!("{} at {}", show(*value), row.label))
            .collect();
        let mut numbers = format!("{} by {}: {}", self.what, part.column, numbers.join(", "));
        if self.part == MIXING && !holds && broken.all(|other| other.low <= first.high) {
            numbers += ". The seeds' ranges overlap: what is worse may be so by chance";
        }
        Some(Finding {
            claim: self.text,
            holds,
            numbers,
            seeds: part
                .rows
                .iter()
                .map(|row| results.of(&row.run).len())
                .min()?,
        })
    }
}

/// `31.2`, or `31.2 (29.0–33.1)` over several seeds.
pub(super) fn show(spread: Spread) -> String {
    let Spread { mean, low, high } = spread;
    if low == high {
        return format!("{mean:.1}");
    }
    format!("{mean:.1} ({low:.1}–{high:.1})")
}

/// By how much seeds alone differ, where the base was run with several: Fréchet distance at one step.
pub(super) fn noise(results: &Results) -> Option<Spread> {
    results
        .spread(BASE, frechet)
        .filter(|_| results.of(BASE).len() > 1)
}

#[cfg(test)]
mod tests {
    use super::super::parts::variants;
    use super::super::results::outcome;
    use super::*;

    /// Every variant with the same scores but those named.
    fn results(different: &[(&str, f64, f64)]) -> Results {
        let mut results = Results::default();
        for variant in variants(&[]) {
            let found = different.iter().find(|(name, ..)| *name == variant.run);
            let (frechet, accuracy) =
                found.map_or((30.0, 0.95), |&(_, frechet, accuracy)| (frechet, accuracy));
            results.add(&variant.run, outcome([frechet; 2], [accuracy; 2]));
        }
        results
    }

    const AS_PUBLISHED: [(&str, f64, f64); 10] = [
        ("jump-rows-0", 320.0, 0.2),
        ("tangent-v00", 200.0, 0.3),
        ("tangent-v10", 210.0, 0.3),
        ("tangent-v11", 61.0, 0.3),
        ("omega-15", 30.0, 0.96),
        ("omega-2", 30.0, 0.97),
        ("omega-3", 30.0, 0.98),
        ("kappa-05", 29.0, 0.98),
        ("kappa-08", 30.0, 0.98),
        ("kappa-09", 20.0, 0.98),
    ];

    #[test]
    fn orderings_of_the_paper_hold_in_results_like_the_papers() {
        let found = findings(&results(&AS_PUBLISHED));
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|finding| finding.holds), "{found:?}");
        assert!(found[1].numbers.contains("61.0 at (v, 1, 1)"), "{found:?}");
    }

    #[test]
    fn one_row_out_of_order_breaks_its_own_finding_only() {
        for (broken, name, frechet, accuracy) in [
            (0, "jump-rows-0", 59.0, 0.2),
            (0, "jump-rows-25", 161.0, 0.95),
            (1, "tangent-v11", 59.0, 0.3),
            (2, "omega-3", 30.0, 0.95),
            (3, "kappa-08", 30.1, 0.98),
        ] {
            let mut different = AS_PUBLISHED.to_vec();
            different.insert(0, (name, frechet, accuracy));
            let found = findings(&results(&different));
            let holds: Vec<bool> = found.iter().map(|finding| finding.holds).collect();
            let expected: Vec<bool> = (0..4).map(|index| index != broken).collect();
            assert_eq!(holds, expected, "{name}");
        }
    }

    #[test]
    fn what_chance_can_do_is_said() {
        let mut results = results(&AS_PUBLISHED);
        let add = |results: &mut Results, name: &str, frechet: f64| {
            results.add(name, outcome([frechet; 2], [0.98; 2]));
        };
        // Means of 33 and 35 about one value in common.
        add(&mut results, "omega-2", 36.0);
        add(&mut results, "kappa-08", 40.0);
        let mixing = &findings(&results)[3];
        assert!(
            !mixing.holds && mixing.numbers.contains("chance"),
            "{mixing:?}"
        );
    }

    #[test]
    fn a_part_with_a_missing_row_finds_nothing() {
        let mut results = Results::default();
        for variant in variants(&["omega".to_owned()]) {
            results.add(&variant.run, outcome([30.0; 2], [0.9; 2]));
        }
        let found = findings(&results);
        assert!(found.len() == 1 && !found[0].holds, "{found:?}");
    }
}
