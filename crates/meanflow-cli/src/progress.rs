//! The progress of a run: a bar on a terminal, a line every two seconds elsewhere.

use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use meanflow_torch::Sharing;
use meanflow_torch::init_from::InitOutcome;
use meanflow_train::metrics::Record;
use meanflow_train::{Event, InitReport, Observer};

use crate::output::note;

/// Time between two lines where there is no terminal.
const PERIOD: Duration = Duration::from_secs(2);
/// How fast the shown losses follow: they are means over some fifty steps.
const SMOOTHING: f64 = 0.02;

/// Shows a run on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    steps: u64,
    begun_at: u64,
    begun: Instant,
    printed: Option<Instant>,
    shown: Option<(f64, f64)>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} · {eta} left · {msg}");
        bar.set_style(style.expect("the template is valid"));
        let is_terminal = stderr().is_terminal();
        Self {
            bar,
            is_terminal,
            steps: 0,
            begun_at: 0,
            begun: Instant::now(),
            printed: None,
            shown: None,
        }
    }

    /// Takes the bar off the terminal.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: &str) {
        if self.is_terminal {
            self.bar.suspend(|| note(line));
        } else {
            note(line);
        }
    }

    fn start(&mut self, step: u64, steps: u64) {
        (self.begun_at, self.steps) = (step, steps);
        self.bar.set_length(steps);
        self.bar.set_position(step);
        self.bar.reset_eta();
        if self.is_terminal {
            self.bar
                .set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        }
    }

    fn step(&mut self, record: &Record) {
        let (loss, v_loss) = self.shown.unwrap_or((record.loss, record.v_loss));
        let follow = |shown: f64, value: f64| shown + SMOOTHING * (value - shown);
        let (loss, v_loss) = (follow(loss, record.loss), follow(v_loss, record.v_loss));
        self.shown = Some((loss, v_loss));
        let numbers = format!(
            "{:.0} samples/s · loss {loss:.4} · ‖u−v‖² {v_loss:.3}",
            record.samples_per_second
        );
        if self.is_terminal {
            self.bar.set_position(record.step);
            self.bar.set_message(numbers);
        } else if self
            .printed
            .is_none_or(|printed| printed.elapsed() >= PERIOD)
            || record.step == self.steps
        {
            self.printed = Some(Instant::now());
            let left = HumanDuration(self.left(record.step));
            self.say(&format!(
                "step {}/{} · {left} left · {numbers}",
                record.step, self.steps
            ));
        }
    }

    fn left(&self, step: u64) -> Duration {
        let done = step.saturating_sub(self.begun_at).max(1);
        self.begun
            .elapsed()
            .mul_f64((self.steps - step) as f64 / done as f64)
    }
}

/// What threads do with the microbatches of a step, and what the digits of the results depend on.
fn described(sharing: Sharing) -> String {
    let Sharing {
        workers,
        threads_per_operation: threads,
    } = sharing;
    let digits = if threads == 1 {
        "no digit depends on the number of threads"
    } else {
        "the last digits depend on the number of threads (with more training.microbatches they do not)"
    };
    format!("CPU: {workers} microbatches at a time, threads an operation: {threads}; {digits}")
}

