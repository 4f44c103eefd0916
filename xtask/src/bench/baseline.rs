//! `cargo xtask bench`: our steps beside the figures that are stored in the repository, and what moved.

use super::measure;
use super::options::Guidance;
use super::rival::Rival;
use super::table::{self, Row, shown};
use crate::{files, program, workspace};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Baseline {
    /// Timed steps of each variant.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: u32,
    /// Store what is measured instead of comparing with what is stored.
    #[arg(long)]
    pub(super) store: bool,
}

/// What is measured: the smallest size, by turns without guidance and with.
const SIZE: &str = "digits";
const GUIDANCE: [Guidance; 2] = [Guidance::None, Guidance::Kappa];
const VARIANTS: [&str; 3] = ["plain", "dual", "forward_ad"];
/// The same program's medians were seen to differ by 28 % within a minute on a virtual machine.
const TIME: f64 = 0.3;
/// Variants take turns, so that their ratios repeat within a few hundredths.
const RATIO: f64 = 0.1;
/// Memory and counts do not depend on the load of the machine; the counts of guidance do on how many labels are dropped.
const COUNT: f64 = 0.03;

/// A row with its guidance.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Stored {
    guidance: Guidance,
    #[serde(flatten)]
    row: Row,
}

pub(super) fn run(args: &Baseline) -> Result<()> {
    let program = program::build("--package benches --bin step")?.join("step");
    let mut found = Vec::new();
    for guidance in GUIDANCE {
        let mut command = Command::new(&program);
        command.args(["--size", SIZE, "--guidance", &guidance.name()]);
        let ours = Rival::start("benches/step", command)?;
        let title = format!("{SIZE}, guidance {}", guidance.name());
        let replies = measure(&title, args.rounds, &mut [(ours, VARIANTS.to_vec())])?;
        let rows = table::rows(SIZE, &replies).into_iter();
        found.extend(rows.map(|row| Stored { guidance, row }));
    }
    let file = file();
    if args.store {
        let text = serde_json::to_string_pretty(&found)? + "\n";
        return files::write(&file, text);
    }
    let text =
        files::read(&file).context("no baseline; store one: cargo xtask bench baseline --store")?;
    let stored: Vec<Stored> =
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", file.display()))?;
    println!("{}", comparison(&stored, &found));
    Ok(())
}

fn file() -> PathBuf {
    workspace::root().join("benches/baseline.json")
}

/// A line for every row, with what is now, what was, and a word for what moved.
fn comparison(stored: &[Stored], found: &[Stored]) -> String {
    let mut lines = vec![format!(
        "{:<8} {:<11} {:>17} {:>15} {:>15} {:>13}  moved",
        "guidance", "variant", "median ms", "÷ plain", "peak MiB", "units"
    )];
    for now in found {
        let same = |old: &&Stored| {
            (old.guidance, &old.row.size, &old.row.variant)
                == (now.guidance, &now.row.size, &now.row.variant)
        };
        let names = format!("{:<8} {:<11}", now.guidance.name(), now.row.variant);
        lines.push(match stored.iter().find(same) {
            Some(old) => format!("{names} {}", changes(&old.row, &now.row)),
            None => format!("{names} is new"),
        });
    }
    lines.join("\n")
}

fn changes(old: &Row, new: &Row) -> String {
    let figures = [
        ("time", Some(old.median_ms), Some(new.median_ms), 1, TIME),
        (
            "ratio",
            Some(old.ratio_to_plain),
            Some(new.ratio_to_plain),
            2,
            RATIO,
        ),
        ("memory", old.peak_mib, new.peak_mib, 0, COUNT),
        ("units", old.units, new.units, 2, COUNT),
    ];
    let widths = [17, 15, 15, 13];
    let mut text = String::new();
    let mut moved = Vec::new();
    for ((name, old, new, decimals, bound), width) in figures.into_iter().zip(widths) {
        let both = format!("{} → {}", shown(old, decimals), shown(new, decimals));
        text.push_str(&format!("{both:>width$} "));
        if let Some(change) = change(old, new).filter(|change| change.abs() > bound) {
            moved.push(format!("{name} {:+.0} %", change * 100.0));
        }
    }
    if moved.is_empty() {
        moved.push("–".to_owned());
    }
    format!("{text} {}", moved.join(", "))
}

/// By which share a figure has grown, where it was there before and is now.
fn change(old: Option<f64>, new: Option<f64>) -> Option<f64> {
    Some(new? / old? - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(variant: &str, median_ms: f64, peak_mib: f64) -> Stored {
        Stored {
            guidance: Guidance::Kappa,
            row: Row {
                size: SIZE.to_owned(),
                variant: variant.to_owned(),
                median_ms,
                ratio_to_plain: 1.0,
                peak_mib: Some(peak_mib),
                units: None,
            },
        }
    }

    #[test]
    fn only_what_moved_is_named() {
        let old = [stored("plain", 10.0, 50.0), stored("dual", 10.0, 50.0)];
        let new = [
            stored("plain", 10.9, 51.0),
            stored("dual", 15.0, 40.0),
            stored("c", 1.0, 1.0),
        ];
        let text = comparison(&old, &new);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with(" –"), "{}", lines[1]);
        assert!(
            lines[2].ends_with("time +50 %, memory -20 %"),
            "{}",
            lines[2]
        );
        assert!(lines[3].ends_with("is new"), "{}", lines[3]);
    }

    #[test]
    fn the_stored_baseline_is_of_what_is_measured() {
        let text = files::read(&file()).unwrap();
        let stored: Vec<Stored> = serde_json::from_str(&text).unwrap();
        let names: Vec<_> = stored
            .iter()
            .map(|stored| (stored.guidance, &*stored.row.variant))
            .collect();
        let expected = GUIDANCE.map(|guidance| VARIANTS.map(|variant| (guidance, variant)));
        assert_eq!(names, expected.concat());
    }
}
