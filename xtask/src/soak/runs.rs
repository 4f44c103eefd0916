//! Runs of the real program that are killed, damaged and doubled; each must end with the bytes of an undisturbed one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use meanflow_files::sha256;

use crate::{command, files, workspace};

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
type Results = BTreeMap<String, String>;

/// The undisturbed run, and those that are compared with it.
pub(super) struct Runs {
    pub(super) program: PathBuf,
    recipe: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) random: Rng,
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
            random: Rng::with_seed(seed),
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
        ended_well(self.train(scene)?)
    }

    /// Draws the samples of these seeds from the undisturbed run.
    pub(super) fn sample(&self, seeds: &str, out: &Path) -> Result<()> {
        let mut sample = Command::new(&self.program);
        sample.arg("sample").arg(self.path("whole"));
        sample.args(["--seeds", seeds, "--threads", "1", "--out"]);
        command::answer(sample.arg(out).env("OMP_WAIT_POLICY", "passive")).map(drop)
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
        let (mut done, mut runs, mut inside) = (0, 0_usize, 0);
        while done < count {
            let scene = format!("{name}-{runs}");
            for _ in 0..KILLS_A_RUN.min(count - done) {
                let (mut child, begun) = (self.train(&scene)?, Instant::now());
                let moment = begun + self.lately.mul_f64(self.random.f64());
                let signal = self.random.choice(signals).context("some signal")?;
                if command::wait_until(&mut child, moment)?.is_some() {
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
            tell(name, runs.is_multiple_of(10), done, count);
        }
        println!(
            "{name}: {done} in {runs} runs, {inside} of them in the middle of a save; 0 runs differ"
        );
        Ok(())
    }

    /// Damages one file of a finished run at a time: it is named, and the run ends as it did.
    pub(super) fn damage(
        &mut self,
        name: &str,
        count: usize,
        change: fn(&mut Vec<u8>, &mut Rng),
    ) -> Result<()> {
        let counted = files_that_count(&self.path("whole"))?;
        for number in 0..count {
            let scene = format!("damaged-{number}");
            files::make_folder(&self.folder.join(&scene))?;
            files::copy_folder(&self.path("whole"), &self.path(&scene))?;
            let file = self.random.choice(&counted).context("some file")?;
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
            tell(name, (number + 1).is_multiple_of(100), number + 1, count);
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

/// Says how far a long part has come, where that is due.
fn tell(name: &str, is_due: bool, done: usize, count: usize) {
    if is_due && done < count {
        println!("  {name}: {done} of {count}, 0 runs differ");
    }
}

/// Waits for the end of a process, which must be a good one; what it said.
pub(super) fn ended_well(child: Child) -> Result<String> {
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(said)
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
    let newest = files::entries(&run.join("checkpoints"))?
        .into_iter()
        .rfind(|path| files::name(path).starts_with("step-"))
        .context("a run leaves checkpoints")?;
    let inside = files::entries(&newest)?;
    let names = inside.iter().map(|path| path.strip_prefix(run));
    let names = names.map(|name| Ok(name?.to_string_lossy().into_owned()));
    names.chain([Ok("model.safetensors".to_owned())]).collect()
}

/// The hashes of all that must not depend on how a run went: not of what holds seconds.
fn results(run: &Path) -> Result<Results> {
    let mut counted = files_that_count(run)?;
    counted.retain(|name| name.ends_with(".safetensors"));
    counted.extend(["loss.svg".to_owned(), "samples/step-000150.png".to_owned()]);
    counted
        .into_iter()
        .map(|name| {
            let bytes = fs::read(run.join(&name)).with_context(|| format!("cannot read {name}"))?;
            Ok((name, sha256(&bytes)))
        })
        .collect()
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
