//! Programs of the workspace, built in release.

use crate::{command, libtorch, workspace};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds what these words of cargo's command line name, and says in which folder it is. It begins with what a build needs: a
/// compiler and libtorch.
pub(crate) fn build(words: &str) -> Result<PathBuf> {
    command::require_cxx()?;
    libtorch::ensure()?;
    let mut cargo = command::cargo();
    command::succeed(cargo.args(["build", "--release"]).args(words.split(' ')))?;
    Ok(workspace::target().join("release"))
}

/// Copies a program without its symbols, which comes with every C++ compiler.
pub(crate) fn strip(from: &Path, to: &Path) -> Result<()> {
    command::succeed(Command::new("strip").arg("-o").args([to, from]))
}
