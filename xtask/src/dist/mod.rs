//! `cargo xtask dist`: an archive with the program, its libtorch and every licence, which runs where it is unpacked.

mod licenses;
mod runpath;
mod trial;

use crate::{command, files, libtorch, workspace};
use anyhow::{Context, Result, ensure};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the archive goes.
#[derive(clap::Args)]
pub(crate) struct Dist {
    /// The archive, .tar.gz [default: dist in the build folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Do not unpack it elsewhere and run the program.
    #[arg(long)]
    no_trial: bool,
}

/// What stands in the archive for whoever unpacks it.
const README: &str = include_str!("README.md");
/// The platform in names of archives: the only one that this command has been run on.
const PLATFORM: &str = "x86_64-linux-cpu";
/// Files of the checkout that go along.
const FILES: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"];

/// Builds the program, puts everything into a folder, packs that, and tries what was packed.
pub(crate) fn run(args: &Dist) -> Result<()> {
    command::require_cxx()?;
    libtorch::ensure()?;
    let name = format!("meanflow-{}-{PLATFORM}", env!("CARGO_PKG_VERSION"));
    let place = workspace::target().join("dist");
    let folder = place.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fill(&folder)?;
    let default = || place.join(format!("{name}.tar.gz"));
    let archive = args.out.clone().unwrap_or_else(default);
    pack(&place, &name, &archive)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (unpacked, packed) = (files::size(&folder)?, fs::metadata(&archive)?.len());
    println!(
        "{}: {:.0} MiB, unpacked {:.0} MiB",
        archive.display(),
        mib(packed),
        mib(unpacked)
    );
    if args.no_trial {
        return Ok(());
    }
    trial::run(&archive, &name)
}

/// Everything that the archive holds.
fn fill(folder: &Path) -> Result<()> {
    let mut build = command::cargo();
    build.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "meanflow-cli",
        "--bin",
        "meanflow",
    ]);
    command::succeed(&mut build)?;
    for part in ["bin", "lib", "licenses"] {
        files::make_folder(&folder.join(part))?;
    }
    let program = folder.join("bin/meanflow");
    let built = workspace::target().join("release/meanflow");
    // Without its symbols, and with the one place of its libtorch that is right everywhere.
    command::succeed(Command::new("strip").arg("-o").args([&program, &built]))?;
    runpath::set(&program, "$ORIGIN/../lib")?;
    libraries(&folder.join("lib"))?;
    for file in FILES {
        files::copy(&workspace::root().join(file), &folder.join(file))?;
    }
    licenses::write(&folder.join("licenses"))?;
    let readme = README.replace("GLIBC", &glibc(folder)?);
    files::write(&folder.join("README.md"), readme)
}

/// The oldest C library that the program and its libraries run with: the newest version that any of their symbols asks for.
fn glibc(folder: &Path) -> Result<String> {
    let mut newest = (0, 0);
    for part in ["bin", "lib"] {
        for entry in fs::read_dir(folder.join(part))? {
            newest = newest.max(newest_of(&fs::read(entry?.path())?));
        }
    }
    ensure!(newest > (0, 0), "no version of glibc in the program");
    Ok(format!("{}.{}", newest.0, newest.1))
}

/// The newest `GLIBC_N.N` in the text of a program.
fn newest_of(bytes: &[u8]) -> (u32, u32) {
    const WORD: &[u8] = b"GLIBC_";
    let places = bytes
        .windows(WORD.len())
        .enumerate()
        .filter(|(_, window)| *window == WORD);
    let version = |at: usize| {
        let rest = &bytes[at + WORD.len()..];
        let end = rest
            .iter()
            .position(|byte| !(byte.is_ascii_digit() || *byte == b'.'))?;
        let mut numbers = std::str::from_utf8(&rest[..end]).ok()?.split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    places
        .filter_map(|(at, _)| version(at))
        .max()
        .unwrap_or((0, 0))
}

/// The libraries of the libtorch that the program was linked with; linker scripts, which a program does not read, are left out.
fn libraries(to: &Path) -> Result<()> {
    let own =
        env::var_os("LIBTORCH").map_or_else(|| workspace::root().join(".libtorch"), PathBuf::from);
    let from = own.join("lib");
    for entry in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        ensure!(
            !name.contains("_cuda"),
            "{}: a libtorch for CUDA, which is beyond an archive; `cargo xtask libtorch --device cpu`",
            from.display()
        );
        if name.contains(".so") && fs::metadata(&path)?.len() > 1024 {
            files::copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Packs the folder `name` of `place`: the same files are the same bytes.
fn pack(place: &Path, name: &str, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--mtime=@1",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=u+rwX,go+rX,go-w",
    ]);
    tar.args(["--format=gnu", "-I", "gzip -n -6", "-cf"])
        .arg(archive);
    command::succeed(tar.arg("-C").arg(place).arg(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_counts_as_a_number() {
        let text = b"\0GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0GLIBC_2.2.5\0";
        assert_eq!(newest_of(text), (2, 34));
        assert_eq!(newest_of(b"GLIBC_"), (0, 0));
    }
}
