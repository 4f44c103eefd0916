//! `cargo xtask bench gpus`: what a step should take on many GPUs, by arithmetic from what was measured on one, as tables and pictures
//! of the documentation. Nothing is measured.

use crate::{files, workspace};
use anyhow::Result;
use meanflow_figures::{LineChart, Scale, Series};
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Gpus {
    /// The folder of the pictures [default: docs/src/images].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// A network on an H200: a guided step in bfloat16, done as it is written, with AdamW and one average (docs/src/gpu-h200.md).
struct Network {
    name: &'static str,
    file: &'static str,
    /// Numbers in it.
    parameters: f64,
    /// Rows and milliseconds of the step that was measured.
    measured: (f64, f64),
    /// Operations that the host starts in a step.
    launches: f64,
}

const NETWORKS: [Network; 2] = [
    Network {
        name: "B/4",
        file: "b4",
        parameters: 131.0e6,
        measured: (256.0, 42.50),
        launches: 1644.0,
    },
    Network {
        name: "XL/2",
        file: "xl2",
        parameters: 676.4e6,
        measured: (32.0, 102.4),
        // 28 blocks in the place of 12.
        launches: 1644.0 * 28.0 / 12.0,
    },
];

/// Optimiser and average of B/4, 131 million parameters: milliseconds, measured.
const UPDATE: (f64, f64) = (131.0e6, 2.028);
/// A step of a network of 4 blocks takes the host 10 ms, a third of the launches of B/4: milliseconds a launch.
const LAUNCH: f64 = 10.0 / 548.0;
/// Numbers that a pass over memory moves a second, read or written, four bytes each: what the update of an average reaches.
const MEMORY: f64 = 1.94e12 / 4.0;
/// Bytes of a gradient on its way.
const BYTES: f64 = 4.0;
/// A sum in pairs over NCCL in a group of one, measured: what it costs to start its operations, in milliseconds.
const START: f64 = 0.052;
/// What rank 0 broadcasts before a step, by a tree over TCP: milliseconds a level. Assumed.
const CONTROL: f64 = 0.05;
/// Of the work on rows the part that is the backward pass: two of the five and a quarter forwards of a guided step.
const BACKWARD: f64 = 2.0 / 5.25;
/// GPUs of a machine, which NVLink connects.
const NODE: f64 = 8.0;

/// What connects GPUs; bytes a second that a GPU sends, four fifths of what the link is sold for, and seconds that a message takes.
/// Both assumed.
struct Link {
    name: &'static str,
    between_nodes: (f64, f64),
}

const NVLINK: (f64, f64) = (360e9, 1e-6);
const LINKS: [Link; 3] = [
    Link {
        name: "NVLink",
        between_nodes: NVLINK,
    },
    Link {
        name: "400 Gb/s a GPU",
        between_nodes: (40e9, 3e-6),
    },
    Link {
        name: "100 Gb/s a GPU",
        between_nodes: (10e9, 3e-6),
    },
];

const BATCHES: [f64; 4] = [256.0, 1024.0, 4096.0, 8192.0];
/// Two to the power of these.
const POWERS: std::ops::RangeInclusive<i32> = 0..=10;

/// Where the milliseconds of a step go.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    /// Forwards, tangent and backward pass.
    rows: f64,
    /// The sum of the gradients and what it takes to lay them out.
    sum: f64,
    /// Optimiser and averages.
    update: f64,
    /// What rank 0 broadcasts about the step and gathers from it.
    control: f64,
}

impl Step {
    fn total(&self) -> f64 {
        self.rows + self.sum + self.update + self.control
    }

    /// The least that it can take where sums go beside the backward pass of one microbatch: what is longer than that is still waited for.
    fn overlapped(&self) -> f64 {
        self.total() - self.sum.min(BACKWARD * self.rows)
    }
}

impl Network {
    fn update(&self) -> f64 {
        UPDATE.1 * self.parameters / UPDATE.0
    }

