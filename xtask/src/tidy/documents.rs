//! What the documents and recipes must keep to.

use crate::files;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// What the opening comment of a recipe must name.
const NAMED: [&str; 3] = ["cargo xtask train", "hardware:", "expected:"];

/// The numbers of the equations that the derivation defines: first cells `| M7 |` of its tables.
pub(super) fn equations(root: &Path) -> Result<BTreeSet<String>> {
    let text = files::read(&root.join("docs/src/derivation.md"))?;
    Ok(numbers(&text))
}

fn numbers(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| "));
    let first = cells.filter_map(|cells| cells.split(" |").next());
    first
        .filter(|cell| cell.starts_with('M') && cell[1..].parse::<u32>().is_ok())
        .map(str::to_owned)
        .collect()
}

/// The offences of a recipe: it opens with a comment that names command, hardware and expected result.
pub(super) fn check_config(text: &str) -> Vec<(usize, String)> {
    let opening: Vec<&str> = text
        .lines()
        .take_while(|line| line.starts_with('#'))
        .collect();
    let opening = opening.join("\n").to_lowercase();
    let missing = NAMED.iter().filter(|word| !opening.contains(**word));
    missing
        .map(|word| (1, format!("the opening comment names no `{word}`")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_the_first_cells_of_tables() {
        let text = "| | formula |\n|---|---|\n| M1 | z |\n| M21 | ω' |\ntext (M3) | M4 |\n| M | x |\n| Mean | y |\n";
        assert_eq!(numbers(text), ["M1", "M21"].map(str::to_owned).into());
    }

    #[test]
    fn a_recipe_says_how_where_and_what() {
        let good = "#   cargo xtask train configs/a.toml\n# Hardware: 2 cores\n# Expected: a picture\n\n[data]\n";
        assert!(check_config(good).is_empty());
        assert_eq!(
            check_config("[data]\n# cargo xtask train hardware: expected:\n").len(),
            3
        );
        assert_eq!(check_config(&good.replace("Hardware:", "On")).len(), 1);
    }
}
