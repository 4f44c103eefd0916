//! Steps and samples take no more memory the longer they go on.

use std::env;
use std::fs;
use std::path::Path;

use crate::common::recipe;
use crate::damage::inputs;
use meanflow_figures::{LineChart, Scale, Series};
use meanflow_torch::Device;
use meanflow_train::{Samples, Trainer};

/// Memory of this process now, in bytes, where the system tells it.
fn resident() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(4096.0 * pages)
}

/// What memory does over `count` calls, in the second half of them: an allocator fills its pools for some hundred calls first.
///
/// It is the median of the rises from each of eight parts to the next. A leak is in all of them; an allocator that takes another
/// block of two MiB once, as happens in one run of some dozens, is in two at most.
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
    let (slope, y) = slope(&points);
    let growth = slope * (count / 2) as f64 / y.max(1.0);
    println!(
        "{count} {of}: {slope:.1} bytes a call, {:.3} % of {:.1} MiB",
        100.0 * growth,
        y / 1_048_576.0
    );
    Trend { slope, growth }
}

/// The median rise a call between neighbouring parts, and the mean of all; zeros for less than a point a part.
fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    const PARTS: usize = 8;
    let means: Vec<(f64, f64)> = points
        .chunks_exact((points.len() / PARTS).max(1))
        .map(|part| {
            let mean =
                |of: fn(&(f64, f64)) -> f64| part.iter().map(of).sum::<f64>() / part.len() as f64;
            (mean(|point| point.0), mean(|point| point.1))
        })
        .collect();
    let rise = |pair: &[(f64, f64)]| (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0);
    let mut rises: Vec<f64> = means.windows(2).map(rise).collect();
    rises.sort_by(f64::total_cmp);
    let mean = means.iter().map(|part| part.1).sum::<f64>() / means.len().max(1) as f64;
    (rises.get(rises.len() / 2).copied().unwrap_or(0.0), mean)
}

/// A leak shows at its rate; a block that is taken once does not.
#[test]
fn the_slope_is_that_of_a_leak_and_not_of_a_jump() {
    let points = |of: fn(f64) -> f64| {
        (0..800)
            .map(|call| (f64::from(call), of(f64::from(call))))
            .collect::<Vec<_>>()
    };
    assert!((slope(&points(|call| 1e8 + 700.0 * call)).0 - 700.0).abs() < 1e-3);
    // By pages, with noise of a few of them.
    let paged = slope(&points(|call| {
        4096.0 * (200.0 * call / 4096.0 + (call * 7.3).sin()).floor()
    }))
    .0;
    assert!((paged - 200.0).abs() < 60.0, "{paged}");
    assert_eq!(
        slope(&points(|call| 1e8 + if call < 333.0 { 0.0 } else { 3e6 })).0,
        0.0
    );
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
