//! `cargo xtask bench scaling`: a step against batch, tokens, depth, width and share of MeanFlow rows, as pictures of the documentation.

use crate::{command, program, workspace};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Scaling {
    /// Timed steps of each variant at each point.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Intra-op threads [default: as libtorch likes].
    #[arg(long)]
    threads: Option<usize>,
    /// Only one of share, batch, tokens, depth, width.
    #[arg(long, value_parser = ["share", "batch", "tokens", "depth", "width"])]
    only: Option<String>,
    /// The folder of the pictures [default: docs/src/images].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Scaling) -> Result<()> {
    let mut measure =
        Command::new(program::build("--package benches --bin scaling")?.join("scaling"));
    measure.args(["--rounds", &args.rounds.to_string()]);
    if let Some(threads) = args.threads {
        measure.args(["--threads", &threads.to_string()]);
    }
    if let Some(only) = &args.only {
        measure.args(["--only", only]);
    }
    let pictures = || workspace::root().join("docs/src/images");
    measure
        .arg("--out")
        .arg(args.out.clone().unwrap_or_else(pictures));
    command::succeed(&mut measure)
}
