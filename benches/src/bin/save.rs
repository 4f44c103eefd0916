//! This project's side of `benches/peers/save.py`: how long training is held up by the save of a checkpoint.
//!
//! `save RECIPE FOLDER EVERY [KEY=VALUE …]` trains the recipe on random numbers in a run directory, and saves after every so many
//! steps. It answers `ready`, and then every line of input with a line of JSON about the steps from then on until a save has ended:
//! the median time of a step beside no save, by how much the step was longer during which the save began, by how much all steps
//! were longer until it had ended, and how long that took, in seconds.

use std::error::Error;
use std::io::{self, BufRead};
use std::path::Path;
use std::process;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use benches::{median, protocol};
use meanflow_core::random::{Purpose, RngStream};
use meanflow_data::custom::{self, DatasetBuilder};
use meanflow_data::{DataError, Dataset, MemoryDataset};
use meanflow_torch::{Device, memory};
use meanflow_train::{Event, Observer, TrainConfig, train};
use serde::Deserialize;
use serde_json::{Value, json};

/// Latents of nothing, with labels.
#[derive(Deserialize)]
struct Noise {
    shape: Vec<usize>,
    classes: usize,
    size: usize,
}

impl DatasetBuilder for Noise {
    fn load(self, seed: u64) -> Result<Box<dyn Dataset>, DataError> {
        let mut values = vec![0.0; self.size * self.shape.iter().product::<usize>()];
        RngStream::new(seed, Purpose::Data, 0).fill_normal(&mut values);
        let labels = (0..self.size).map(|index| (index % self.classes) as i64);
        let data = MemoryDataset::from_values(values, self.shape, labels.collect(), self.classes)?;
        Ok(Box::new(data))
    }
}

/// Answers when a save has ended, and holds the run up until it is asked again.
struct Watch {
    /// Since when nothing held the run up but itself.
    asked: Instant,
    /// When each step since then had ended.
    steps: Vec<(u64, Instant)>,
}

impl Watch {
    /// Waits for a line, and ends the program where none comes.
    fn wait(&mut self) {
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line).unwrap_or(0) == 0 {
            process::exit(0);
        }
        self.steps.clear();
        self.asked = Instant::now();
    }

    /// What the steps until now say of the save in this folder; nothing where it began before the run was asked.
    fn report(&self, folder: &Path) -> Option<Value> {
        let name = folder.file_name()?.to_str()?;
        let saved: u64 = name.strip_prefix("step-")?.parse().ok()?;
        let began = self.steps.iter().position(|(step, _)| *step == saved)?;
        let starts = std::iter::once(self.asked).chain(self.steps.iter().map(|(_, end)| *end));
        let ends = self.steps.iter().map(|(_, end)| *end);
        let times: Vec<Duration> = starts.zip(ends).map(|(start, end)| end - start).collect();
        let (before, during) = times.split_at(began + 1);
        let step = median(before.to_vec()).as_secs_f64();
        let save = self.steps[began].1.elapsed().as_secs_f64();
        // A save that ended before the next step did held nothing else up.
        let stall = during
            .first()
            .map_or(save, |first| first.as_secs_f64() - step);
        Some(json!({
            "step": step,
            "stall": stall,
            "delay": save - step * during.len() as f64,
            "save": save,
            "steps": during.len(),
        }))
    }
}

impl Observer for Watch {
    fn notice(&mut self, event: Event<'_>) {
        match event {
            Event::Started { .. } => {
                say("ready");
                self.wait();
            }
            Event::Stepped(record) => self.steps.push((record.step, Instant::now())),
            Event::Saved(folder) => {
                if let Some(report) = self.report(folder) {
                    say(&report.to_string());
                    self.wait();
                }
            }
            _ => {}
        }
    }
}

/// A reader that is gone asks for nothing more either.
fn say(line: &str) {
    let _ = protocol::tell(line);
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [recipe, folder, every, overrides @ ..] = &arguments[..] else {
        return Err("expected RECIPE FOLDER EVERY [KEY=VALUE …]".into());
    };
    custom::register::<Noise>("noise")?;
    let mut settings: Vec<String> = [
        "data={ kind = \"custom\", name = \"noise\", conditional = true, config = { shape = [4, 32, 32], classes = 1000, size = 1000 } }",
        "training.steps=1000000",
        "training.sample_every=1000000",
        "training.log_every=1",
        "checkpoints={ keep_last = 1 }",
    ]
    .map(str::to_owned)
    .to_vec();
    settings.push(format!("training.checkpoint_every={every}"));
    settings.extend_from_slice(overrides);
    memory::keep();
    let mut watch = Watch {
        asked: Instant::now(),
        steps: Vec::new(),
    };
    let config = TrainConfig::read(Path::new(recipe), &settings)?;
    let stop = AtomicBool::new(false);
    train(config, Path::new(folder), Device::Cpu, &stop, &mut watch)?;
    Ok(())
}
