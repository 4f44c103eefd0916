//! `cargo xtask interchange`: PyTorch and onnxruntime draw from exported models what the program draws.

use crate::{command, program, python, workspace};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

/// What to compare with.
#[derive(clap::Args)]
pub(crate) struct Interchange {
    /// A Python with torch, numpy, safetensors, onnx and onnxruntime [default: one made for it in the user's cache folder].
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Store what PyTorch draws for the tests, which compare with it where there is no Python.
    #[arg(long)]
    fixture: bool,
}

/// The crate that exports.
const PACKAGE: &str = "meanflow-export";
/// Its program that exports small models of every kind.
const EXAMPLE: &str = "interchange";

/// Exports, then lets the script compare.
pub(crate) fn run(args: &Interchange) -> Result<()> {
    let python = python::INTERCHANGE.python(args.python.as_deref())?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let programs = program::build(&format!("--package {PACKAGE} --example {EXAMPLE}"))?;
    let program = programs.join("examples").join(EXAMPLE);
    command::succeed(Command::new(program).arg(folder.path()))?;
    let tests = workspace::root().join("crates").join(PACKAGE).join("tests");
    let mut script = Command::new(python);
    script
        .arg(tests.join("python/interchange.py"))
        .arg(folder.path());
    if args.fixture {
        script.arg("--fixture").arg(tests.join("fixtures"));
    }
    command::succeed(&mut script)
}
