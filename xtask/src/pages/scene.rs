//! A folder that looks like the clone in which a reader types, for one page.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::blocks::Block;
use crate::{command, files, workspace};

/// What of the checkout is seen from the folder.
const LINKS: [&str; 3] = ["benches", "configs", "crates"];
/// After this time a block counts as one that never ends.
const PATIENCE: Duration = Duration::from_secs(240);

/// The program as the pages call it. Trainings and evaluations that take minutes are cut short; the words are the page's own. A
/// server runs until the page ends.
const MEANFLOW: &str = r#"#!/bin/sh
unless() { word=$1; shift; case " $line " in *" $word "*) ;; *) extra="$extra $word $*" ;; esac; }
line="$*"; extra=""
case "$1" in
train | launch) case " $line " in *" --fast-dev-run "*) ;; *) extra="--max-time 5s" ;; esac ;;
eval) unless --samples 40; unless --repeats 2 ;;
serve)
    "$PROGRAM" "$@" > server.log 2>&1 &
    echo $! >> server.pid
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        sleep 0.5
        curl -sf http://127.0.0.1:8080/healthz > healthz.txt && exit 0
    done
    cat server.log >&2
    exit 1 ;;
esac
"$PROGRAM" "$@" $extra
code=$?
# 10: the time was over.
[ $code = 10 ] && exit 0
exit $code
"#;

/// Cargo likewise; what tests everything, and what takes hours, is left to a person.
const CARGO: &str = r#"#!/bin/sh
case "$1 $2" in
"xtask test" | "xtask ablate" | "xtask bench" | "xtask dist") echo "cargo $*" >> not-run.txt; exit 0 ;;
"xtask train") set -- "$@" --max-time 5s ;;
esac
case "$*" in *" -- train "*) set -- "$@" --max-time 5s ;; esac
"$CARGO" "$@"
code=$?
[ $code = 10 ] && exit 0
exit $code
"#;

/// A folder for a page.
pub(super) struct Scene(PathBuf);

impl Scene {
    /// An empty one, or one with everything that another page left.
    pub(super) fn new(folder: &Path, like: Option<&Self>) -> Result<Self> {
        files::remove(folder)?;
        let scene = Self(folder.to_owned());
        match like {
            None => scene.furnish()?,
            Some(like) => files::copy_folder(&like.0, folder)?,
        }
        Ok(scene)
    }

    fn furnish(&self) -> Result<()> {
        files::make_folder(&self.0.join("home"))?;
        for name in LINKS {
            symlink(workspace::root().join(name), self.0.join(name))?;
        }
        for (path, text) in [
            ("bin/meanflow", MEANFLOW),
            ("target/release/meanflow", MEANFLOW),
            ("bin/cargo", CARGO),
        ] {
            let path = self.0.join(path);
            files::make_folder(path.parent().context("a path in a folder")?)?;
            files::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs a block, which must end well, within its time, and leave what it says it writes.
    pub(super) fn run(&self, block: &Block) -> Result<()> {
        let mut child = self.shell(block)?.spawn()?;
        let Some(status) = command::wait_until(&mut child, Instant::now() + PATIENCE)? else {
            child.kill()?;
            child.wait()?;
            bail!("it did not end within {PATIENCE:?}");
        };
        let said = || fs::read_to_string(self.0.join("block.log")).unwrap_or_default();
        ensure!(status.success(), "{status}:\n{}", said());
        for output in block.outputs() {
            let output = output.replace('~', "home");
            ensure!(
                is_something(&self.0.join(&output)),
                "{output} is empty or missing:\n{}",
                said()
            );
        }
        Ok(())
    }

    fn shell(&self, block: &Block) -> Result<Command> {
        let home = |name: &str, default: &str| {
            std::env::var_os(name).map_or_else(
                || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(default),
                PathBuf::from,
            )
        };
        let mut path = self.0.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let cargo = std::env::var_os("CARGO").context("run by cargo")?;
        let text = format!("exec > block.log 2>&1\n{}", block.text);
        let mut shell = Command::new("bash");
        shell
            .args(["-e", "-o", "pipefail", "-c", &text])
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .env("PATH", path)
            .env("CARGO_HOME", home("CARGO_HOME", ".cargo"))
            .env("RUSTUP_HOME", home("RUSTUP_HOME", ".rustup"))
            .env(
                "XDG_CACHE_HOME",
                workspace::cache()?.parent().context("a folder of caches")?,
            )
            .env("HOME", self.0.join("home"))
            .env("PROGRAM", workspace::target().join("release/meanflow"))
            .env("CARGO", cargo);
        Ok(shell)
    }

    /// The commands of its blocks that were left to a person.
    pub(super) fn left_out(&self) -> Result<Vec<String>> {
        let file = self.0.join("not-run.txt");
        let text = fs::read_to_string(&file).unwrap_or_default();
        files::remove(&file)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Ends the servers that its blocks started.
    pub(super) fn end(&self) -> Result<()> {
        let file = self.0.join("server.pid");
        let numbers = fs::read_to_string(&file).unwrap_or_default();
        for number in numbers.lines() {
            Command::new("kill").arg(number).status()?;
            let there = Path::new("/proc").join(number);
            let begun = Instant::now();
            while there.exists() && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        files::remove(&file)
    }
}

/// Whether a file or folder is there and holds something.
fn is_something(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => fs::metadata(path).is_ok_and(|file| file.len() > 0),
    }
}
