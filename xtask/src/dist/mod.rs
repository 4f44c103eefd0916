//! `cargo xtask dist`: an archive with the program, its libtorch and every licence, which runs where it is unpacked.

mod licenses;
mod runpath;
mod trial;

use crate::{command, files, program, workspace};
use anyhow::{Result, ensure};
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
    let name = format!("meanflow-{}-{PLATFORM}", env!("CARGO_PKG_VERSION"));
    let place = workspace::target().join("dist");
    let folder = place.join(&name);
    files::remove(&folder)?;
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
    let programs = program::build("--locked --package meanflow-cli --bin meanflow")?;
    for part in ["bin", "lib", "licenses"] {
        files::make_folder(&folder.join(part))?;
    }
    let program = folder.join("bin/meanflow");
    // Without its symbols, and with the one place of its libtorch that is right everywhere.
    program::strip(&programs.join("meanflow"), &program)?;
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
        for path in files::entries(&folder.join(part))? {
            let mut readelf = Command::new("readelf");
            let said = command::answer(readelf.arg("--version-info").arg(path))?;
            newest = newest.max(newest_of(&said));
        }
    }
    ensure!(newest > (0, 0), "no version of glibc in the program");
    Ok(format!("{}.{}", newest.0, newest.1))
}

/// The newest `GLIBC_N.N` in a text.
fn newest_of(text: &str) -> (u32, u32) {
    let version = |rest: &str| {
        let mut numbers = rest.split(|letter: char| !letter.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    let versions = text.split("GLIBC_").skip(1).filter_map(version);
    versions.max().unwrap_or_default()
}

/// The libraries of the libtorch that the program was linked with; linker scripts, which a program does not read, are left out.
fn libraries(to: &Path) -> Result<()> {
    let own =
        env::var_os("LIBTORCH").map_or_else(|| workspace::root().join(".libtorch"), PathBuf::from);
    let from = own.join("lib");
    for path in files::entries(&from)? {
        let name = files::name(&path);
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
        let text = "GLIBC_2.4 GLIBC_2.34 GLIBC_2.9 GLIBC_PRIVATE GLIBC_2.2.5";
        assert_eq!(newest_of(text), (2, 34));
        assert_eq!(newest_of("GLIBC_"), (0, 0));
    }
}
