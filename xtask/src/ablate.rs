//! `cargo xtask ablate`: the paper's ablations in miniature, on the digits; the document is written from what was measured.

mod document;
mod findings;
mod parts;
mod picture;
mod results;

use crate::{command, files, program, python, workspace};
use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use parts::Row;
use rayon::prelude::*;
use results::{Outcome, Recipe, Results, Score, Training};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which part of it.
#[derive(clap::Args)]
pub(crate) struct Ablate {
    /// Run only these parts.
    #[arg(long, value_name = "PART", num_args = 1.., value_parser = PossibleValuesParser::new(parts::names()))]
    only: Vec<String>,
    /// Training steps of a run.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Seeds of each variant: 0, 1, ….
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// A Python that has numpy and scikit-learn [default: one made for it in the user's cache folder].
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

/// The recipe that is varied.
const RECIPE: &str = "benches/ablation.toml";
const DOCUMENT: &str = "docs/src/ablations.md";
const PICTURE: &str = "docs/src/images/ablations.svg";

/// Runs what is not there yet, then writes the document from every result of that many steps.
pub(crate) fn run(args: &Ablate) -> Result<()> {
    let programs = program::build("--package benches --bin ablate")?;
    let laboratory = Laboratory {
        python: python::SCORES.python(args.python.as_deref())?,
        program: programs.join("ablate"),
        base: files::read(&workspace::root().join(RECIPE))?,
        folder: workspace::target().join(format!("ablations/{}-steps", args.steps)),
        steps: args.steps,
    };
    let wanted = parts::variants(&args.only);
    let seeds = 0..args.seeds;
    let runs = seeds.flat_map(|seed| wanted.iter().map(move |variant| (*variant, seed)));
    // One on every processor, in this order; ends at the first error.
    runs.par_bridge()
        .try_for_each(|(variant, seed)| laboratory.run(variant, seed))?;
    publish(&laboratory.results()?, args.steps)
}

fn publish(results: &Results, steps: u32) -> Result<()> {
    print!("{}", document::tables(results));
    let root = workspace::root();
    files::write(&root.join(DOCUMENT), document::text(results, steps))?;
    files::write(&root.join(PICTURE), picture::svg(results))?;
    println!("wrote {DOCUMENT} and {PICTURE}");
    Ok(())
}

/// Where runs are made and kept.
struct Laboratory {
    program: PathBuf,
    python: PathBuf,
    /// The text of the recipe that is varied.
    base: String,
    folder: PathBuf,
    steps: u32,
}

impl Laboratory {
    /// Does the run, unless its result is there.
    fn run(&self, variant: &Row, seed: u32) -> Result<()> {
        let recipe = self.recipe(variant, seed);
        let folder = self.place(variant, seed);
        let file = folder.join(RESULT);
        if Outcome::read(&file, &recipe).is_some() {
            return Ok(());
        }
        files::make_folder(&folder)?;
        let training = self.train(&recipe, &folder)?;
        let scores = [
            self.score(&folder.join("steps-1.npz"))?,
            self.score(&folder.join("steps-2.npz"))?,
        ];
        let [one, two] = scores;
        eprintln!(
            "{} with seed {seed}: {:.0} s, Fréchet {:.1} and {:.1}, accuracy {:.3} and {:.3}",
            variant.run, training.seconds, one.frechet, two.frechet, one.accuracy, two.accuracy
        );
        Outcome {
            recipe,
            training,
            scores,
        }
        .write(&file)
    }

    /// Every result that is there and of today's recipe, from seed 0 to the first that is missing.
    fn results(&self) -> Result<Results> {
        let mut results = Results::default();
        for variant in parts::variants(&[]) {
            for seed in 0.. {
                let file = self.place(variant, seed).join(RESULT);
                if !file.is_file() {
                    break;
                }
                let Some(outcome) = Outcome::read(&file, &self.recipe(variant, seed)) else {
                    break;
                };
                results.add(&variant.run, outcome);
            }
        }
        Ok(results)
    }

    fn recipe(&self, variant: &Row, seed: u32) -> Recipe {
        let own = [
            format!("seed={seed}"),
            format!("training.steps={}", self.steps),
        ];
        Recipe {
            base: self.base.clone(),
            changes: variant.set.iter().cloned().chain(own).collect(),
            wrong_direction: variant.wrong_direction,
        }
    }

    fn place(&self, variant: &Row, seed: u32) -> PathBuf {
        self.folder.join(&variant.run).join(format!("seed-{seed}"))
    }

    fn train(&self, recipe: &Recipe, folder: &Path) -> Result<Training> {
        let mut command = Command::new(&self.program);
        command
            .arg(workspace::root().join(RECIPE))
            .arg("--out")
            .arg(folder);
        for change in &recipe.changes {
            command.args(["--set", change]);
        }
        if let Some(direction) = recipe.wrong_direction {
            command
                .arg("--wrong-direction")
                .args(direction.map(|speed| speed.to_string()));
        }
        answer(&mut command)
    }

    fn score(&self, samples: &Path) -> Result<Score> {
        let script = workspace::root().join("benches/peers/score_digits.py");
        answer(Command::new(&self.python).arg(script).arg(samples))
    }
}

const RESULT: &str = "result.json";

/// The JSON that a program prints.
fn answer<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let said = command::answer(command.stderr(Stdio::inherit()))?;
    serde_json::from_str(&said).with_context(|| format!("{command:?} said {said:?}"))
}
