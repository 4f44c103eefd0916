//! The `meanflow` command with a network, a scheduler and a data set of one's own.
//!
//! ```text
//! cargo run --release -p meanflow-cli --example custom_parts -- train crates/meanflow-cli/examples/custom_parts.toml --out runs/stripes
//! cargo run --release -p meanflow-cli --example custom_parts -- sample runs/stripes --seeds 0-63 --out stripes.png
//! cargo run --release -p meanflow-cli --example custom_parts -- eval runs/stripes
//! ```
//!
//! Each part is registered under a name, which the recipe says. Run folder, checkpoints, weights files, sampler and
//! evaluation need nothing more.

use std::error::Error;
use std::f64::consts::TAU;

use meanflow_core::scheduler::{Jet, Scheduler};
use meanflow_core::{Purpose, RngStream, Schedule};
use meanflow_data::custom::{self, DatasetBuilder};
use meanflow_data::{DataError, Dataset, MemoryDataset};
use meanflow_torch::layers::{LabelEmbedder, Linear, TimeEmbedding, TimestepEmbedder};
use meanflow_torch::networks::{self, Network, NetworkBuilder};
use meanflow_torch::{Conditioning, Dual, Flops, TorchError, VarBuilder};
use serde::Deserialize;

fn main() -> Result<(), Box<dyn Error>> {
    Schedule::register("early-noise", &EarlyNoise)?;
    custom::register::<Stripes>("stripes")?;
    networks::register::<PerceptronConfig>("perceptron")?;
    meanflow_cli::main()
}

/// `a = 1 − t`, `b = t (3 − t) / 2`: noise comes early.
#[derive(Debug)]
struct EarlyNoise;

impl Scheduler for EarlyNoise {
    fn a(&self, t: Jet) -> Jet {
        -t + 1.0
    }

    fn b(&self, t: Jet) -> Jet {
        t * (-t + 3.0) / 2.0
    }
}

/// Grey pictures of stripes, lying (class 0) or standing (class 1), at any place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stripes {
    /// Number of pictures.
    pictures: u64,
    /// Height and width of each.
    side: usize,
}

impl DatasetBuilder for Stripes {
    fn load(self, seed: u64) -> Result<Box<dyn Dataset>, DataError> {
        if self.pictures == 0 || self.side == 0 {
            return Err(DataError::Shape {
                what: "data.config",
                expected: "at least one picture of at least one pixel".to_owned(),
                got: format!("{} of side {}", self.pictures, self.side),
            });
        }
        let (mut bytes, mut labels) = (Vec::new(), Vec::new());
        for picture in 0..self.pictures {
            let phase = RngStream::new(seed, Purpose::Data, picture).uniform();
            let class = picture % 2;
            for (row, column) in (0..self.side).flat_map(|r| (0..self.side).map(move |c| (r, c))) {
                let place = [row, column][class as usize] as f64 / self.side as f64;
                let wave = (TAU * (2.0 * place + phase)).sin();
                bytes.push((127.5 * (1.0 + wave)).round() as u8);
            }
            labels.push(class as i64);
        }
        let stripes = MemoryDataset::from_pictures(bytes, [1, self.side, self.side], labels, 2)?;
        let names = ["lying", "standing"].map(str::to_owned).to_vec();
        Ok(Box::new(stripes.with_class_names(Some(names))?))
    }
}

/// The size of a [`Perceptron`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PerceptronConfig {
    /// Width of the hidden layers.
    width: i64,
}

impl NetworkBuilder for PerceptronConfig {
    fn validate(&self, _shape: &[i64], _classes: i64) -> Result<(), TorchError> {
        if (1..=1 << 14).contains(&self.width) {
            return Ok(());
        }
        Err(TorchError::Config {
            key: "config.width",
            expected: "1 to 16384".to_owned(),
            got: self.width.to_string(),
        })
    }

    fn build(&self, vars: &mut VarBuilder, shape: &[i64], classes: i64) -> Box<dyn Network> {
        let (pixels, width) = (shape.iter().product(), self.width);
        Box::new(Perceptron {
            shape: shape.to_vec(),
            enter: Linear::xavier(&mut vars.sub("enter"), pixels, width),
            times: TimestepEmbedder::new(vars, TimeEmbedding::TH, width),
            labels: (classes > 0)
                .then(|| LabelEmbedder::new(&mut vars.sub("labels"), classes, width)),
            hidden: Linear::xavier(&mut vars.sub("hidden"), width, width),
            leave: Linear::xavier(&mut vars.sub("leave"), width, pixels),
        })
    }
}

/// Two hidden layers over all pixels of a picture at once.
#[derive(Debug)]
struct Perceptron {
    shape: Vec<i64>,
    enter: Linear,
    times: TimestepEmbedder,
    labels: Option<LabelEmbedder>,
    hidden: Linear,
    leave: Linear,
}

impl Network for Perceptron {
    /// Every operation carries the tangent along; what is linear and works row by row needs no rule of its own.
    fn forward(&self, z: &Dual, r: &Dual, t: &Dual, condition: &Conditioning) -> Dual {
        let mut embedded = self.times.forward(r, t);
        if let (Some(table), Some(labels)) = (&self.labels, &condition.labels) {
            embedded = embedded.add_constant(&table.forward(labels));
        }
        let x = self.enter.forward(&z.map_linear(|z| z.flatten(1, -1)));
        let x = self.hidden.forward(&x.add(&embedded).silu()).silu();
        let shape: Vec<i64> = [-1].iter().chain(&self.shape).copied().collect();
        self.leave.forward(&x).map_linear(|x| x.reshape(&shape))
    }

    fn flops(&self) -> Flops {
        let layers = [&self.enter, &self.hidden, &self.leave];
        self.times.flops() + layers.iter().map(|layer| layer.flops(1)).sum()
    }
}
