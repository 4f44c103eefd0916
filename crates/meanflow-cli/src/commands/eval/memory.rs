//! Whether there is enough memory, before it is taken.

use std::fs;

use meanflow_eval::Evaluation;

use crate::usage::Usage;

/// Refuses an evaluation whose features take more memory than there is, and says what takes less.
pub(super) fn check(evaluation: &Evaluation<'_>, pictures: Option<usize>) -> anyhow::Result<()> {
    let needed = evaluation.memory();
    let Some(available) = available().filter(|&available| needed > available) else {
        return Ok(());
    };
    let (name, dims) = (evaluation.features().name(), evaluation.dims().pooled);
    let samples = evaluation.config().samples;
    let [needed, available] = [needed, available].map(|bytes| bytes as f64 / (1_u64 << 30) as f64);
    let against = pictures.map_or("statistics".to_owned(), |count| format!("{count} pictures"));
    let text = format!(
        "{name} are {dims} features a picture: {samples} samples against {against} take {needed:.1} GiB of memory, {available:.1} GiB are \
         available; fewer --samples or a smaller reference take less, other --features too, such as inception:FILE (2048 features)"
    );
    Err(Usage(text).into())
}

/// Bytes that a process can still take, as Linux estimates it; `None` where nothing says so.
fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
