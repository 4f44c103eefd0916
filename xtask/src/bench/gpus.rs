//! `cargo xtask bench gpus`: a step on many GPUs, computed from what was measured on one, as tables and pictures of the documentation.

use super::options;
use crate::{command, workspace};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Gpus {
    /// The folder of the pictures [default: docs/src/images].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Gpus) -> Result<()> {
    let pictures = || workspace::root().join("docs/src/images");
    let mut compute = Command::new(options::build("benches", "gpus")?);
    compute
        .arg("--out")
        .arg(args.out.clone().unwrap_or_else(pictures));
    command::succeed(&mut compute)
}
