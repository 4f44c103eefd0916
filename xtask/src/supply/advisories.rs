//! Known vulnerabilities of the dependencies: the lock file beside a snapshot of RustSec's database, without a network.
//!
//! The snapshot, `xtask/advisories.toml`, holds of every advisory what decides: its number, the crate, its kind, and the versions
//! that it does not concern. What is known and accepted is in `deny.toml`, each with a reason.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use super::deny::{Deny, Ignored};
use crate::{command, files, workspace};

/// Below the root of the workspace.
const SNAPSHOT: &str = "xtask/advisories.toml";
/// Where the database is.
const DATABASE: &str = "https://github.com/rustsec/advisory-db";

/// Makes the snapshot anew.
#[derive(clap::Args)]
pub(crate) struct Advisories {
    /// A clone of https://github.com/rustsec/advisory-db
    #[arg(value_name = "FOLDER")]
    database: PathBuf,
}

/// What an advisory warns of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Vulnerability,
    Unsound,
    Unmaintained,
    Notice,
}

/// One line of the snapshot.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Advisory {
    id: String,
    package: String,
    kind: Kind,
    /// Ranges of versions that it does not concern.
    safe: Vec<VersionReq>,
}

#[derive(Deserialize)]
struct Snapshot {
    advisory: Vec<Advisory>,
}

/// A package of the lock file.
#[derive(Deserialize)]
struct Locked {
    name: String,
    version: Version,
    /// None for the crates of the workspace.
    source: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// The packages of a lock file.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

/// Makes the snapshot anew from a clone of the database.
pub(crate) fn refresh(args: &Advisories) -> Result<()> {
    let mut advisories = Vec::new();
    for path in files::below(&args.database.join("crates"), |_| true)? {
        let advisory = Advisory::of_page(&files::read(&path)?);
        advisories.extend(advisory.with_context(|| path.display().to_string())?);
    }
    advisories.sort_by(|one, other| (&one.package, &one.id).cmp(&(&other.package, &other.id)));
    let text = format!(
        "# {} advisories of {DATABASE}, {}\n\
         # Numbers, crates and versions only; the database is in the public domain (CC0-1.0), what it took from GitHub's under CC-BY-4.0.\n\
         # Made by `cargo xtask advisories FOLDER`: number, crate, kind, versions that are not concerned\n\
         advisory = [\n{}]\n",
        advisories.len(),
        state_of(&args.database)?,
        advisories
            .iter()
            .map(Advisory::line)
            .collect::<Result<String>>()?
    );
    files::write(&workspace::root().join(SNAPSHOT), text)?;
    println!("{SNAPSHOT}: {} advisories", advisories.len());
    check(&Deny::read()?)
}

/// Checks the lock file.
pub(super) fn check(deny: &Deny) -> Result<()> {
    let root = workspace::root();
    let snapshot = files::read(&root.join(SNAPSHOT))?;
    let lock = toml::from_str(&files::read(&root.join("Cargo.lock"))?);
    let offences = offences(
        &lock.context("unreadable: Cargo.lock")?,
        &parse(&snapshot)?,
        &deny.advisories.ignore,
    );
    ensure!(offences.is_empty(), "advisories:\n{}", offences.join("\n"));
    let about = snapshot.lines().next().unwrap_or_default();
    println!(
        "{}: none concerns the lock file",
        about.trim_start_matches("# ")
    );
    Ok(())
}

/// What is wrong: packages that an advisory concerns, and accepted advisories that concern none.
fn offences(lock: &Lock, advisories: &[Advisory], accepted: &[Ignored]) -> Vec<String> {
    let mut offences = Vec::new();
    let mut needed = vec![false; accepted.len()];
    for advisory in advisories {
        for package in lock.concerned_by(advisory) {
            match accepted.iter().position(|one| one.id == advisory.id) {
                Some(index) => needed[index] = true,
                None => offences.push(advisory.of(package)),
            }
        }
    }
    for (one, is_needed) in accepted.iter().zip(needed) {
        // One that is newer than the snapshot cannot be looked up.
        if !is_needed && advisories.iter().any(|advisory| advisory.id == one.id) {
            offences.push(format!(
                "deny.toml accepts {}, which concerns nothing",
                one.id
            ));
        }
        if one.reason.is_empty() {
            offences.push(format!("deny.toml accepts {} without a reason", one.id));
        }
    }
    offences
}

impl Advisory {
    /// The advisory on a page of the database; none where it was withdrawn.
    fn of_page(text: &str) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Page {
            advisory: About,
            versions: Versions,
        }
        #[derive(Deserialize)]
        struct About {
            id: String,
            package: String,
            informational: Option<Kind>,
            withdrawn: Option<String>,
        }
        #[derive(Deserialize)]
        struct Versions {
            #[serde(default)]
            patched: Vec<VersionReq>,
            #[serde(default)]
            unaffected: Vec<VersionReq>,
        }
        let head = text.split("```").nth(1).context("no head")?;
        let head = head.strip_prefix("toml").context("no head in TOML")?;
        let Page { advisory, versions } = toml::from_str(head)?;
        if advisory.withdrawn.is_some() {
            return Ok(None);
        }
        Ok(Some(Self {
            id: advisory.id,
            package: advisory.package,
            kind: advisory.informational.unwrap_or(Kind::Vulnerability),
            safe: [versions.patched, versions.unaffected].concat(),
        }))
    }