impl Observer for Progress {
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

/// What a person reads of an event, one line or a few; nothing for one that only moves the bar.
fn line_of(event: &Event<'_>) -> Option<String> {
    Some(match event {
        Event::Started { .. } => beginning_of(event)?,
        Event::Initialized(report) => start_of(report),
        Event::Remark(text) => format!("note: {text}"),
        Event::Changed {
            after_step,
            differences,
        } => {
            let lines = differences.join("\n");
            format!(
                "the recipe differs after step {after_step}, as --allow-changes accepts:\n{lines}"
            )
        }
        Event::AlreadyFinished { step, steps } => format!(
            "already finished: {step} of {steps} steps are done; train longer with --set training.steps=N"
        ),
        Event::Restored(path) => format!("made again: {}", path.display()),
        Event::Drawn(path) => format!("samples: {}", path.display()),
        Event::Saved(path) => format!("checkpoint: {}", path.display()),
        Event::Ended {
            wait_share,
            skipped,
        } => {
            let waited = format!(
                "steps waited for data {:.1} % of the time",
                100.0 * wait_share
            );
            match skipped {
                0 => waited,
                skipped => format!(
                    "{waited}\nwarning: {skipped} steps were left out in all, as they were not finite"
                ),
            }
        }
        event => format!("warning: {}", warning_of(event)?),
    })
}

/// What a run begins with: its size, where it goes on from, and how it is computed.
fn beginning_of(event: &Event<'_>) -> Option<String> {
    let Event::Started {
        step,
        steps,
        parameters,
        samples,
        sharing,
    } = *event
    else {
        return None;
    };
    let from = match step {
        0 => String::new(),
        step => format!(", going on after step {step}"),
    };
    let size = format!("{parameters} parameters, {samples} training samples, {steps} steps{from}");
    Some(match sharing {
        Some(sharing) => format!("{size}\n{}", described(sharing)),
        None => size,
    })
}

/// What a run begins with that takes other weights: how many tensors are taken, and every other one.
fn start_of(report: &InitReport) -> String {
    let (taken, of) = report.taken();
    let path = report.weights.display();
    let mut text = format!("begins with {path}: {taken} of {of} tensors taken");
    let others = report.tensors.iter();
    for entry in others.filter(|entry| entry.outcome != InitOutcome::Taken) {
        text += &format!("\n  {entry}");
    }
    for note in &report.notes {
        text += &format!("\nnote: {note}");
    }
    text
}

/// What is wrong, of the events that tell so.
fn warning_of(event: &Event<'_>) -> Option<String> {
    Some(match event {
        Event::Rejected { path, reason } => {
            format!("{} is damaged and passed over: {reason}", path.display())
        }
        Event::Skipped { step, in_row } => {
            format!("step {step} left out, its loss or gradient is not finite ({in_row} in a row)")
        }
        Event::Crashed(path) => format!(
            "the step is described in {0}; `meanflow train --replay {0}` does it again",
            path.display()
        ),
        Event::RolledBack {
            from,
            to,
            rollbacks,
            reason,
        } => format!(
            "{reason}; back from step {from} to step {to}, and on with other data ({rollbacks} of 3 times)"
        ),
        Event::MetricsLost { path, what } => format!("{}: {what}", path.display()),
        Event::SaveFailed { step, reason } => format!("not saved after step {step}: {reason}"),
        Event::Replaced { reason, .. } => format!("left out, another taken for it: {reason}"),
        _ => return None,
    })
}

/// A number of equal things to do: a bar on a terminal; elsewhere a line every half minute, if they have a name.
#[derive(Debug)]
pub(crate) struct Count {
    bar: ProgressBar,
    /// What the things are, and when a line about them was printed last.
    line: Option<(String, Mutex<Instant>)>,
}

/// Time between two lines about things with a name where there is no terminal.
const LINES: Duration = Duration::from_secs(30);

impl Count {
    pub(crate) fn new(things: usize) -> Self {
        let bar = ProgressBar::new(things as u64);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} · {eta} left");
        bar.set_style(style.expect("the template is valid"));
        Self { bar, line: None }
    }

    /// Things that the bar and the lines name.
    pub(crate) fn named(name: &str, things: usize) -> Self {
        let bar = ProgressBar::new(things as u64);
        let style = ProgressStyle::with_template(
            "{prefix:.cyan} {bar:20} {pos}/{len} · {eta} left {wide_msg}",
        );
        bar.set_style(style.expect("the template is valid"));
        bar.set_prefix(name.to_owned());
        let line = (!stderr().is_terminal()).then(|| (name.to_owned(), Mutex::new(Instant::now())));
        Self { bar, line }
    }

    pub(crate) fn add(&self, things: usize) {
        self.bar.inc(things as u64);
        let Some((name, printed)) = &self.line else {
            return;
        };
        let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
        if printed.elapsed() >= LINES {
            *printed = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            note(format_args!("{name}: {done}/{all}"));
        }
    }

    /// Says what is being done beside the things.
    pub(crate) fn say(&self, doing: &'static str) {
        self.bar.set_message(doing);
        self.bar.tick();
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
