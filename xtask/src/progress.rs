//! Progress of long work: a bar on a terminal, a plain line elsewhere.

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// Announces work of `total` bytes.
pub(crate) fn bytes(label: &str, total: u64) -> ProgressBar {
    let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar(label, total, template)
}

/// Announces work of `total` pieces.
pub(crate) fn count(label: &str, total: u64) -> ProgressBar {
    bar(label, total, "{msg} [{bar:30}] {pos}/{len} {eta}")
}

fn bar(label: &str, total: u64, template: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total)
        .with_style(style)
        .with_message(label.to_owned())
        .with_finish(ProgressFinish::AndClear);
    if bar.is_hidden() {
        eprintln!("{label}");
    }
    bar
}
