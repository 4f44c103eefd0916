//! Runs of the real program that are killed, damaged and doubled; each must end with the bytes of an undisturbed one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::random::Random;
use crate::workspace;

/// A run is killed so often, then it may end.
const KILLS_A_RUN: usize = 12;
/// A run of half a second, most of it start-up and saves.
const SETTINGS: [&str; 7] = [
    "network.width=16",
    "network.depth=1",
    "training.batch_size=8",
    // Which 1, 2 and 4 processes can share.
    "training.microbatches=4",
    "training.steps=150",
    "training.checkpoint_every=3",
    "training.sample_every=150",
];

/// What is compared: hashes by name.
type Results = BTreeMap<String, Vec<u8>>;

/// The undisturbed run, and those that are compared with it.
pub(super) struct Runs {
    pub(super) program: PathBuf,
    recipe: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) random: Random,
    expected: Results,
    undisturbed: Duration,
    /// How long a run takes as busy as the machine is now.
    lately: Duration,
}

impl Runs {
    /// Trains the run that all others are compared with.
    pub(super) fn begin(folder: &Path, seed: u64) -> Result<Self> {
        let mut soak = Self {
            program: workspace::target().join("release/meanflow"),
            recipe: workspace::root().join("configs/digits.toml"),
            folder: folder.to_owned(),
            random: Random(seed),
            expected: Results::new(),
            undisturbed: Duration::ZERO,
            lately: Duration::ZERO,
        };
        let begun = Instant::now();
        soak.finish("whole")?;
        soak.undisturbed = begun.elapsed();
        soak.lately = soak.undisturbed;
        soak.expected = results(&soak.path("whole"))?;
        Ok(soak)
    }

    pub(super) fn seconds(&self) -> f64 {
        (self.undisturbed.as_secs_f64() * 100.0).round() / 100.0
    }

    /// The folder of a run. The name shows in the title of its curve, so each lies in a folder of its own.
    pub(super) fn path(&self, scene: &str) -> PathBuf {
        self.folder.join(scene).join("run")
    }

    fn train(&self, scene: &str) -> Result<Child> {
        self.train_by(scene, Command::new(&self.program))
    }

    /// Starts to train by a command that starts the program with the arguments it is given.
    pub(super) fn train_by(&self, scene: &str, mut command: Command) -> Result<Child> {
        let folder = self.folder.join(scene);
        fs::create_dir_all(&folder)?;
        let settings = SETTINGS.iter().flat_map(|setting| ["--set", setting]);
        let child = command
            .arg("train")
            .arg(&self.recipe)
            .args(settings)
            .args(["--out", "run", "--threads", "1"])
            .env("OMP_WAIT_POLICY", "passive")
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        child.with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// Trains to the end; what it said.
    pub(super) fn finish(&self, scene: &str) -> Result<String> {
        let output = self.train(scene)?.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{}: {said}", output.status);
        Ok(said)
    }

    /// The run ended as the undisturbed one did; removes it.
    pub(super) fn compare(&self, scene: &str) -> Result<()> {
        let got = results(&self.path(scene))?;
        let differing: Vec<&String> = self
            .expected
            .keys()
            .chain(got.keys())
            .filter(|name| got.get(*name) != self.expected.get(*name))
            .collect();
        ensure!(differing.is_empty(), "{scene}: these differ: {differing:?}");
        fs::remove_dir_all(self.folder.join(scene))?;
        Ok(())
    }

    /// Ends runs by signals at random moments, each several times in a row, and lets them end.
    pub(super) fn kills(&mut self, name: &str, count: usize, signals: &[&str]) -> Result<()> {
        let (mut done, mut runs, mut inside) = (0, 0, 0);
        while done < count {
            let scene = format!("{name}-{runs}");
            for _ in 0..KILLS_A_RUN.min(count - done) {
                let (mut child, begun) = (self.train(&scene)?, Instant::now());
                let moment = begun + self.moment();
                let signal = signals[self.random.below(signals.len() as u64) as usize];
                if ends_before(&mut child, moment)? {
                    self.lately = (self.lately + begun.elapsed()) / 2;
                } else {
                    kill(signal, child.id())?;
                    inside += usize::from(is_saving(&self.path(&scene)));
                    done += 1;
                    self.lately = self.lately * 51 / 50;
                }
                let status = child.wait()?;
                if status.success() {
                    break;
                }
            }
            self.finish(&scene)?;
            self.compare(&scene)?;
            runs += 1;
            tell(name, (runs, 10), done, count);
        }
        println!(
            "{name}: {done} in {runs} runs, {inside} of them in the middle of a save; 0 runs differ"
        );
        Ok(())
    }

    /// A random time within that of a run.
    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.random.below(self.lately.as_micros() as u64))
    }

    /// Damages one file of a finished run at a time: it is named, and the run ends as it did.
    pub(super) fn damage(
        &mut self,
        name: &str,
        count: usize,
        change: fn(&mut Vec<u8>, &mut Random),
    ) -> Result<()> {
        let files = files_that_count(&self.path("whole"))?;
        for number in 0..count {
            let scene = format!("damaged-{number}");
            copy_folder(&self.path("whole"), &self.path(&scene))?;
            let file = &files[self.random.below(files.len() as u64) as usize];
            let path = self.path(&scene).join(file);
            let whole = fs::read(&path)?;
            let mut bytes = whole.clone();
            change(&mut bytes, &mut self.random);
            fs::write(&path, &bytes)?;
            let said = self.finish(&scene)?;
            let noticed = said.contains("damaged") || said.contains("made again");
            if !(noticed || is_blank(&whole, &bytes)) {
                bail!("{name} number {number} in {file} was not noticed: {said}");
            }
            self.compare(&scene)?;
            tell(name, (number + 1, 100), number + 1, count);
        }
        println!("{name}: {count}, all noticed; 0 runs differ");
        Ok(())
    }

    /// Starts the same run twice at once: one trains, the other is refused or finds it done.
    pub(super) fn doubles(&mut self, count: usize) -> Result<()> {
        for number in 0..count {
            let scene = format!("double-{number}");
            let mut children = [self.train(&scene)?, self.train(&scene)?];
            let codes = [children[0].wait()?.code(), children[1].wait()?.code()];
            let done = codes.iter().filter(|code| **code == Some(0)).count();
            let refused = codes.iter().filter(|code| **code == Some(2)).count();
            ensure!(
                done >= 1 && done + refused == 2,
                "{scene}: exit codes {codes:?}"
            );
            self.compare(&scene)?;
        }
        println!("double starts: {count}, one winner each; 0 runs differ");
        Ok(())
    }
}

