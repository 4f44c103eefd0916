//! `cargo xtask docs`: the pages that are made of the code, and the book.

mod commands;
mod keys;
#[cfg(test)]
mod links;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{command, files, program, workspace};

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
    let program = program::build("--package meanflow-cli")?.join("meanflow");
    page(&root.join(COMMANDS), &commands::page(&program)?, args.check)?;
    if args.check {
        return Ok(());
    }
    if !command::works("mdbook", &["--version"])? {
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
    ensure!(
        files::read(path)? == text,
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
