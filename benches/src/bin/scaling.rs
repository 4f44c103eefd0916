//! `cargo xtask bench scaling`: what a MeanFlow step costs against batch, tokens, depth, width and share of MeanFlow rows, drawn beside
//! what the count of network forwards predicts from a plain step.

use std::error::Error;
use std::path::PathBuf;

use benches::{Batches, Guide, Size, Training, Variant, median, milliseconds, timed};
use clap::Parser;
use meanflow_data::write_bytes;
use meanflow_figures::{LineChart, Scale, Series};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{DitConfig, NetworkConfig};
use meanflow_torch::{Compute, Device, memory};

/// Measures on the CPU, and writes `scaling-*.svg` into a folder.
#[derive(Parser)]
struct ScalingOptions {
    /// Intra-op threads [default: as libtorch likes].
    #[arg(long)]
    threads: Option<i32>,
    /// Timed steps of each variant.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Only this question: share, batch, tokens, depth, width.
    #[arg(long)]
    only: Option<String>,
    /// The folder.
    #[arg(long)]
    out: PathBuf,
}

const WARM_UP: usize = 3;
const JUMP_SHARE: f64 = 0.25;
const PATCH: i64 = 2;
/// Where every sweep passes through: a transformer that is small, but whose time goes into products already.
const MIDDLE: Shape = Shape {
    side: 16,
    width: 192,
    depth: 4,
    rows: 16,
};

/// What is varied of a transformer on pictures of four channels.
#[derive(Clone, Copy)]
struct Shape {
    /// Of a picture.
    side: i64,
    /// A multiple of 64, the width of a head.
    width: i64,
    depth: i64,
    /// Of a batch.
    rows: usize,
}

/// A thing that is varied.
struct Sweep {
    name: &'static str,
    label: &'static str,
    /// x, the shape and the share of MeanFlow rows there.
    points: Vec<(f64, Shape, f64)>,
}

/// Medians at one point, in milliseconds.
struct Point {
    x: f64,
    plain: f64,
    mean_flow: f64,
    /// Network forwards over the batch of the MeanFlow step and of the plain one, counted.
    units: [f64; 2],
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = ScalingOptions::parse();
    memory::keep();
    if let Some(threads) = args.threads {
        tch::set_num_threads(threads);
    }
    let wanted = |sweep: &Sweep| args.only.as_deref().is_none_or(|only| only == sweep.name);
    for sweep in sweeps().into_iter().filter(wanted) {
        let measured = sweep
            .points
            .iter()
            .map(|(x, shape, share)| measure(*x, *shape, *share, args.rounds))
            .collect::<Result<Vec<_>, _>>()?;
        print(&sweep, &measured);
        let file = args.out.join(format!("scaling-{}.svg", sweep.name));
        write_bytes(&file, chart(&sweep, &measured).to_svg().as_bytes())?;
    }
    Ok(())
}

fn sweeps() -> Vec<Sweep> {
    let sweep = |name, label, values: &[i64], change: fn(&mut Shape, i64) -> f64| Sweep {
        name,
        label,
        points: values
            .iter()
            .map(|value| {
                let mut shape = MIDDLE;
                let x = change(&mut shape, *value);
                (x, shape, JUMP_SHARE)
            })
            .collect(),
    };
    let shares = (0..=8).map(|eighths| f64::from(eighths) / 8.0);
    vec![
        Sweep {
            name: "share",
            label: "share of MeanFlow rows",
            points: shares.map(|share| (share, MIDDLE, share)).collect(),
        },
        sweep(
            "batch",
            "rows of a batch",
            &[4, 8, 16, 32, 64],
            |shape, rows| {
                shape.rows = rows as usize;
                rows as f64
            },
        ),
        sweep("tokens", "tokens", &[8, 12, 16, 24, 32], |shape, side| {
            shape.side = side;
            (side / PATCH).pow(2) as f64
        }),
        sweep("depth", "blocks", &[1, 2, 4, 8, 12], |shape, depth| {
            shape.depth = depth;
            depth as f64
        }),
        sweep(
            "width",
            "width",
            &[64, 128, 192, 256, 384],
            |shape, width| {
                shape.width = width;
                width as f64
            },
        ),
    ]
}

/// Plain and MeanFlow steps by turns.
fn measure(x: f64, shape: Shape, share: f64, rounds: usize) -> Result<Point, Box<dyn Error>> {
    let rows = shape.rows;
    let mut training = Training::new(
        &shape.size(),
        (rows, 1),
        Guide::None.scales(),
        Compute::default(),
        Device::Cpu,
    )?;
    let variants = [Variant::Plain, Variant::Dual];
    let (mut times, mut units) = ([Vec::new(), Vec::new()], [0.0; 2]);
    for round in 0..WARM_UP + rounds {
        for (index, variant) in variants.into_iter().enumerate() {
            let before = training.model().passes();
            let ((), time) = timed(Device::Cpu, || training.step(variant, share))?;
            units[index] = training.model().passes().since(before).units(rows);
            if round >= WARM_UP {
                times[index].push(time);
            }
        }
    }
    let [plain, mean_flow] = times.map(|times| milliseconds(median(times)));
    Ok(Point {
        x,
        plain,
        mean_flow,
        units: [units[1], units[0]],
    })
}

impl Shape {
    fn size(self) -> Size {
        let network = NetworkConfig::Dit(DitConfig {
            patch: PATCH,
            width: self.width,
            depth: self.depth,
            heads: self.width / 64,
            mlp_ratio: 4.0,
            embedding: TimeEmbedding::TH,
        });
        Size {
            channels: 4,
            side: self.side,
            classes: 10,
            network,
            batch: Batches {
                cpu: self.rows,
                cuda: self.rows,
            },
        }
    }
}

impl Point {
    /// The plain step's time, by the counted forwards of both.
    fn predicted(&self) -> f64 {
        self.plain * self.units[0] / self.units[1]
    }
}

fn print(sweep: &Sweep, points: &[Point]) {
    println!(
        "{:<20} {:>9} {:>9} {:>9} {:>8} {:>6} {:>9}",
        sweep.label, "plain ms", "MeanFlow", "predicted", "÷ plain", "units", "÷ predicted"
    );
    for point in points {
        let (found, predicted) = (point.mean_flow, point.predicted());
        println!(
            "{:<20} {:>9.2} {found:>9.2} {predicted:>9.2} {:>8.2} {:>6.2} {:>9.2}",
            point.x,
            point.plain,
            found / point.plain,
            point.units[0],
            found / predicted
        );
    }
}

fn chart(sweep: &Sweep, points: &[Point]) -> LineChart {
    let series = |name: &str, value: fn(&Point) -> f64| Series {
        name: name.to_owned(),
        points: points.iter().map(|point| (point.x, value(point))).collect(),
        smooth_over: 0,
    };
    let title = match sweep.name {
        "share" => "A step against the share of MeanFlow rows".to_owned(),
        _ => format!(
            "A step against {}, a quarter of the rows being MeanFlow rows",
            sweep.label
        ),
    };
    LineChart {
        title,
        x_label: sweep.label.to_owned(),
        y_label: "milliseconds a step".to_owned(),
        y_scale: Scale::Linear,
        series: vec![
            series("flow matching", |point| point.plain),
            series("MeanFlow", |point| point.mean_flow),
            series("predicted: flow matching × (3 + f) ÷ 3", Point::predicted),
        ],
    }
}
