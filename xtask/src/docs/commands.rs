//! The reference of commands, from the program's own help.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command;

/// The help of the program and of every command.
pub(super) fn page(program: &Path) -> Result<String> {
    let mut page = String::from(
        "# Commands\n\nThe program's own help, written by `cargo xtask docs`. `meanflow man --out DIR` writes manual pages, `meanflow completions SHELL` completions.\n",
    );
    add(&mut page, program, &[])?;
    Ok(page)
}

fn add(page: &mut String, program: &Path, words: &[&str]) -> Result<()> {
    let help = help(program, words)?;
    let name = [&["meanflow"], words].concat().join(" ");
    let level = "#".repeat(2 + words.len().min(2));
    write!(
        page,
        "\n{level} {name}\n\n```text\n{}\n```\n",
        help.trim_end()
    )?;
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let of_command = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let names = lines
        .filter(of_command)
        .filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| *name != "help") {
        add(page, program, &[words, &[name]].concat())?;
    }
    Ok(())
}

fn help(program: &Path, words: &[&str]) -> Result<String> {
    let text = command::answer(Command::new(program).args(words).arg("--help"))?;
    // The end of a line is no part of a page.
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    Ok(lines.join("\n"))
}
