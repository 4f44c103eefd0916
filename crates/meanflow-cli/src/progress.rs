//! How far a long piece of work is: a bar on a terminal, elsewhere a line with its time every half minute.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::log::is_drawn;
use crate::output;

/// Time between two lines.
const PERIOD: Duration = Duration::from_secs(30);
/// The part of the work that its speed is seen from.
const RECENT: Duration = Duration::from_secs(20);
/// Time between two marks in that part.
const MARKS: Duration = Duration::from_millis(500);

/// Whether another process shows the progress of work that it shares with this one.
static IS_HIDDEN: AtomicBool = AtomicBool::new(false);

/// Shows no progress from now on.
pub(crate) fn hide() {
    IS_HIDDEN.store(true, Ordering::Relaxed);
}

fn is_hidden() -> bool {
    IS_HIDDEN.load(Ordering::Relaxed)
}

/// When the next line is due: the first at once, then one every half minute.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    printed: Option<Instant>,
}

impl Pace {
    /// A pace whose first line is due in half a minute.
    fn late() -> Self {
        Self {
            printed: Some(Instant::now()),
        }
    }

    /// Whether a line is due now; if it is, the next one is later.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self
            .printed
            .is_none_or(|printed| printed.elapsed() >= PERIOD);
        if is_due {
            self.printed = Some(Instant::now());
        }
        is_due
    }
}

/// How fast things were done lately.
#[derive(Debug)]
pub(crate) struct Speed {
    /// When how many were done, the oldest first.
    marks: Vec<(Instant, u64)>,
}

impl Speed {
    /// Nothing but what was done before.
    pub(crate) fn new(done: u64) -> Self {
        Self {
            marks: vec![(Instant::now(), done)],
        }
    }

    /// So many are done now.
    pub(crate) fn note(&mut self, done: u64) {
        if self
            .marks
            .last()
            .is_none_or(|(time, _)| time.elapsed() >= MARKS)
        {
            self.marks.push((Instant::now(), done));
        }
        // One mark older than what counts is kept, so that slow work has a speed, too.
        while self
            .marks
            .get(1)
            .is_some_and(|(time, _)| time.elapsed() > RECENT)
        {
            self.marks.remove(0);
        }
    }

    /// Things a second, and seconds until all are done; nothing before the first is done.
    pub(crate) fn of(&self, done: u64, all: u64) -> Option<(f64, f64)> {
        let (time, before) = self.marks.first()?;
        let rate = done.saturating_sub(*before) as f64 / time.elapsed().as_secs_f64().max(1e-9);
        (rate > 0.0).then(|| (rate, all.saturating_sub(done) as f64 / rate))
    }
}

/// Seconds for a person.
pub(crate) fn lasting(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    HumanDuration(Duration::from_secs(seconds.as_secs())).to_string()
}

/// Bytes of memory that the process holds, where the system says it.
pub(crate) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// A bar on the terminal, hidden where there is none.
pub(crate) fn bar(template: &str, things: u64) -> ProgressBar {
    let target = if is_drawn() && !is_hidden() {
        ProgressDrawTarget::stderr_with_hz(5)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(things), target);
    bar.with_style(ProgressStyle::with_template(template).expect("the template is valid"))
}

/// A number of equal things to do.
#[derive(Debug)]
pub(crate) struct Count {
    name: String,
    bar: ProgressBar,
    state: Mutex<(Pace, Speed)>,
}

impl Count {
    /// Things that the bar and the lines name.
    pub(crate) fn named(name: &str, things: usize) -> Self {
        let template = "{prefix:.cyan} {wide_bar} {pos}/{len} · {eta} left {msg}";
        let bar = bar(template, things as u64);
        bar.set_prefix(name.to_owned());
        Self {
            name: name.to_owned(),
            bar,
            state: Mutex::new((Pace::late(), Speed::new(0))),
        }
    }

    pub(crate) fn add(&self, things: usize) {
        self.bar.inc(things as u64);
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (pace, speed) = &mut *state;
        speed.note(done);
        if !is_drawn() && !is_hidden() && pace.is_due() {
            let left = speed.of(done, all).map(|(_, left)| left);
            let name = &self.name;
            let mut text = format!("{name}: {done}/{all}");
            if let Some(left) = left {
                text += &format!(" · {} left", lasting(left));
            }
            let fields = json!({"work": name, "done": done, "all": all, "seconds_left": left});
            output::progress(&text, fields_of(fields));
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

/// The entries of an object.
pub(crate) fn fields_of(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_first_line_is_due_at_once_and_the_next_one_later() {
        let mut pace = Pace::default();
        assert!(pace.is_due());
        assert!(!pace.is_due());
        assert!(!Pace::late().is_due());
    }

    #[test]
    fn what_is_left_follows_from_the_speed() {
        let mut speed = Speed::new(10);
        assert_eq!(speed.of(10, 20), None);
        thread::sleep(Duration::from_millis(20));
        speed.note(15);
        let (rate, left) = speed.of(15, 20).unwrap();
        assert!(rate > 0.0 && rate < 5.0 / 0.02, "{rate}");
        // Five more at the rate of five.
        assert!((left * rate - 5.0).abs() < 1e-9, "{left}");
    }
}