    /// As it stands in the snapshot.
    fn line(&self) -> Result<String> {
        Ok(format!("    {},\n", toml::Value::try_from(self)?))
    }

    /// What it says of a package.
    fn of(&self, package: &Locked) -> String {
        let safe: Vec<String> = self.safe.iter().map(ToString::to_string).collect();
        let (id, kind) = (&self.id, format!("{:?}", self.kind).to_lowercase());
        let safe = match safe.as_slice() {
            [] => "no version is free of it".to_owned(),
            safe => format!("not in {}", safe.join(" | ")),
        };
        format!(
            "{} {}: {kind}, {safe}: https://rustsec.org/advisories/{id}",
            package.name, package.version
        )
    }
}

impl Lock {
    /// The packages that an advisory concerns. That nobody looks after a crate any more, or a mere notice, matters for those
    /// that the workspace itself names, as `deny.toml` has it.
    fn concerned_by<'a>(&'a self, advisory: &'a Advisory) -> impl Iterator<Item = &'a Locked> {
        let matters = |package: &Locked| match advisory.kind {
            Kind::Vulnerability | Kind::Unsound => true,
            Kind::Unmaintained | Kind::Notice => self.is_named(&package.name),
        };
        self.package
            .iter()
            .filter(|package| package.source.is_some() && package.name == advisory.package)
            .filter(|package| {
                !advisory
                    .safe
                    .iter()
                    .any(|range| range.matches(&package.version))
            })
            .filter(move |package| matters(package))
    }

    /// Whether a crate of the workspace depends on it directly.
    fn is_named(&self, name: &str) -> bool {
        let ours = self.package.iter().filter(|one| one.source.is_none());
        ours.flat_map(|one| &one.dependencies)
            .any(|dependency| dependency.split(' ').next() == Some(name))
    }
}

/// The advisories of a snapshot.
fn parse(snapshot: &str) -> Result<Vec<Advisory>> {
    let Snapshot { advisory } = toml::from_str(snapshot).with_context(|| SNAPSHOT)?;
    Ok(advisory)
}

