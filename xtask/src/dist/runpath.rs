//! Where a program looks for its libraries, changed in the program: cargo writes the folder of the machine that it builds on.

use crate::{command, files};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Sets the run path of a program to one that is not longer.
pub(super) fn set(program: &Path, path: &str) -> Result<()> {
    let mut bytes = fs::read(program).context("cannot read a program")?;
    change(&mut bytes, &run_path(program)?, path)?;
    let about = fs::metadata(program).context("cannot look at a program")?;
    files::write(program, bytes)?;
    fs::set_permissions(program, about.permissions()).context("cannot make a program one")?;
    let now = run_path(program)?;
    ensure!(now == path, "expected the run path {path}, got {now}");
    Ok(())
}

/// The run path of a program, by a program that comes with every C++ compiler.
fn run_path(program: &Path) -> Result<String> {
    let mut readelf = Command::new("readelf");
    let said = command::answer(readelf.env("LC_ALL", "C").arg("--dynamic").arg(program))?;
    let mut lines = said.lines().filter(|line| line.contains("(RUNPATH)"));
    let path = lines.find_map(|line| line.split(['[', ']']).nth(1));
    let path = path.with_context(|| format!("{} has no run path", program.display()))?;
    Ok(path.to_owned())
}

/// Replaces the first text that is `old`, which is that of the table of names: it comes before all else that a program says.
fn change(bytes: &mut [u8], old: &str, new: &str) -> Result<()> {
    ensure!(
        new.len() <= old.len(),
        "expected at most {} characters, got {new}",
        old.len()
    );
    let text = format!("\0{old}\0");
    let at = bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes());
    let at = at.context("the run path is not in the program")? + 1;
    bytes[at..at + old.len()].fill(0);
    bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_replaced_and_nothing_else() {
        let before = b"/home/me/lib\0a\0/home/me/lib\0b\0/home/me/lib\0";
        let mut bytes = before.to_vec();
        change(&mut bytes, "/home/me/lib", "$ORIGIN/lib").unwrap();
        assert_eq!(&bytes[15..30], b"$ORIGIN/lib\0\0b\0");
        assert_eq!((&bytes[..15], &bytes[30..]), (&before[..15], &before[30..]));
        assert!(change(&mut bytes, "/lib", "$ORIGIN/lib").is_err());
        assert!(change(&mut bytes, "/elsewhere", "/lib").is_err());
    }
}