/// Says how far a long part has come, at every so-manieth call.
fn tell(name: &str, (call, every): (usize, usize), done: usize, count: usize) {
    if call.is_multiple_of(every) && done < count {
        println!("  {name}: {done} of {count}, 0 runs differ");
    }
}

/// Waits until a moment; whether the process has ended before.
fn ends_before(child: &mut Child, moment: Instant) -> Result<bool> {
    const PAUSE: Duration = Duration::from_millis(5);
    while child.try_wait()?.is_none() {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        thread::sleep(left.min(PAUSE));
    }
    Ok(true)
}

pub(super) fn kill(signal: &str, process: u32) -> Result<()> {
    // A process that has just ended is no failure.
    Command::new("kill")
        .args([format!("-{signal}"), process.to_string()])
        .stderr(Stdio::null())
        .status()
        .context("cannot run kill")?;
    Ok(())
}

/// Whether a checkpoint or a file beside is half written.
fn is_saving(run: &Path) -> bool {
    let hidden = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name())
            .any(|name| name != ".lock" && name.to_string_lossy().starts_with('.'))
    };
    hidden(run) || hidden(&run.join("checkpoints"))
}

/// JSON with other blanks says the same.
fn is_blank(whole: &[u8], damaged: &[u8]) -> bool {
    let blank = |byte: u8| b" \n\t\r".contains(&byte);
    let differing = whole
        .iter()
        .zip(damaged)
        .filter(|(one, other)| one != other);
    whole.len() == damaged.len()
        && differing
            .into_iter()
            .all(|(one, other)| blank(*one) && blank(*other))
}

/// The files of the newest checkpoint, and the weights: names below the run.
fn files_that_count(run: &Path) -> Result<Vec<String>> {
    let newest = names(&run.join("checkpoints"))?
        .into_iter()
        .rfind(|name| name.starts_with("step-"))
        .context("a run leaves checkpoints")?;
    let inside = names(&run.join("checkpoints").join(&newest))?;
    let mut files: Vec<String> = inside
        .iter()
        .map(|name| format!("checkpoints/{newest}/{name}"))
        .collect();
    files.push("model.safetensors".to_owned());
    Ok(files)
}

/// The hashes of all that must not depend on how a run went: not of what holds seconds.
fn results(run: &Path) -> Result<Results> {
    let mut files = files_that_count(run)?;
    files.retain(|name| name.ends_with(".safetensors"));
    files.extend(["loss.svg".to_owned(), "samples/step-000150.png".to_owned()]);
    files
        .into_iter()
        .map(|name| {
            let bytes = fs::read(run.join(&name)).with_context(|| format!("cannot read {name}"))?;
            Ok((name, Sha256::digest(bytes).to_vec()))
        })
        .collect()
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for name in names(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_told_from_damage() {
        assert!(is_blank(b"{\"a\": 1}", b"{\"a\":\t1}"));
        assert!(!is_blank(b"{\"a\": 1}", b"{\"a\": 3}"));
        assert!(!is_blank(b"{ }", b"{ "));
    }
}