/// Date and commit of a clone.
fn state_of(database: &Path) -> Result<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(database);
    let said = command::answer(git.args(["log", "-1", "--format=%cs, commit %H"]))?;
    Ok(said.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Vec<Advisory> {
        parse(&files::read(&workspace::root().join(SNAPSHOT)).unwrap()).unwrap()
    }

    /// A workspace that names one crate, which brings another.
    fn lock(direct: &str, indirect: &str) -> Lock {
        let [(direct, one), (indirect, other)] =
            [direct, indirect].map(|text| text.split_once(' ').unwrap());
        let registry = "source = \"registry+x\"";
        toml::from_str(&format!(
            "[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\ndependencies = [\"{direct}\"]\n\
             [[package]]\nname = \"{direct}\"\nversion = \"{one}\"\n{registry}\ndependencies = [\"{indirect} {other}\"]\n\
             [[package]]\nname = \"{indirect}\"\nversion = \"{other}\"\n{registry}\n"
        ))
        .unwrap()
    }

    fn found(direct: &str, indirect: &str) -> Vec<String> {
        offences(&lock(direct, indirect), &snapshot(), &[])
    }

    #[test]
    fn versions_with_known_holes_are_found_in_the_snapshot() {
        for (package, id) in [
            ("tar 0.4.44", "RUSTSEC-2026-0067"),
            ("zip 2.2.0", "RUSTSEC-2025-0168"),
            ("rustls-webpki 0.103.9", "RUSTSEC-2026-0049"),
            // Unsound.
            ("anyhow 1.0.102", "RUSTSEC-2026-0190"),
        ] {
            for found in [found(package, "serde 1.0.0"), found("serde 1.0.0", package)] {
                assert!(
                    found.iter().any(|one| one.contains(id)),
                    "{package}: {found:?}"
                );
            }
        }
        assert_eq!(found("tar 0.4.45", "zip 9.8.1"), [""; 0]);
    }

    #[test]
    fn what_nobody_looks_after_matters_where_the_workspace_names_it() {
        let found = [
            found("paste 1.0.15", "serde 1.0.0"),
            found("serde 1.0.0", "paste 1.0.15"),
        ];
        assert!(found[0][0].contains("RUSTSEC-2024-0436"), "{found:?}");
        assert_eq!(found[1], [""; 0]);
    }

    #[test]
    fn an_accepted_advisory_has_a_reason_and_concerns_something() {
        let accepted = |id: &str, reason: &str| Ignored {
            id: id.to_owned(),
            reason: reason.to_owned(),
        };
        let lock = lock("zip 2.2.0", "serde 1.0.0");
        let with = |id, reason| offences(&lock, &snapshot(), &[accepted(id, reason)]);
        assert_eq!(with("RUSTSEC-2025-0168", "because"), [""; 0]);
        assert!(with("RUSTSEC-2025-0168", "")[0].contains("without a reason"));
        assert!(with("RUSTSEC-2026-0067", "because")[1].contains("concerns nothing"));
        // Not in the snapshot yet.
        assert_eq!(with("RUSTSEC-2099-0001", "because").len(), 1);
    }

    #[test]
    fn a_page_of_the_database_becomes_a_line_that_reads_back() {
        let page = "```toml\n[advisory]\nid = \"RUSTSEC-2000-0001\"\npackage = \"a\"\ndate = \"2000-01-01\"\n\
            informational = \"unsound\"\n[versions]\npatched = [\">= 1.2, < 2.0\", \"^ 2.0.1\"]\nunaffected = [\"< 0.3.0-alpha.1\"]\n```\n# Title\n";
        let advisory = Advisory::of_page(page).unwrap().unwrap();
        assert_eq!(advisory.safe[2].to_string(), "<0.3.0-alpha.1");
        let snapshot = format!("advisory = [\n{}]", advisory.line().unwrap());
        assert_eq!(parse(&snapshot).unwrap(), [advisory]);
        let withdrawn = page.replace("[versions]", "withdrawn = \"2000-01-02\"\n[versions]");
        assert_eq!(Advisory::of_page(&withdrawn).unwrap(), None);
        assert!(Advisory::of_page("# Title\n").is_err());
    }

    #[test]
    fn the_snapshot_is_the_whole_database() {
        // It had 1,192 on 2026-08-21, and none leaves it but by being withdrawn.
        assert!(snapshot().len() > 1100);
    }
}
