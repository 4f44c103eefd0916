//! The sizes that all rivals know: `benches/sizes.json`.

use std::collections::BTreeMap;

use meanflow_core::Schedule;
use meanflow_torch::networks::NetworkConfig;
use meanflow_torch::{Device, ModelConfig, Prediction};
use serde::Deserialize;

/// A network and its data.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Channels of a picture.
    pub channels: i64,
    /// Its height and width.
    pub side: i64,
    /// Number of classes.
    pub classes: i64,
    /// The network, with the keys of a recipe's `[network]`.
    pub network: NetworkConfig,
    /// Rows of a batch, by device.
    pub batch: Batches,
}

/// Rows of a batch that suit a device.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batches {
    /// On a CPU.
    pub cpu: usize,
    /// On a CUDA device.
    pub cuda: usize,
}

impl Size {
    /// The size of that name.
    pub fn named(name: &str) -> Option<Self> {
        let mut sizes: BTreeMap<String, Self> =
            serde_json::from_str(include_str!("../sizes.json")).expect("the table of sizes");
        sizes.remove(name)
    }

    /// The shape of a picture.
    pub fn shape(&self) -> Vec<i64> {
        vec![self.channels, self.side, self.side]
    }

    /// Rows of a batch on that device.
    pub fn rows(&self, device: Device) -> usize {
        if device == Device::Cpu {
            self.batch.cpu
        } else {
            self.batch.cuda
        }
    }

    /// The model, conditional, on the linear path.
    pub fn model(&self) -> ModelConfig {
        ModelConfig {
            network: self.network.clone(),
            shape: self.shape(),
            classes: self.classes,
            schedule: Schedule::Linear,
            prediction: Prediction::Velocity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_the_published_sizes() {
        // Geng et al. 2025, Table 4: millions of parameters.
        // The network of CIFAR-10 has a table of classes here, and no map of augmentations: three thousand more.
        for (name, millions) in [
            ("b4", 131.17),
            ("b2", 131.09),
            ("xl2", 676.4),
            ("cifar-unet", 55.93),
        ] {
            let count = Size::named(name)
                .unwrap()
                .model()
                .parameter_count()
                .unwrap();
            let found = count as f64 / 1e6;
            // As many digits as are published.
            assert!((found - millions).abs() < 0.05, "{name}: {found}");
        }
        assert!(Size::named("z9").is_none());
    }
}
