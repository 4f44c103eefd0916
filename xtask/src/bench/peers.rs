//! `cargo xtask bench peers`: the same MeanFlow step here, in PyTorch as ports write it, compiled, and in JAX.

use super::options::{Guidance, Options, Programs};
use super::rival::{Reply, Rival};
use super::table::{mean_units, median, shown};
use super::{measure, proof};
use crate::command;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Write as _;

#[derive(clap::Args)]
pub(crate) struct Peers {
    /// Sizes of benches/sizes.json; may be given several times.
    #[arg(long = "size", default_values = ["digits", "s4", "b4"])]
    sizes: Vec<String>,
    /// Guidance of the target; may be given several times.
    #[arg(long, value_enum, default_values = ["none", "kappa0", "kappa"])]
    guidance: Vec<Guidance>,
    /// A peer to leave out, such as pytorch_compiled where there is little time; may be given several times.
    #[arg(long, value_name = "VARIANT", value_parser = PEERS)]
    without: Vec<String>,
    #[command(flatten)]
    options: Options,
}

const PEERS: [&str; 4] = [
    "pytorch_func_jvp",
    "pytorch_two_pass",
    "pytorch_compiled",
    "jax_jit",
];

/// A kind of program: its script, if it is not ours; its own plain step; its MeanFlow steps.
struct Framework {
    script: Option<&'static str>,
    plain: &'static str,
    steps: &'static [&'static str],
}

const FRAMEWORKS: [Framework; 3] = [
    Framework {
        script: None,
        plain: "plain",
        steps: &["dual"],
    },
    Framework {
        script: Some("step.py"),
        plain: "pytorch_plain",
        steps: PEERS.split_at(3).0,
    },
    Framework {
        script: Some("step_jax.py"),
        plain: "jax_plain",
        steps: PEERS.split_at(3).1,
    },
];

/// A MeanFlow step of one variant.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    size: String,
    guidance: Guidance,
    variant: String,
    /// Median wall time of a step, in milliseconds.
    median_ms: f64,
    /// That of the same framework's flow-matching step.
    plain_ms: f64,
    /// Memory of a step at its peak, in MiB, where it can be had.
    peak_mib: Option<f64>,
    /// What a step does, in network forwards over its batch.
    units: Option<f64>,
}

pub(super) fn run(args: &Peers) -> Result<()> {
    let programs = args.options.programs("step")?;
    let (mut rows, mut absent) = (Vec::new(), Vec::new());
    for size in &args.sizes {
        for &guidance in &args.guidance {
            rows.extend(compare(args, &programs, (size, guidance), &mut absent)?);
        }
    }
    println!("{}", text(&rows, &absent));
    args.options.write(&rows)
}

/// Proves and measures one size under one guidance; what does not run there is noted in `absent`, with the reason.
fn compare(
    args: &Peers,
    programs: &Programs,
    (size, guidance): (&str, Guidance),
    absent: &mut Vec<String>,
) -> Result<Vec<Row>> {
    let title = format!("{size}, guidance {}", guidance.name());
    let mut rivals = start(args, programs, size, guidance)?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let file = folder.path().join("proof.safetensors");
    let mut export = args.options.ours(programs, size, guidance);
    command::succeed(export.arg("--export").arg(&file))?;
    proof::prove(&mut rivals[1..], &file, &title)?;
    for (rival, variants) in &mut rivals {
        for reason in leave_out_what_does_not_run(rival, variants) {
            absent.push(format!("{title}: {reason}"));
        }
    }
    let replies = measure(&title, args.options.rounds, &mut rivals)?;
    Ok(rows(size, guidance, &replies))
}

/// Ours first.
fn start(
    args: &Peers,
    programs: &Programs,
    size: &str,
    guidance: Guidance,
) -> Result<Vec<(Rival, Vec<&'static str>)>> {
    let options = &args.options;
    let mut rivals = Vec::new();
    for framework in FRAMEWORKS {
        let wanted = |step: &&&str| args.without.iter().all(|name| name != **step);
        let steps: Vec<&str> = framework.steps.iter().filter(wanted).copied().collect();
        if steps.is_empty() {
            continue;
        }
        let variants = [vec![framework.plain], steps].concat();
        let rival = match framework.script {
            Some(script) => options.peer(programs, script, (size, guidance), &variants)?,
            None => Rival::start("benches/step", options.ours(programs, size, guidance))?,
        };
        rivals.push((rival, variants));
    }
    Ok(rivals)
}

