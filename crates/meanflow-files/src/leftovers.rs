//! Hidden files that killed processes left beside the files they were writing.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process;

use crate::durable::{folder_of, remove_file};

/// Removes the hidden files of processes that do not run any more from a folder. Only names of our pattern are touched:
/// `.NAME.PROCESS-COUNT.tmp`, and `.NAME.partial-PROCESS` of early versions. A folder that does not exist has none.
///
/// Those of this process's number are removed too, as an earlier process had it, so nothing may be written meanwhile.
///
/// # Errors
/// Those of the operating system.
pub fn remove_leftovers(folder: &Path) -> io::Result<()> {
    remove(folder, |_, process| {
        !is_running(process) || process == process::id()
    })
}

/// Removes the hidden files beside the file `path` of processes that do not run any more.
pub(crate) fn remove_leftovers_of(path: &Path) -> io::Result<()> {
    let wanted = path.file_name().and_then(|name| name.to_str());
    remove(folder_of(path), |name, process| {
        Some(name) == wanted && !is_running(process)
    })
}

/// Whether a name is that of a file which a write left unfinished, or has not finished yet.
pub fn is_leftover(name: &str) -> bool {
    parse(name).is_some()
}

fn remove(folder: &Path, is_left: impl Fn(&str, u32) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some((name, process)) = name.to_str().and_then(parse) else {
            continue;
        };
        if is_left(name, process) {
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

/// The name of the file that was to be written, and the process that wrote it.
fn parse(name: &str) -> Option<(&str, u32)> {
    let hidden = name.strip_prefix('.')?;
    if let Some((name, process)) = hidden.rsplit_once(".partial-") {
        return Some((name, process.parse().ok()?));
    }
    let (name, numbers) = hidden.strip_suffix(".tmp")?.rsplit_once('.')?;
    let (process, count) = numbers.split_once('-')?;
    count.parse::<u64>().ok()?;
    Some((name, process.parse().ok()?))
}

/// Whether a process of this number runs.
fn is_running(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}
