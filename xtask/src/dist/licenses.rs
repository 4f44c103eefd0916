//! The licences of everything that is in the archive.

use crate::packages::packages;
use crate::{command, files, workspace};
use anyhow::{Context, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Wheels by the beginning of their names, and the licences in them: those of the libraries of libtorch.
const WHEELS: [(&str, &[&str]); 3] = [
    ("torch-2.11.0", &["LICENSE", "NOTICE"]),
    ("nvidia_cuda_cupti", &["License.txt"]),
    ("nvidia_cuda_runtime", &["License.txt"]),
];

/// How files with licences begin.
const BEGINNINGS: [&str; 5] = ["license", "licence", "copying", "notice", "unlicense"];

/// Writes `rust-crates.txt` and the licences of libtorch into a folder.
pub(super) fn write(folder: &Path) -> Result<()> {
    let text = crates()?;
    files::write(&folder.join("rust-crates.txt"), text)?;
    for (wheel, names) in WHEELS {
        of_wheel(wheel, names, folder)?;
    }
    Ok(())
}

/// The crates that the program is made of with their licences; a text that several share stands there once.
fn crates() -> Result<String> {
    let of_program = tree()?;
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut list = String::new();
    for package in packages(None)? {
        let name = format!("{} {}", package.name, package.version);
        if package.source.is_none() || !of_program.contains(&name) {
            continue;
        }
        list += &format!(
            "{name}: {}\n",
            package.license.as_deref().unwrap_or("see below")
        );
        for text in texts_of(&package.manifest_path)? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    let mut all = format!("The crates that this program is made of, and their licences.\n\n{list}");
    for (text, names) in texts {
        all += &format!(
            "\n{}\n{}\n\n{}\n",
            "=".repeat(80),
            names.join(", "),
            text.trim_end()
        );
    }
    Ok(all)
}

/// `name version` of every crate in the program.
fn tree() -> Result<Vec<String>> {
    let words = "tree --package meanflow-cli --edges normal --prefix none --locked --format {p}";
    let lines = command::answer(command::cargo().args(words.split(' ')))?;
    let name = |line: &str| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?);
        Some(format!("{name} {}", version.trim_start_matches('v')))
    };
    Ok(lines.lines().filter_map(name).collect())
}

/// The texts beside a crate's manifest.
fn texts_of(manifest: &Path) -> Result<Vec<String>> {
    let folder = manifest.parent().context("a manifest is in a folder")?;
    let mut files = files::entries(folder)?;
    files.retain(|path| {
        let name = files::name(path).to_lowercase();
        path.is_file()
            && BEGINNINGS
                .iter()
                .any(|beginning| name.starts_with(beginning))
    });
    let texts = files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    Ok(texts.collect())
}

/// Files with licences out of a wheel that libtorch came from.
fn of_wheel(beginning: &str, names: &[&str], folder: &Path) -> Result<()> {
    let downloads = workspace::cache()?;
    let wheel = files::entries(&downloads)?
        .into_iter()
        .find(|path| files::ends(path, "whl") && files::name(path).starts_with(beginning));
    let wheel = wheel.with_context(|| format!("no wheel {beginning}* in {}, which has its licence: `cargo xtask libtorch --from wheel`", downloads.display()))?;
    let mut archive = zip::ZipArchive::new(File::open(&wheel)?)
        .with_context(|| format!("unreadable: {}", wheel.display()))?;
    for name in names {
        let end = format!(".dist-info/licenses/{name}");
        let entries = archive.file_names().filter_map(Result::ok);
        let found = entries
            .map(Cow::into_owned)
            .find(|entry| entry.ends_with(&end));
        let found = found.with_context(|| format!("{}: no {name}", wheel.display()))?;
        let mut text = Vec::new();
        archive.by_name(&found)?.read_to_end(&mut text)?;
        files::write(&folder.join(format!("{beginning}-{name}")), text)?;
    }
    Ok(())
}
