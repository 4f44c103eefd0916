//! `cargo xtask tidy`: the house rules that neither the compiler nor clippy can see. Also run as a test.

mod documents;
mod rules;

use crate::{files, workspace};
use anyhow::{Result, bail};
use std::path::Path;

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
    // Without build outputs and hidden folders.
    let enter = |name: &str| !name.starts_with('.') && name != "target" && name != "runs";
    let equations = documents::equations(root)?;
    let mut offences = Vec::new();
    for path in files::below(root, enter)? {
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        let found = if name.ends_with(".rs") {
            rules::check(&name, &files::read(&path)?, &equations)
        } else if name.starts_with("configs/") && name.ends_with(".toml") {
            documents::check_config(&files::read(&path)?)
        } else {
            continue;
        };
        offences.extend(
            found
                .iter()
                .map(|(line, what)| format!("{name}:{line}: {what}")),
        );
    }
    Ok(offences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        run().unwrap();
    }
}