    /// Milliseconds of a row where there are enough of them.
    fn row(&self) -> f64 {
        (self.measured.1 - self.update()) / self.measured.0
    }

    /// A step of `batch` rows on so many GPUs.
    fn step(&self, batch: f64, gpus: f64, link: &Link, shards: bool) -> Step {
        let rows = (batch / gpus).max(1.0) * self.row();
        Step {
            rows: rows.max(self.launches * LAUNCH),
            sum: self.sum(gpus, link),
            update: self.update() / if shards { gpus } else { 1.0 },
            control: if gpus > 1.0 {
                CONTROL * gpus.log2()
            } else {
                0.0
            },
        }
    }

    /// To every other its part, a sum, and all parts back; with a sharded optimiser parameters come back, as many.
    fn sum(&self, gpus: f64, link: &Link) -> f64 {
        if gpus == 1.0 {
            return 0.0;
        }
        let inside = gpus.min(NODE) / gpus;
        let bytes = BYTES * self.parameters;
        let own = bytes * (inside - 1.0 / gpus) / NVLINK.0;
        let others = bytes * (1.0 - inside) / link.between_nodes.0;
        let latency = match gpus > NODE {
            true => link.between_nodes.1,
            false => NVLINK.1,
        };
        // They go over different wires at a time.
        let once = own.max(others) + (gpus - 1.0) * latency;
        // Gradients into the buffer that is sent, twice, and the pairs.
        let passes = 5.0 * self.parameters / MEMORY;
        1e3 * (2.0 * once + passes) + START
    }

    /// Gigabytes of a GPU beside activations: parameters, gradients and what is sent; moments and an average.
    fn memory(&self, gpus: f64, shards: bool) -> f64 {
        let beside = 12.0 / if shards { gpus } else { 1.0 };
        self.parameters * (4.0 + 4.0 + 4.0 + 2.0 + beside) / 1e9
    }

    /// Of as many times the speed of one GPU on the same batch, the share that is reached.
    fn efficiency(&self, batch: f64, gpus: f64, link: &Link, shards: bool) -> f64 {
        let one = self.step(batch, 1.0, link, false).total();
        one / (gpus * self.step(batch, gpus, link, shards).total())
    }
}

/// Prints tables in Markdown, and writes `gpus-*.svg` into the folder.
pub(super) fn run(args: &Gpus) -> Result<()> {
    let pictures = || workspace::root().join("docs/src/images");
    let out = args.out.clone().unwrap_or_else(pictures);
    for network in NETWORKS {
        print(&network);
        let file = out.join(format!("gpus-{}.svg", network.file));
        files::write(&file, chart(&network).to_svg())?;
    }
    Ok(())
}

/// GPUs in the columns of a table.
const SHOWN: [f64; 5] = [2.0, 8.0, 64.0, 256.0, 1024.0];

fn print(network: &Network) {
    let name = network.name;
    let head = SHOWN.map(|gpus| format!("{gpus}")).join(" | ");
    println!("{name}: milliseconds a step (share of the ideal), with ZeRO-1\n");
    println!(
        "| batch | link | 1 | {head} |\n|---|---|{}",
        "---|".repeat(1 + SHOWN.len())
    );
    for batch in BATCHES {
        for link in &LINKS {
            let one = network.step(batch, 1.0, link, true).total();
            let cell = |gpus: f64| {
                if gpus > batch {
                    return "–".to_owned();
                }
                let step = network.step(batch, gpus, link, true).total();
                let share = 100.0 * network.efficiency(batch, gpus, link, true);
                format!("{step:.0$} ({share:.0} %)", digits(step))
            };
            let cells = SHOWN.map(cell).join(" | ");
            println!("| {batch} | {} | {one:.0} | {cells} |", link.name);
        }
    }
    terms(network, &head);
}

