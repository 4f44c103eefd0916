//! A network that is exact: the average velocity of normal data with any covariance, in closed form.

use std::f64::consts::TAU;
use std::sync::Once;

use meanflow_core::Schedule;
use meanflow_torch::networks::{self, CustomNetwork, Network, NetworkBuilder};
use meanflow_torch::{
    Conditioning, Device, Dual, Flops, Kind, Model, ModelConfig, Prediction, Tensor, TorchError,
    VarBuilder,
};
use serde::Deserialize;
use serde_json::json;

/// Normal data on the linear path: mean `m` and, along the columns of an orthogonal matrix, standard deviations.
#[derive(Clone, Debug, Deserialize)]
pub struct NormalData {
    mean: Vec<f64>,
    std: Vec<f64>,
}

static REGISTERED: Once = Once::new();

/// The model of normal data in f64.
pub fn normal_model(mean: &[f64], std: &[f64]) -> (Model, NormalData) {
    REGISTERED.call_once(|| networks::register::<NormalData>("normal-data").unwrap());
    let config = json!({ "mean": mean, "std": std });
    let serde_json::Value::Object(config) = config else {
        unreachable!("an object");
    };
    let config = ModelConfig {
        network: CustomNetwork::new("normal-data", config).unwrap().into(),
        shape: vec![mean.len() as i64],
        classes: 0,
        schedule: Schedule::Linear,
        prediction: Prediction::Velocity,
    };
    tch::set_num_threads(1);
    let data = NormalData {
        mean: mean.to_vec(),
        std: std.to_vec(),
    };
    let model = Model::new(config, 0, Device::Cpu, Kind::Double).unwrap();
    (model, data)
}

impl NormalData {
    /// An orthogonal symmetric matrix that mixes all dimensions: the reflection at `(1, 2, …)`.
    fn axes(&self) -> Tensor {
        let w: Vec<f64> = (1..=self.mean.len()).map(|n| n as f64).collect();
        let w = Tensor::from_slice(&w).reshape([-1, 1]);
        let length = w.square().sum(Kind::Double);
        let eye = Tensor::eye(self.mean.len() as i64, (Kind::Double, Device::Cpu));
        eye - w.matmul(&w.tr()) * 2.0 / length
    }

    /// The covariance, `[D, D]`.
    pub fn covariance(&self) -> Tensor {
        let axes = self.axes();
        let variances = Tensor::from_slice(&self.std).square();
        (&axes * variances).matmul(&axes.tr())
    }

    /// The mean, `[D]`.
    pub fn mean(&self) -> Tensor {
        Tensor::from_slice(&self.mean)
    }

    /// Data from standard normal numbers `[B, D]`.
    pub fn draw(&self, normal: &Tensor) -> Tensor {
        (normal * Tensor::from_slice(&self.std)).matmul(&self.axes().tr()) + self.mean()
    }

    /// `log p(x)`, `[B]`.
    pub fn log_density(&self, x: &Tensor) -> Tensor {
        let std = Tensor::from_slice(&self.std);
        let standard = (x - self.mean()).matmul(&self.axes()) / &std;
        let constant = (std.log() + 0.5 * TAU.ln()).sum(Kind::Double);
        standard.square().sum_dim_intlist(1, false, None::<Kind>) * -0.5 - constant
    }
}

impl NetworkBuilder for NormalData {
    fn validate(&self, _shape: &[i64], _classes: i64) -> Result<(), TorchError> {
        Ok(())
    }

    fn build(&self, _vars: &mut VarBuilder, _shape: &[i64], _classes: i64) -> Box<dyn Network> {
        Box::new(Exact {
            axes: self.axes(),
            mean: self.mean().unsqueeze(0).matmul(&self.axes()),
            variance: Tensor::from_slice(&self.std).square().unsqueeze(0),
        })
    }
}

/// The closed form, along the axes.
#[derive(Debug)]
struct Exact {
    axes: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl Network for Exact {
    fn forward(&self, z: &Dual, r: &Dual, t: &Dual, _: &Conditioning) -> Dual {
        let (r, t) = (r.primal().unsqueeze(1), t.primal().unsqueeze(1));
        let rest = |t: &Tensor| t.neg() + 1.0;
        let spread = |t: &Tensor| (t.square() + rest(t).square() * &self.variance).sqrt();
        let shrink = spread(&r) / spread(&t);
        let h = &t - &r;
        // u = (z_t − z_r)/h with z_r = a_r m + (S_r/S_t)(z_t − a_t m); at r = t its limit, v.
        let slope = (&t - rest(&t) * &self.variance) / spread(&t).square();
        let still = h.eq(0.0);
        let factor = slope.where_self(&still, &(rest(&shrink) / &h));
        let shift = (&self.mean * rest(&t) * &shrink - &self.mean * rest(&r)) / &h;
        let limit = self.mean.neg() - &factor * &self.mean * rest(&t);
        let shift = limit.where_self(&still, &shift);
        let along = z.map_linear(|z| z.matmul(&self.axes));
        let moved = along.mul_const(&factor).add_constant(&shift);
        moved.map_linear(|u| u.matmul(&self.axes.tr()))
    }

    fn flops(&self) -> Flops {
        Flops::default()
    }
}
