//! A folder that a command fills, and the mark in it until that is done.
//!
//! A command that is killed leaves half of its files. The mark says which command it was, so that the same one may fill the
//! folder again, where any other is refused.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use meanflow_data::write_bytes;
use meanflow_files::{create_folder, is_leftover, remove_file, remove_leftovers};

use crate::usage::Usage;

const MARK: &str = ".unfinished";

/// Refuses a folder with other files than those that this very command left when it was killed.
pub(crate) fn refuse_others(folder: &Path, advice: &str) -> anyhow::Result<()> {
    let shown = folder.display();
    if folder.is_file() {
        return Err(Usage(format!("--out {shown}: expected a folder, got a file")).into());
    }
    let begun = fs::read_to_string(folder.join(MARK));
    match begun {
        Ok(command) if command == this_command() => Ok(()),
        Ok(command) => {
            let text = format!(
                "--out {shown}: the folder is half filled by `{command}`, which goes on with it; {advice}"
            );
            Err(Usage(text).into())
        }
        Err(_) if is_occupied(folder)? => {
            let text = format!("--out {shown}: the folder is not empty; {advice}");
            Err(Usage(text).into())
        }
        Err(_) => Ok(()),
    }
}

/// A folder that is being filled.
pub(crate) struct Unfinished {
    folder: PathBuf,
}

impl Unfinished {
    /// Makes the folder where it does not exist, removes what killed processes left half written, and sets the mark.
    pub(crate) fn begin(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        create_folder(folder).with_context(|| format!("cannot make the folder {shown}"))?;
        let clean = || {
            remove_leftovers(folder)?;
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    remove_leftovers(&path)?;
                }
            }
            Ok::<_, std::io::Error>(())
        };
        clean().with_context(|| format!("cannot remove unfinished files from {shown}"))?;
        write_bytes(&folder.join(MARK), this_command().as_bytes())?;
        let folder = folder.to_owned();
        Ok(Self { folder })
    }

    /// Takes the mark away: the folder is what it should be.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let mark = self.folder.join(MARK);
        remove_file(&mark).with_context(|| format!("cannot remove {}", mark.display()))
    }
}

/// Whether a folder has other files than those that killed processes left half written.
fn is_occupied(folder: &Path) -> anyhow::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        entries => entries.with_context(|| format!("cannot list {}", folder.display()))?,
    };
    let others = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        !name.to_str().is_some_and(is_leftover)
    });
    Ok(others.count() > 0)
}

/// The command line without the name of the program.
fn this_command() -> String {
    let words = env::args_os().skip(1);
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    format!("meanflow {}", words.join(" "))
}