/// What a step is made of.
fn terms(network: &Network, head: &str) {
    println!(
        "\n| | 1 | {head} |\n|---|---|{}",
        "---|".repeat(SHOWN.len())
    );
    let line = |what: &str, value: &dyn Fn(f64) -> f64| {
        let cells = SHOWN.map(|gpus| format!("{:.1}", value(gpus))).join(" | ");
        println!("| {what} | {:.1} | {cells} |", value(1.0));
    };
    line("GB a GPU beside activations", &|gpus| {
        network.memory(gpus, false)
    });
    line("the same with ZeRO-1", &|gpus| network.memory(gpus, true));
    for link in &LINKS {
        line(&format!("ms of the sum, {}", link.name), &|gpus| {
            network.sum(gpus, link)
        });
    }
    for link in &LINKS {
        let what = format!(
            "ms a step on {DRAWN} rows at best, sums beside the backward pass, {}",
            link.name
        );
        line(&what, &|gpus| {
            network.step(DRAWN, gpus, link, true).overlapped()
        });
    }
    line("ms of the update", &|_| network.update());
    line("the same with ZeRO-1", &|gpus| network.update() / gpus);
    println!();
}

/// Places behind the point of milliseconds.
fn digits(ms: f64) -> usize {
    usize::from(ms < 100.0)
}

/// A batch that fits many GPUs, over all links.
const DRAWN: f64 = 1024.0;

fn chart(network: &Network) -> LineChart {
    let series = |name: String, value: &dyn Fn(f64) -> f64| Series {
        name,
        points: POWERS
            .map(|power| (f64::from(power), value(f64::from(power).exp2())))
            .collect(),
        smooth_over: 0,
    };
    let one = network.step(DRAWN, 1.0, &LINKS[0], true).total();
    let mut all = vec![series("ideal".to_owned(), &|gpus| one / gpus)];
    for link in &LINKS {
        let step = |gpus| network.step(DRAWN, gpus, link, true).total();
        all.push(series(link.name.to_owned(), &step));
    }
    LineChart {
        title: format!(
            "A guided step of {} on {DRAWN} rows, computed",
            network.name
        ),
        x_label: "GPUs, as a power of two".to_owned(),
        y_label: "milliseconds a step".to_owned(),
        y_scale: Scale::Logarithmic,
        series: all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gpu_takes_what_was_measured() {
        for network in &NETWORKS {
            let (rows, ms) = network.measured;
            let step = network.step(rows, 1.0, &LINKS[0], false);
            assert!((step.total() - ms).abs() < 1e-9, "{step:?}");
            // What is measured is bound by the device, not by the host, which starts its operations in less.
            assert!(network.launches * LAUNCH < step.rows);
            // There is nothing to hide.
            assert_eq!(step.overlapped(), step.total());
        }
    }

    /// The terms that the report has beside the steps: 2.03 ms for optimiser and average; XL/2 takes 1.19 times as long for 32
    /// MeanFlow rows as for plain ones, which is no part of this.
    #[test]
    fn more_gpus_send_no_more_than_twice_the_gradient_and_slower_links_take_longer() {
        for network in &NETWORKS {
            let bytes = BYTES * network.parameters;
            for power in POWERS.skip(1) {
                let gpus = f64::from(power).exp2();
                let sums = LINKS.each_ref().map(|link| network.sum(gpus, link));
                assert!(sums.is_sorted(), "{sums:?}");
                let least = 1e3 * 2.0 * bytes * (gpus.min(NODE) - 1.0) / gpus / NVLINK.0;
                assert!(sums[0] > least);
                assert!(network.memory(gpus, true) < network.memory(gpus, false));
                for link in &LINKS {
                    for batch in BATCHES {
                        let share = network.efficiency(batch, gpus, link, true);
                        assert!(share > 0.0 && share < 1.0 + 1e-9, "{gpus} {batch} {share}");
                        let step = network.step(batch, gpus, link, true);
                        let least = step.total() - step.sum;
                        assert!(step.overlapped() >= least && step.overlapped() < step.total());
                    }
                }
            }
        }
    }
}
