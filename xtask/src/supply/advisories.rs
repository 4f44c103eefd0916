//! Known vulnerabilities of the dependencies: the lock file beside a snapshot of RustSec's database, without a network.
//!
//! The snapshot, `xtask/advisories.tsv`, holds of every advisory what decides: its number, the crate, its kind, and the versions
//! that it does not concern. What is known and accepted is in `deny.toml`, each with a reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::{files, workspace};

/// Below the root of the workspace.
const SNAPSHOT: &str = "xtask/advisories.tsv";
/// Where the database is.
const DATABASE: &str = "https://github.com/rustsec/advisory-db";
/// Between two ranges of versions.
const OR: &str = " | ";

/// Makes the snapshot anew.
#[derive(clap::Args)]
pub(crate) struct Advisories {
    /// A clone of https://github.com/rustsec/advisory-db
    #[arg(value_name = "FOLDER")]
    database: PathBuf,
}

/// What an advisory warns of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Vulnerability,
    Unsound,
    Unmaintained,
    Notice,
}

/// One line of the snapshot.
#[derive(Clone, Debug, PartialEq)]
struct Advisory {
    id: String,
    package: String,
    kind: Kind,
    /// Ranges of versions that it does not concern.
    safe: Vec<VersionReq>,
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

/// What is read of `deny.toml`.
#[derive(Deserialize)]
struct Deny {
    advisories: Accepted,
}

#[derive(Deserialize)]
struct Accepted {
    ignore: Vec<Ignored>,
}

#[derive(Deserialize)]
struct Ignored {
    id: String,
    reason: String,
}

/// The packages of a lock file.
struct Lock {
    packages: Vec<Locked>,
}

/// Makes the snapshot anew from a clone of the database.
pub(crate) fn refresh(args: &Advisories) -> Result<()> {
    let mut advisories = Vec::new();
    for package in entries(&args.database.join("crates"))? {
        for path in entries(&package)? {
            let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
            advisories
                .extend(Advisory::of_page(&text).with_context(|| format!("{}", path.display()))?);
        }
    }
    advisories.sort_by(|one, other| (&one.package, &one.id).cmp(&(&other.package, &other.id)));
    let text = format!(
        "# {} advisories of {DATABASE}, {}\n\
         # Numbers, crates and versions only; the database is in the public domain (CC0-1.0), what it took from GitHub's under CC-BY-4.0.\n\
         # Made by `cargo xtask advisories FOLDER`: number, crate, kind, versions that are not concerned\n{}",
        advisories.len(),
        state_of(&args.database)?,
        advisories.iter().map(Advisory::line).collect::<String>()
    );
    files::write(&workspace::root().join(SNAPSHOT), text)?;
    println!("{SNAPSHOT}: {} advisories", advisories.len());
    check()
}

/// Checks the lock file.
pub(crate) fn check() -> Result<()> {
    let root = workspace::root();
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))
    };
    let snapshot = read(SNAPSHOT)?;
    let offences = offences(
        &Lock::parse(&read("Cargo.lock")?)?,
        &parse(&snapshot)?,
        &accepted(&read("deny.toml")?)?,
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
            informational: Option<String>,
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
        let kind = advisory.informational.as_deref();
        Ok(Some(Self {
            id: advisory.id,
            package: advisory.package,
            kind: Kind::parse(kind.unwrap_or("vulnerability"))?,
            safe: [versions.patched, versions.unaffected].concat(),
        }))
    }

    /// As it stands in the snapshot.
    fn line(&self) -> String {
        let safe: Vec<String> = self.safe.iter().map(ToString::to_string).collect();
        let (id, package, kind) = (&self.id, &self.package, self.kind.name());
        format!("{id}\t{package}\t{kind}\t{}\n", safe.join(OR))
    }

    fn parse(line: &str) -> Result<Self> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [id, package, kind, safe] = columns[..] else {
            anyhow::bail!("expected 4 columns, got {}", columns.len());
        };
        let ranges = safe.split(OR).filter(|range| !range.is_empty());
        Ok(Self {
            id: id.to_owned(),
            package: package.to_owned(),
            kind: Kind::parse(kind)?,
            safe: ranges.map(VersionReq::parse).collect::<Result<_, _>>()?,
        })
    }

    /// What it says of a package.
    fn of(&self, package: &Locked) -> String {
        let safe: Vec<String> = self.safe.iter().map(ToString::to_string).collect();
        let (id, kind) = (&self.id, self.kind.name());
        let safe = match safe.as_slice() {
            [] => "no version is free of it".to_owned(),
            safe => format!("not in {}", safe.join(OR)),
        };
        format!(
            "{} {}: {kind}, {safe}: https://rustsec.org/advisories/{id}",
            package.name, package.version
        )
    }
}

