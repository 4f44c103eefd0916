//! Steps and samples take no more memory the longer they go on.

use std::env;
use std::fs;
use std::path::Path;

use crate::common::recipe;
use crate::damage::inputs;
use meanflow_data::plot::{LineChart, Scale, Series};
use meanflow_torch::Device;
use meanflow_train::{Samples, Trainer};

/// Memory of this process now, in bytes, where the system tells it.
fn resident() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(4096.0 * pages)
}

/// What memory does over `count` calls, by least squares over the second half of them: an allocator fills its pools for
/// some hundred calls first.
struct Trend {
    /// Bytes a call.
    slope: f64,
    /// The share of the memory that came on top.
    growth: f64,
}

/// The trend of the memory; flat where the system tells nothing of it.
fn trend(of: &str, count: usize, mut call: impl FnMut(u64)) -> Trend {
    let (mut points, every) = (Vec::new(), count.div_ceil(800));
    for number in 0..count {
        call(number as u64);
        if number.is_multiple_of(every)
            && let Some(bytes) = resident()
        {
            points.push((number as f64, bytes));
        }
    }
    draw(of, &points);
    points.retain(|(number, _)| *number >= (count / 2) as f64);
    let mean =
        |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let rise: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let run: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = if run > 0.0 { rise / run } else { 0.0 };
    let growth = slope * (count / 2) as f64 / y.max(1.0);
    println!(
        "{count} {of}: {slope:.1} bytes a call, {:.3} % of {:.1} MiB",
        100.0 * growth,
        y / 1_048_576.0
    );
    Trend { slope, growth }
}

/// Draws the memory into the folder that a long test names.
fn draw(of: &str, points: &[(f64, f64)]) {
    let Some(folder) = env::var_os("MEANFLOW_SOAK_PLOTS") else {
        return;
    };
    let mebibytes = |(number, bytes): &(f64, f64)| (*number, bytes / 1_048_576.0);
    let chart = LineChart {
        title: format!("Memory over {of}"),
        x_label: of.to_owned(),
        y_label: "resident memory, MiB".to_owned(),
        y_scale: Scale::Linear,
        series: vec![Series {
            name: of.to_owned(),
            points: points.iter().map(mebibytes).collect(),
            smooth_over: 0,
        }],
    };
    let path = Path::new(&folder).join(format!("memory-{of}.svg"));
    fs::write(path, chart.to_svg()).unwrap();
}

fn trainer() -> Trainer {
    let config = recipe(&[]);
    let data = config.data.load(config.seed).unwrap();
    Trainer::new(config, data, Device::Cpu).unwrap()
}

#[test]
fn steps_hold_no_more_memory_the_longer_they_go_on() {
    let mut trainer = trainer();
    let trend = trend("steps", inputs(3000), |_| drop(trainer.step().unwrap()));
    // A MiB in a thousand steps; a tensor of one number that leaks takes some 200 bytes, and a step has hundreds of them.
    assert!(trend.slope < 1048.576, "{} bytes a step", trend.slope);
}

#[test]
fn samples_hold_no_more_memory_the_longer_they_go_on() {
    let trainer = trainer();
    let (model, _) = trainer.average();
    let trend = trend("samples", inputs(3000).div_ceil(2), |seed| {
        drop(Samples::draw(model, &[seed, seed + 1], None, 1).unwrap());
    });
    // A hundredth, over thousands of calls; a leak of one set of samples a call would be more.
    assert!(trend.growth < 0.01, "{} of the memory", trend.growth);
}
