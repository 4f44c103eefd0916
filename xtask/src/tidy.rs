//! `cargo xtask tidy`: the house rules that neither the compiler nor clippy can see. Also run as a test.

mod documents;
mod rules;

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Checks every file; lists every offence.
pub(crate) fn run() -> Result<()> {
    let offences = offences(&workspace::root())?;
    if offences.is_empty() {
        return Ok(());
    }
    bail!("{} offences:\n{}", offences.len(), offences.join("\n"));
}

/// Every offence below `root`, as `path:line: what`.
fn offences(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let equations = documents::equations(root)?;
    let mut offences = Vec::new();
    for path in &files {
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let found = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => rules::check(&name, &text, &equations),
            _ if name.starts_with("configs/") => documents::check_config(&text),
            _ => Vec::new(),
        };
        offences.extend(
            found
                .iter()
                .map(|(line, what)| format!("{name}:{line}: {what}")),
        );
    }
    Ok(offences)
}

/// Rust and TOML files below a folder, without build outputs and hidden folders.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || ["target", "runs"].contains(&name.as_ref()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if name.ends_with(".rs") || name.ends_with(".toml") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        run().unwrap();
    }
}
