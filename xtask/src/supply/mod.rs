//! What the dependencies may be: licences that let everybody use the program, one registry, and no versions with known holes.
//!
//! `deny.toml` says what they may be, to cargo-deny as well, which is run where it is installed; it also knows of other platforms.

mod advisories;
mod deny;

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::packages::{Package, packages};
use deny::Deny;

pub(crate) use advisories::{Advisories, refresh};

/// Checks every dependency of the lock file on this platform, all of them beside the known advisories, and, where cargo-deny is installed, all that it checks without an
/// advisory database.
pub(crate) fn run() -> Result<()> {
    let (deny, packages) = (Deny::read()?, packages(Some(&platform()?))?);
    let offence = |package: &Package| offence(&deny, package);
    let offences: Vec<String> = packages.iter().filter_map(offence).collect();
    ensure!(
        offences.is_empty(),
        "dependencies:\n{}",
        offences.join("\n")
    );
    println!("{} packages", packages.len());
    advisories::check(&deny)?;
    if command::works("cargo-deny", &["--version"])? {
        let line = "deny check bans licenses sources";
        command::succeed(command::cargo().args(line.split(' ')))?;
    }
    Ok(())
}

/// The name of this platform, as the compiler has it.
fn platform() -> Result<String> {
    let text = command::answer(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// What is wrong with a package.
fn offence(deny: &Deny, package: &Package) -> Option<String> {
    let Package {
        name,
        version,
        license,
        source,
        ..
    } = package;
    let licence = license.as_deref().unwrap_or("none");
    if !is_permissive(&deny.licenses.allow, licence) {
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
    let banned = deny.bans.deny.iter().find(|one| one.is(name, version));
    banned.map(|one| format!("{name} {version}: {}", one.reason))
}

/// Whether one of the alternatives of a licence expression asks for permissive licences only.
fn is_permissive(allowed: &[String], expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let is_known = |licence: &str| allowed.iter().any(|one| one == licence.trim());
    // Within parentheses are alternatives: as if every one of them had to be permissive, unless there are none outside.
    if expression.contains(" AND ") {
        return plain
            .split(" AND ")
            .all(|part| part.split(" OR ").any(is_known));
    }
    plain.split(" OR ").any(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_licences_that_let_everybody_use_the_program_pass() {
        let allowed = Deny::read().unwrap().licenses.allow;
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
            assert_eq!(is_permissive(&allowed, licence), is_good, "{licence}");
        }
    }

    #[test]
    fn versions_with_known_holes_are_refused() {
        let deny = Deny::read().unwrap();
        let package = |name: &str, version: &str, source: &str| Package {
            name: name.to_owned(),
            version: version.parse().unwrap(),
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
            let offence = offence(&deny, &package(name, version, source));
            assert_eq!(offence.is_none(), is_good, "{name} {version}");
        }
    }
}
