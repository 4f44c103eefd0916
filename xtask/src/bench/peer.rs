//! The Python that the peers run in: a virtual environment in the user's cache folder.

use crate::{command, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What the peers import.
const PACKAGES: [&str; 2] = ["torch==2.11.0", "numpy"];

/// The environment's Python; it is made the first time (some GB of downloads: PyTorch with its CUDA libraries).
pub(super) fn python() -> Result<PathBuf> {
    let folder = workspace::cache()?.join("peers");
    let python = folder.join("bin/python");
    let complete = folder.join("complete");
    if complete.is_file() {
        return Ok(python);
    }
    eprintln!(
        "making a Python environment for the peers in {}",
        folder.display()
    );
    let mut venv = Command::new("python3");
    command::succeed(venv.args(["-m", "venv", "--clear"]).arg(&folder)).context(
        "the peers need Python with venv (Debian, Ubuntu: `apt install python3-venv`), or --python PATH",
    )?;
    let mut install = Command::new(&python);
    command::succeed(install.args(["-m", "pip", "install"]).args(PACKAGES)).context(
        "cannot install PyTorch for the peers; name a Python that has it: --python PATH",
    )?;
    fs::write(complete, PACKAGES.join("\n")).context("cannot finish the environment")?;
    Ok(python)
}
