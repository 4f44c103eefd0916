//! Seconds of training and samples a second.

use std::time::{Duration, Instant};

use crate::StepMetrics;
use crate::metrics::Record;

/// Longer than this nobody is left without news.
const PATIENCE: Duration = Duration::from_secs(1);

/// The times of a run.
pub(crate) struct Clock {
    before: f64,
    start: Instant,
    last: Instant,
    batch: usize,
    current: f64,
    speed: Option<f64>,
}

impl Clock {
    /// A clock of a run that has been trained for so many seconds before, with batches of this size.
    pub(crate) fn new(before: f64, batch: usize) -> Self {
        let now = Instant::now();
        Self {
            before,
            start: now,
            last: now,
            batch,
            current: 0.0,
            speed: None,
        }
    }

    /// Seconds of training, those before a pause included.
    pub(crate) fn seconds(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }

    /// The share of the time since the start.
    pub(crate) fn share(&self, waited: Duration) -> f64 {
        waited.as_secs_f64() / self.start.elapsed().as_secs_f64().max(1e-9)
    }

    /// Whether the last reading is long ago.
    pub(crate) fn is_late(&self) -> bool {
        self.last.elapsed() >= PATIENCE
    }

    /// Notes that the numbers of so many steps were read now.
    pub(crate) fn read(&mut self, steps: usize) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64().max(1e-9);
        self.current = (steps * self.batch) as f64 / seconds;
        self.last = now;
    }

    /// The record of one of the steps read last; the speed is smoothed over some twenty steps.
    pub(crate) fn record(&mut self, report: &StepMetrics, waited: Duration) -> Record {
        let speed = self
            .speed
            .map_or(self.current, |speed| speed + (self.current - speed) / 20.0);
        self.speed = Some(speed);
        Record {
            step: report.step,
            loss: report.loss,
            v_loss: report.v_loss,
            v_loss_by_tr: report.v_loss_by_tr,
            lr: report.lr,
            grad_norm: report.grad_norm,
            samples_per_second: speed,
            seconds: self.seconds(),
            wait_share: self.share(waited),
        }
    }
}