impl Kind {
    const ALL: [(Self, &str); 4] = [
        (Self::Vulnerability, "vulnerability"),
        (Self::Unsound, "unsound"),
        (Self::Unmaintained, "unmaintained"),
        (Self::Notice, "notice"),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(kind, _)| *kind == self);
        found.map_or("", |(_, name)| name)
    }

    fn parse(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        Ok(found.with_context(|| format!("unknown kind {text:?}"))?.0)
    }
}

impl Lock {
    fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct File {
            package: Vec<Locked>,
        }
        let File { package } = toml::from_str(text).context("unreadable: Cargo.lock")?;
        Ok(Self { packages: package })
    }

    /// The packages that an advisory concerns. That nobody looks after a crate any more, or a mere notice, matters for those
    /// that the workspace itself names, as `deny.toml` has it.
    fn concerned_by<'a>(&'a self, advisory: &'a Advisory) -> impl Iterator<Item = &'a Locked> {
        let matters = |package: &Locked| match advisory.kind {
            Kind::Vulnerability | Kind::Unsound => true,
            Kind::Unmaintained | Kind::Notice => self.is_named(&package.name),
        };
        self.packages
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
        let ours = self.packages.iter().filter(|one| one.source.is_none());
        ours.flat_map(|one| &one.dependencies)
            .any(|dependency| dependency.split(' ').next() == Some(name))
    }
}

/// The advisories of a snapshot.
fn parse(snapshot: &str) -> Result<Vec<Advisory>> {
    let lines = snapshot.lines().enumerate();
    lines
        .filter(|(_, line)| !line.starts_with('#'))
        .map(|(index, line)| {
            Advisory::parse(line).with_context(|| format!("{SNAPSHOT}:{}", index + 1))
        })
        .collect()
}

fn accepted(deny: &str) -> Result<Vec<Ignored>> {
    let deny: Deny = toml::from_str(deny).context("unreadable: deny.toml")?;
    Ok(deny.advisories.ignore)
}

/// Date and commit of a clone.
fn state_of(database: &Path) -> Result<String> {
    let mut git = Command::new("git");
    let output = git
        .arg("-C")
        .arg(database)
        .args(["log", "-1", "--format=%cs, commit %H"])
        .output();
    let output = output.context("cannot start git")?;
    ensure!(
        output.status.success(),
        "{}: {}",
        database.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Vec<Advisory> {
        parse(&fs::read_to_string(workspace::root().join(SNAPSHOT)).unwrap()).unwrap()
    }

    /// A workspace that names one crate, which brings another.
    fn lock(direct: &str, indirect: &str) -> Lock {
        let [(direct, one), (indirect, other)] =
            [direct, indirect].map(|text| text.split_once(' ').unwrap());
        let registry = "source = \"registry+x\"";
        Lock::parse(&format!(
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
        let accepted = |id: &str, reason: &str| {
            accepted(&format!(
                "[advisories]\nignore = [{{ id = \"{id}\", reason = \"{reason}\" }}]"
            ))
            .unwrap()
        };
        let lock = lock("zip 2.2.0", "serde 1.0.0");
        let with = |id, reason| offences(&lock, &snapshot(), &accepted(id, reason));
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
        assert_eq!(
            advisory.line(),
            "RUSTSEC-2000-0001\ta\tunsound\t>=1.2, <2.0 | ^2.0.1 | <0.3.0-alpha.1\n"
        );
        assert_eq!(
            Advisory::parse(advisory.line().trim_end()).unwrap(),
            advisory
        );
        let withdrawn = page.replace("[versions]", "withdrawn = \"2000-01-02\"\n[versions]");
        assert_eq!(Advisory::of_page(&withdrawn).unwrap(), None);
        assert!(Advisory::of_page("# Title\n").is_err());
    }

    #[test]
    fn the_snapshot_is_the_whole_database_and_the_lock_file_is_in_order() {
        // It had 1,192 on 2026-08-21, and none leaves it but by being withdrawn.
        assert!(snapshot().len() > 1100);
        check().unwrap();
    }
}
