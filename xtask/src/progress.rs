//! Progress of long work: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};

/// One piece of work of known length.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Announces work of `total` bytes.
    pub(crate) fn bytes(label: &str, total: u64) -> Self {
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        Self::new(label, total, template)
    }

    /// Announces work of `total` pieces.
    pub(crate) fn count(label: &str, total: u64) -> Self {
        Self::new(label, total, "{msg} [{bar:30}] {pos}/{len} {eta}")
    }

    fn new(label: &str, total: u64, template: &str) -> Self {
        if !stderr().is_terminal() {
            eprintln!("{label}");
            return Self { bar: None };
        }
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total)
            .with_style(style)
            .with_message(label.to_owned());
        Self { bar: Some(bar) }
    }

    /// Some more is done.
    pub(crate) fn add(&self, amount: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(amount);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
