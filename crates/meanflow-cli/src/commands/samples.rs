//! `meanflow data verify` and `stats` of samples that are numbers in files, not pictures to be decoded.

use std::path::Path;

use meanflow_data::Dataset;
use serde_json::json;

use crate::commands::listing::{LINES, rest, say_remarks};
use crate::output::{is_json, say};
use crate::progress::Count;

/// Samples that are read at a time.
const CHUNK: usize = 1000;

/// The numbers of a channel.
#[derive(Clone)]
struct Channel {
    count: f64,
    mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
    range: [f32; 2],
}

/// Reads every sample as a training run does, which refuses what is damaged or not finite, and says what there is.
pub(super) fn report(path: &Path, data: &dyn Dataset) -> anyhow::Result<u8> {
    let progress = Count::named("samples", data.len());
    let mut channels = Vec::new();
    for start in (0..data.len()).step_by(CHUNK) {
        let indices: Vec<usize> = (start..data.len().min(start + CHUNK)).collect();
        let values = data.batch(&indices, 0, 0)?.values;
        push(&mut channels, &values, data.shape());
        progress.add(indices.len());
    }
    progress.finish();
    say_remarks(&data.remarks());
    let classes = classes(data.classes(), data.labels(), data.class_names());
    if is_json() {
        say(format_args!(
            "{:#}",
            json_of(path, data, &classes, &channels)
        ));
    } else {
        say(text_of(path, data, &classes, &channels).trim_end());
    }
    Ok(0)
}

/// A class: its number, its name, if it has one, and how many samples it has.
pub(super) type Class<'a> = (usize, Option<&'a str>, usize);

/// Every class, those without samples too: a network could be asked for them.
pub(super) fn classes<'a>(
    classes: usize,
    labels: &[i64],
    names: Option<&'a [String]>,
) -> Vec<Class<'a>> {
    let mut counts = vec![0; classes];
    for &label in labels {
        counts[label as usize] += 1;
    }
    let name = |label: usize| names?.get(label).map(String::as_str);
    let counts = counts.into_iter().enumerate();
    counts
        .map(|(label, count)| (label, name(label), count))
        .collect()
}

/// Takes in samples of this shape.
fn push(channels: &mut Vec<Channel>, values: &[f32], shape: &[usize]) {
    let place: usize = shape.iter().product();
    let plane = place / shape.first().copied().unwrap_or(1);
    channels.resize(place / plane, Channel::new());
    for (index, plane) in values.chunks(plane).enumerate() {
        let count = channels.len();
        let channel = &mut channels[index % count];
        plane.iter().for_each(|&value| channel.push(value));
    }
}

impl Channel {
    fn new() -> Self {
        Self {
            count: 0.0,
            mean: 0.0,
            squares: 0.0,
            range: [f32::INFINITY, f32::NEG_INFINITY],
        }
    }

    /// Welford's update.
    fn push(&mut self, value: f32) {
        let [low, high] = self.range;
        self.range = [low.min(value), high.max(value)];
        self.count += 1.0;
        let before = f64::from(value) - self.mean;
        self.mean += before / self.count;
        self.squares += before * (f64::from(value) - self.mean);
    }

    fn deviation(&self) -> f64 {
        (self.squares / self.count).sqrt()
    }
}

fn json_of(
    path: &Path,
    data: &dyn Dataset,
    classes: &[Class<'_>],
    channels: &[Channel],
) -> serde_json::Value {
    let classes = classes.iter();
    let classes = classes
        .map(|(label, name, samples)| json!({"label": label, "name": name, "samples": samples}));
    let channels = channels.iter().map(|channel| {
        let deviation = channel.deviation();
        json!({"mean": channel.mean, "deviation": deviation, "least": channel.range[0], "greatest": channel.range[1]})
    });
    json!({
        "path": path, "samples": data.len(), "shape": data.shape(), "vae": data.latents().map(|facts| &facts.vae),
        "classes": classes.collect::<Vec<_>>(), "channels": channels.collect::<Vec<_>>(),
    })
}

fn text_of(path: &Path, data: &dyn Dataset, classes: &[Class<'_>], channels: &[Channel]) -> String {
    let (path, samples, shape) = (path.display(), data.len(), data.shape());
    let what = match data.latents() {
        Some(facts) => format!("latents of {}", facts.vae),
        None => "samples".to_owned(),
    };
    let mut text = format!(
        "{path}: {samples} {what}, shape {shape:?}\nclasses     {}\n",
        classes.len()
    );
    for (label, name, samples) in classes.iter().take(LINES) {
        text += &format!("  {label} {}  {samples}\n", name.unwrap_or_default());
    }
    text += &rest(classes.len());
    text += "channels    as a network sees them\n";
    for (index, channel) in channels.iter().enumerate().take(LINES) {
        let ([least, greatest], deviation) = (channel.range, channel.deviation());
        let mean = channel.mean;
        text += &format!(
            "  {index}  mean {mean:.4}, deviation {deviation:.4}, from {least:.4} to {greatest:.4}\n"
        );
    }
    text + &rest(channels.len())
}
