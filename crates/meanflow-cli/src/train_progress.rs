//! The progress of a run: two lines on a terminal, elsewhere a line every half minute; and the log in its directory.

use std::path::PathBuf;

use indicatif::ProgressBar;
use meanflow_train::metrics::Record;
use meanflow_train::{Event, Observer};
use serde_json::json;

use crate::log::{self, is_drawn};
use crate::news::line_of;
use crate::output::{self, note};
use crate::progress::{Pace, Speed, bar, fields_of, lasting, resident};

/// How fast the shown losses follow: they are means over some fifty steps.
const SMOOTHING: f64 = 0.02;
/// The log of a run directory.
const LOG: &str = "log.txt";

/// Shows a run on standard error.
#[derive(Debug)]
pub(crate) struct TrainProgress {
    /// The run directory.
    root: PathBuf,
    bar: ProgressBar,
    steps: u64,
    speed: Speed,
    pace: Pace,
    shown: Option<(f64, f64)>,
}

impl TrainProgress {
    /// The progress of the run in this directory.
    pub(crate) fn new(root: PathBuf) -> Self {
        log::keep_lines();
        Self {
            root,
            bar: ProgressBar::hidden(),
            steps: 0,
            speed: Speed::new(0),
            pace: Pace::default(),
            shown: None,
        }
    }

    /// Takes the bar off the terminal.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| note(line));
    }

    fn start(&mut self, step: u64, steps: u64) {
        log::log_to(&self.root.join(LOG));
        self.steps = steps;
        self.speed = Speed::new(step);
        let template = "{wide_bar} {pos}/{len} · {percent} % · {eta} left\n{wide_msg}";
        self.bar = bar(template, steps);
        self.bar.set_position(step);
        self.bar.reset_eta();
    }

    fn step(&mut self, record: &Record) {
        let (loss, v_loss) = self.shown.unwrap_or((record.loss, record.v_loss));
        let follow = |shown: f64, value: f64| shown + SMOOTHING * (value - shown);
        let (loss, v_loss) = (follow(loss, record.loss), follow(v_loss, record.v_loss));
        self.shown = Some((loss, v_loss));
        self.speed.note(record.step);
        self.bar.set_position(record.step);
        let is_last = record.step == self.steps;
        let is_due = self.pace.is_due() || is_last;
        if !is_due && !is_drawn() {
            return;
        }
        let speed = self.speed.of(record.step, self.steps);
        let numbers = numbers(record, speed.map(|(rate, _)| rate), v_loss);
        self.bar.set_message(numbers.clone());
        if is_due {
            self.line(
                record,
                &numbers,
                speed.map(|(_, left)| left),
                (loss, v_loss),
            );
        }
    }

    /// A line for logs, and for standard error where no bar is.
    fn line(&self, record: &Record, numbers: &str, left: Option<f64>, shown: (f64, f64)) {
        let (step, steps) = (record.step, self.steps);
        let left_text = left.map_or_else(String::new, |left| format!(" · {} left", lasting(left)));
        let percent = 100 * step / steps.max(1);
        let text = format!("step {step}/{steps} · {percent} %{left_text} · {numbers}");
        let fields = json!({
            "step": step, "steps": steps, "seconds_left": left, "loss": shown.0, "v_loss": shown.1, "lr": record.lr,
            "grad_norm": record.grad_norm, "samples_per_second": record.samples_per_second, "memory_bytes": resident(),
        });
        output::progress(&text, fields_of(fields));
    }
}

/// What a run does in a second, what it holds, and how well it does.
fn numbers(record: &Record, rate: Option<f64>, v_loss: f64) -> String {
    let rate = rate.map_or_else(String::new, |rate| format!("{rate:.1} steps/s · "));
    let memory = resident().map(|bytes| format!("{:.1} GB · ", bytes as f64 / 1e9));
    let memory = memory.unwrap_or_default();
    format!(
        "{rate}{:.0} samples/s · {memory}v_loss {v_loss:.3}",
        record.samples_per_second
    )
}

impl Observer for TrainProgress {
    fn notice(&mut self, event: Event<'_>) {
        match event {
            Event::Started { step, steps, .. } => {
                self.say(&line_of(&event).unwrap_or_default());
                self.start(step, steps);
            }
            Event::Stepped(record) => self.step(record),
            event => {
                if let Some(line) = line_of(&event) {
                    self.say(&line);
                }
            }
        }
    }
}
