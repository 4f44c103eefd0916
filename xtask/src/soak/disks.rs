//! Runs on a disk that is too small for them: they say so, and go on where there is room.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::runs::Runs;
use crate::{command, files};

/// Exit code of the program on a full disk.
const FULL: i32 = 6;
/// What the program is started by: mounts a disk of so many KiB of memory where the run is to be, in a world of its own, trains
/// there, and copies what the disk holds away before the world ends.
const SCRIPT: &str = r#"mount -t tmpfs -o size="$1"k tmpfs run || exit 99
shift
"$@"
code=$?
cp -a run kept || exit 99
exit $code"#;

/// Runs on disks of random sizes; each fails as a full disk should, or ends, and then ends where there is room.
pub(super) fn run(runs: &mut Runs, count: usize) -> Result<()> {
    if !may_mount()? {
        println!("disks: left out, as nobody may mount one here");
        return Ok(());
    }
    let whole = kib(&runs.path("whole"))?;
    let mut full = 0;
    for number in 0..count {
        let scene = format!("disk-{number}");
        let size = 4 + runs.random.u64(..2 * whole);
        let run = runs.path(&scene);
        fs::create_dir_all(&run)?;
        let child = runs.train_by(&scene, on_a_disk(size, runs))?;
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        ensure!(
            code == Some(FULL) || code == Some(0),
            "{scene}, {size} KiB: exit code {code:?}: {said}"
        );
        full += usize::from(code == Some(FULL));
        fs::remove_dir(&run).context("the disk is still there")?;
        fs::rename(runs.folder.join(&scene).join("kept"), &run)?;
        // What was on the disk is whole, or was never counted.
        let said = runs.finish(&scene)?;
        ensure!(!said.contains("damaged"), "{scene}, {size} KiB: {said}");
        runs.compare(&scene)?;
    }
    println!("disks: {count}, {full} of them too small; 0 runs differ");
    Ok(())
}

fn on_a_disk(size: u64, runs: &Runs) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"])
        .arg(size.to_string())
        .arg(&runs.program);
    command
}

/// Whether this system lets its users have disks of their own.
fn may_mount() -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let words = "--map-root-user --mount mount -t tmpfs tmpfs";
    let mut command = Command::new("unshare");
    command.args(words.split(' ')).arg(folder.path());
    Ok(command::answer(&mut command).is_ok())
}

/// The size of a folder, every file in whole pages.
fn kib(folder: &Path) -> Result<u64> {
    let mut size = 4;
    for path in files::entries(folder)? {
        size += match path.is_dir() {
            true => kib(&path)?,
            false => path.metadata()?.len().div_ceil(4096) * 4,
        };
    }
    Ok(size)
}
