//! `cargo xtask docs`: the pages that are made of the code, and the book.

mod commands;
mod keys;
#[cfg(test)]
mod links;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{command, files, workspace};

/// What is done.
#[derive(clap::Args)]
pub(crate) struct Docs {
    /// Write nothing, and fail where a page is not what the code says
    #[arg(long)]
    check: bool,
}

/// The page of recipe keys, below the root of the workspace.
const KEYS: &str = "docs/src/recipe-keys.md";
/// The page of commands.
const COMMANDS: &str = "docs/src/cli.md";

pub(crate) fn run(args: &Docs) -> Result<()> {
    let root = workspace::root();
    page(&root.join(KEYS), &keys::page(&root)?, args.check)?;
    command::succeed(command::cargo().args("build --release --package meanflow-cli".split(' ')))?;
    let program = workspace::target().join("release/meanflow");
    page(&root.join(COMMANDS), &commands::page(&program)?, args.check)?;
    if args.check {
        return Ok(());
    }
    let is_there = Command::new("mdbook")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if is_there.is_err() {
        println!("wrote {KEYS} and {COMMANDS}; no book: `cargo install mdbook` first");
        return Ok(());
    }
    command::succeed(Command::new("mdbook").arg("build").arg(root.join("docs")))?;
    println!("open {}", root.join("docs/book/index.html").display());
    Ok(())
}

/// Writes a page, or compares it with what is there.
fn page(path: &Path, text: &str, is_check: bool) -> Result<()> {
    let shown = path.display();
    if !is_check {
        return files::write(path, text);
    }
    let there = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    ensure!(
        there == text,
        "{shown} is not what the code says: run `cargo xtask docs`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_keys_is_what_the_code_says() {
        let root = workspace::root();
        page(&root.join(KEYS), &keys::page(&root).unwrap(), true).unwrap();
    }
}
