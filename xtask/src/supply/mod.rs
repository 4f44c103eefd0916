//! What the dependencies may be: licences that let everybody use the program, one registry, and no versions with known holes.
//!
//! `deny.toml` says the same to cargo-deny, which is run where it is installed; it also knows of other platforms.

mod advisories;

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::packages::{Package, packages};

pub(crate) use advisories::{Advisories, refresh};

/// Licences that ask for no more than a notice.
const LICENCES: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that are not wanted in versions below this, or at all, with the reason.
const REFUSED: [(&str, Option<[u64; 3]>, &str); 3] = [
    ("tar", Some([0, 4, 45]), "RUSTSEC-2026-0067, 0068"),
    ("tensorboard-rs", None, "RUSTSEC-2024-0437"),
    ("openssl-sys", None, "downloads use rustls"),
];

/// Checks every dependency of the lock file on this platform, all of them beside the known advisories, and, where cargo-deny is installed, all that it checks without an
/// advisory database.
pub(crate) fn run() -> Result<()> {
    let packages = packages(Some(&platform()?))?;
    let offences: Vec<String> = packages.iter().filter_map(offence).collect();
    ensure!(
        offences.is_empty(),
        "dependencies:\n{}",
        offences.join("\n")
    );
    println!("{} packages", packages.len());
    advisories::check()?;
    if command::works("cargo-deny", &["--version"])? {
        let line = "deny check bans licenses sources";
        command::succeed(command::cargo().args(line.split(' ')))?;
    }
    Ok(())
}

/// The name of this platform, as the compiler has it.
fn platform() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output();
    let output = output.context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// What is wrong with a package.
fn offence(package: &Package) -> Option<String> {
    let Package {
        name,
        version,
        license,
        source,
        ..
    } = package;
    let licence = license.as_deref().unwrap_or("none");
    if !is_permissive(licence) {
        return Some(format!("{name} {version}: licence {licence}"));
    }
    if source
        .as_ref()
        .is_some_and(|source| !source.starts_with("registry+"))
    {
        return Some(format!(
            "{name} {version}: from {source:?}, expected the registry"
        ));
    }
    let refused = REFUSED.iter().find(|(refused, floor, _)| {
        refused == name && floor.is_none_or(|floor| parse(version) < floor)
    });
    refused.map(|(_, _, reason)| format!("{name} {version}: {reason}"))
}

/// Whether one of the alternatives of a licence expression asks for permissive licences only.
fn is_permissive(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let is_known = |licence: &str| LICENCES.contains(&licence.trim());
    // Within parentheses are alternatives: as if every one of them had to be permissive, unless there are none outside.
    if expression.contains(" AND ") {
        return plain
            .split(" AND ")
            .all(|part| part.split(" OR ").any(is_known));
    }
    plain.split(" OR ").any(is_known)
}

/// Major, minor and patch of a version.
fn parse(version: &str) -> [u64; 3] {
    let mut numbers = version
        .split(['.', '-', '+'])
        .map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_licences_that_let_everybody_use_the_program_pass() {
        for (licence, is_good) in [
            ("MIT", true),
            ("MIT OR GPL-3.0", true),
            ("MIT/Apache-2.0", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("AGPL-3.0", false),
            ("MITX", false),
            ("none", false),
        ] {
            assert_eq!(is_permissive(licence), is_good, "{licence}");
        }
    }

    #[test]
    fn versions_with_known_holes_are_refused() {
        let package = |name: &str, version: &str, source: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: Some("MIT".to_owned()),
            manifest_path: "Cargo.toml".into(),
            source: Some(source.to_owned()),
        };
        for (name, version, source, is_good) in [
            ("tar", "0.4.44", "registry+x", false),
            ("tar", "0.4.45", "registry+x", true),
            ("tar", "0.10.0-rc.1", "registry+x", true),
            ("openssl-sys", "99.0.0", "registry+x", false),
            ("serde", "1.0.0", "git+x", false),
        ] {
            let offence = offence(&package(name, version, source));
            assert_eq!(offence.is_none(), is_good, "{name} {version}");
        }
    }

    #[test]
    fn the_dependencies_of_the_lock_file_are_in_order() {
        let offences: Vec<String> = packages(Some(&platform().unwrap()))
            .unwrap()
            .iter()
            .filter_map(offence)
            .collect();
        assert_eq!(offences, [""; 0]);
    }
}