/// That a compiler cannot compile a step, or a peer has no such network, is a result, and told. The end of a program is an
/// error when it is measured.
fn leave_out_what_does_not_run(rival: &mut Rival, variants: &mut Vec<&str>) -> Vec<String> {
    let mut reasons = Vec::new();
    variants.retain(|variant| match rival.step(variant) {
        Ok(_) => true,
        Err(error) => {
            reasons.push(format!("without {variant}: {error:#}"));
            false
        }
    });
    reasons
}

fn rows(size: &str, guidance: Guidance, replies: &[(&str, Vec<Reply>)]) -> Vec<Row> {
    let of = |name: &str| replies.iter().find(|(known, _)| *known == name);
    let time = |list: &[Reply]| median(list.iter().map(|reply| reply.ms).collect());
    let mut rows = Vec::new();
    for framework in FRAMEWORKS {
        let plain_ms = of(framework.plain).map_or(f64::NAN, |(_, list)| time(list));
        for (name, list) in framework.steps.iter().filter_map(|step| of(step)) {
            rows.push(Row {
                size: size.to_owned(),
                guidance,
                variant: if *name == "dual" { "ours" } else { name }.to_owned(),
                median_ms: time(list),
                plain_ms,
                peak_mib: list.last().and_then(|reply| reply.peak_mib),
                units: mean_units(list),
            });
        }
    }
    rows
}

/// The rows for people, and what is absent below them; times are also divided by ours of the same size and guidance.
fn text(rows: &[Row], absent: &[String]) -> String {
    let mut text = format!(
        "{:<10} {:<8} {:<17} {:>9} {:>7} {:>9} {:>8} {:>9} {:>6}",
        "size",
        "guidance",
        "variant",
        "median ms",
        "÷ ours",
        "plain ms",
        "÷ plain",
        "peak MiB",
        "units"
    );
    for row in rows {
        let is_ours = |other: &&Row| {
            (&other.size, other.guidance, &*other.variant) == (&row.size, row.guidance, "ours")
        };
        let ours = rows.iter().find(is_ours);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n{:<10} {:<8} {:<17} {:>9.1} {:>7} {:>9.1} {:>8.2} {:>9} {:>6}",
            row.size,
            row.guidance.name(),
            row.variant,
            row.median_ms,
            shown(ours.map(|ours| row.median_ms / ours.median_ms), 2),
            row.plain_ms,
            row.median_ms / row.plain_ms,
            shown(row.peak_mib, 0),
            shown(row.units, 2),
        );
    }
    for reason in absent {
        let _ = write!(text, "\n{reason}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::rival;
    use super::*;

    #[test]
    fn a_row_has_its_own_frameworks_plain_step() {
        let reply = |ms| Reply {
            ms,
            peak_mib: Some(1.0),
            units: Some(4.0),
        };
        let replies = [
            ("plain", vec![reply(2.0)]),
            ("dual", vec![reply(3.0)]),
            ("jax_plain", vec![reply(5.0)]),
            ("jax_jit", vec![reply(6.0), reply(7.0), reply(600.0)]),
        ];
        let rows = rows("digits", Guidance::Kappa, &replies);
        let found: Vec<_> = rows
            .iter()
            .map(|row| (&*row.variant, row.median_ms, row.plain_ms))
            .collect();
        assert_eq!(found, [("ours", 3.0, 2.0), ("jax_jit", 7.0, 5.0)]);
        assert!(text(&rows, &[]).lines().last().unwrap().contains("2.33"));
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(json["guidance"], "kappa");
    }

    #[test]
    fn what_does_not_run_is_left_out_and_the_table_says_so() {
        let journal = tempfile::NamedTempFile::new().unwrap();
        let mut rival = rival::fake("fake", journal.path());
        let mut variants = vec!["jax_plain", "bad"];
        let reasons = leave_out_what_does_not_run(&mut rival, &mut variants);
        assert_eq!(variants, ["jax_plain"]);
        let last = text(&[], &reasons);
        let last = last.lines().last().unwrap();
        assert_eq!(last, "without bad: fake, asked to run bad: cannot");
    }
}
