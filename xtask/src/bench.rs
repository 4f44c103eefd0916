//! `cargo xtask bench QUESTION`: rivals in several processes, timed alternately, medians in one table.

mod baseline;
mod gpus;
mod options;
mod peers;
pub(crate) mod proof;
pub(crate) mod rival;
mod sample;
mod scaling;
mod step;
pub(crate) mod table;

use anyhow::{Result, ensure};
use rival::{Reply, Rival};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    question: Option<Question>,
}

/// The questions; `benches/README.md` explains each.
#[derive(clap::Subcommand)]
enum Question {
    /// What does a MeanFlow training step cost beside a plain flow-matching step, here and in PyTorch?
    Step(step::Step),
    /// What does a MeanFlow training step cost here, in PyTorch in three ways, and in JAX, when all compute the same?
    Peers(peers::Peers),
    /// What does a sample in one evaluation cost here and in PyTorch, and how long does the first one take?
    Sample(sample::Sample),
    /// How does a step's cost grow with batch, tokens, depth, width and share of MeanFlow rows?
    Scaling(scaling::Scaling),
    /// What should a step take on many GPUs, by arithmetic from what was measured on one?
    Gpus(gpus::Gpus),
    /// What has moved since the figures in benches/baseline.json? Asked where nothing else is.
    Baseline(baseline::Baseline),
}

/// Answers the question.
pub(crate) fn run(args: &Bench) -> Result<()> {
    match &args.question {
        None => baseline::run(&baseline::Baseline {
            rounds: 20,
            store: false,
        }),
        Some(Question::Step(args)) => step::run(args),
        Some(Question::Peers(args)) => peers::run(args),
        Some(Question::Sample(args)) => sample::run(args),
        Some(Question::Scaling(args)) => scaling::run(args),
        Some(Question::Gpus(args)) => gpus::run(args),
        Some(Question::Baseline(args)) => baseline::run(args),
    }
}

/// Runs every variant once a round; the answers of each, round by round.
fn measure<S: AsRef<str> + Clone + PartialEq>(
    title: &str,
    rounds: u32,
    rivals: &mut [(Rival, Vec<S>)],
) -> Result<Vec<(S, Vec<Reply>)>> {
    let mut replies: Vec<(S, Vec<Reply>)> = Vec::new();
    for round in 1..=rounds {
        eprintln!("{title}: round {round} of {rounds}");
        for (rival, variants) in rivals.iter_mut() {
            for variant in variants.iter() {
                let reply = rival.step(variant.as_ref())?;
                match replies.iter_mut().find(|(name, _)| name == variant) {
                    Some((_, list)) => list.push(reply),
                    None => replies.push((variant.clone(), vec![reply])),
                }
            }
        }
    }
    ensure!(!replies.is_empty(), "there is nothing to measure");
    Ok(replies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn rivals_alternate() {
        let journal = tempfile::NamedTempFile::new().unwrap();
        let mut rivals = [("a", vec!["plain", "dual"]), ("b", vec!["peer"])]
            .map(|(name, variants)| (rival::fake(name, journal.path()), variants));
        let replies = measure("digits", 3, &mut rivals).unwrap();
        let names: Vec<&str> = replies.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["plain", "dual", "peer"]);
        let order = fs::read_to_string(journal.path()).unwrap();
        assert_eq!(
            order.replace('\n', " ").trim(),
            ["plain dual peer"; 3].join(" ")
        );
    }
}
