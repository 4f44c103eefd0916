//! `meanflow completions` and `meanflow man`: what shells and `man` know of the program.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use meanflow_data::write_bytes;

use crate::output::{say, write_text};

/// Print the script by which a shell completes this program's words.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
meanflow completions bash \\\n    > ~/.local/share/bash-completion/completions/meanflow\n  \
meanflow completions zsh > ~/.zfunc/_meanflow\n  meanflow completions fish > ~/.config/fish/completions/meanflow.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages of all commands, or print that of the program.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow man | man -l -\n  meanflow man --out ~/.local/share/man/man1"
)]
pub(crate) struct Manual {
    /// The folder to write them to
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// `program` is all that the program takes.
pub(crate) fn completions(args: &Completions, mut program: Command) -> anyhow::Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut program, "meanflow", &mut text);
    write_text(&text);
    Ok(0)
}

/// `program` is all that the program takes.
pub(crate) fn manual(args: &Manual, mut program: Command) -> anyhow::Result<u8> {
    program.build();
    let Some(folder) = &args.out else {
        write_text(&page(&program, "meanflow")?);
        return Ok(0);
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let pages = pages(&program, "meanflow")?;
    for (name, page) in &pages {
        write_bytes(&folder.join(format!("{name}.1")), page)?;
    }
    say(format_args!("{}: {} pages", folder.display(), pages.len()));
    Ok(0)
}

/// The pages of a command and of those below it, with their names.
fn pages(command: &Command, name: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut all = vec![(name.to_owned(), page(command, name)?)];
    for below in command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
    {
        all.extend(pages(below, &format!("{name}-{}", below.get_name()))?);
    }
    Ok(all)
}

fn page(command: &Command, title: &str) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    let manual = Man::new(command.clone()).title(title);
    manual.render(&mut page)?;
    Ok(page)
}
