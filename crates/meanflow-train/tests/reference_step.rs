//! The training step against one that is written plainly: whole batch, numbers on the host, one tensor after the other.

use std::path::Path;

use meanflow_cfg::Guidance;
use meanflow_torch::{Device, Kind, Model, Objective, Tensor};
use meanflow_train::{StepMetrics, TrainConfig, Trainer};
use tch::no_grad;

const LR: f64 = 1e-2;
const WEIGHT_DECAY: f64 = 0.1;
const BETAS: [f64; 2] = [0.9, 0.95];
const MAX_NORM: f64 = 0.2;
const DECAY: f64 = 0.8;

const RECIPE: &str = r#"
seed = 5
data = { kind = "digits", conditional = true }
network = { kind = "dit", patch = 4, width = 16, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = "th" }
path = { kind = "linear" }
optimizer = { kind = "adamw", beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1 }
lr = { schedule = "constant", peak = 1e-2, warmup_steps = 0 }
loss = { norm_p = 1.0, norm_eps = 0.01, reduction = "sum" }
guidance = { omega = 1.0, kappa = 0.5, interval = [0.2, 0.9] }
class_dropout={ prob = 0.1, rows = "independent" }
ema = { decays = [0.8], warmup = false }
training = { batch_size = 24, steps = 20, checkpoint_every = 20, sample_every = 20, max_grad_norm = 0.2 }
sampling = { grid = [1, 1], nfe = [1] }

[times]
t = { kind = "logit-normal", mean = -0.4, std = 1.0 }
mean_flow_ratio = { count = 0.5 }
order = "after-ordering"
"#;

fn config(overrides: &[&str]) -> TrainConfig {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    TrainConfig::parse(Path::new("test.toml"), RECIPE, &overrides).unwrap()
}

fn trainer(config: &TrainConfig) -> Trainer {
    let data = config.data.load(config.seed).unwrap();
    Trainer::new(config.clone(), data, Device::Cpu).unwrap()
}

/// The state of a training with AdamW and one average, as in a textbook.
struct Plain {
    model: Model,
    objective: Objective,
    moments: Vec<[Tensor; 2]>,
    average: Vec<Tensor>,
    steps: i32,
}

impl Plain {
    fn new(config: &TrainConfig, like: &Model) -> Self {
        let model = Model::new(like.config().clone(), config.seed, Device::Cpu, Kind::Float);
        let model = model.unwrap();
        let tensors = model.parameters().tensors();
        Self {
            objective: Objective {
                schedule: config.path,
                weight: config.loss,
                guidance: config.guidance.unwrap_or(Guidance::NONE),
                jvp: config.training.jvp,
            },
            moments: tensors
                .iter()
                .map(|p| [p.detach().zeros_like(), p.detach().zeros_like()])
                .collect(),
            average: tensors.iter().map(|p| p.detach().copy()).collect(),
            model,
            steps: 0,
        }
    }

    /// Loss and norm of the gradient of the step.
    fn step(&mut self, trainer: &mut Trainer, step: u64) -> [f64; 2] {
        let batch = trainer.batch(step).unwrap();
        self.model.parameters().zero_grad();
        let loss = self.objective.loss(&self.model, &batch).unwrap().loss;
        loss.backward();
        self.steps += 1;
        let parameters = self.model.parameters().tensors();
        let squares = parameters.iter().map(|p| {
            let gradient = p.grad();
            gradient.square().sum(Kind::Double).double_value(&[])
        });
        let norm = squares.sum::<f64>().sqrt();
        let clip = (MAX_NORM / norm).min(1.0);
        no_grad(|| {
            for ((p, [m, v]), e) in parameters
                .iter()
                .zip(&mut self.moments)
                .zip(&mut self.average)
            {
                let g = p.grad() * clip;
                *m = &*m * BETAS[0] + &g * (1.0 - BETAS[0]);
                *v = &*v * BETAS[1] + &g * &g * (1.0 - BETAS[1]);
                let m_hat = &*m / (1.0 - BETAS[0].powi(self.steps));
                let v_hat = &*v / (1.0 - BETAS[1].powi(self.steps));
                let moved = *p * (1.0 - LR * WEIGHT_DECAY) - m_hat / (v_hat.sqrt() + 1e-8) * LR;
                p.shallow_clone().copy_(&moved);
                *e = &*e * DECAY + *p * (1.0 - DECAY);
            }
        });
        [loss.double_value(&[]), norm]
    }
}

/// The largest difference of two lists of tensors.
fn distance(one: &[&Tensor], other: &[&Tensor]) -> f64 {
    let differences = one.iter().zip(other).map(|(a, b)| *a - *b);
    differences
        .map(|x| x.abs().max().double_value(&[]))
        .fold(0.0, f64::max)
}

#[test]
fn a_step_is_the_plain_step() {
    tch::set_num_threads(1);
    for overrides in [
        &[][..],
        &["training.microbatches=5"],
        &["compute.async_metrics=true"],
    ] {
        let config = config(overrides);
        let (mut trainer, mut batches) = (trainer(&config), trainer(&config));
        let mut plain = Plain::new(&config, trainer.model());
        let mut clipped = 0;
        for step in 0..8 {
            let metrics = trainer.step().unwrap();
            let [loss, norm] = plain.step(&mut batches, step);
            // Sums of f32 in another order, passed on by the steps before.
            assert!((metrics.loss / loss - 1.0).abs() < 1e-4);
            assert!((metrics.grad_norm / norm - 1.0).abs() < 1e-4);
            clipped += usize::from(norm > MAX_NORM);
            // A step moves a weight by about 1e-2. Adam divides by the size of a gradient, and makes the rounding of a small
            // one large; the first step of a whole batch has the same gradients here and there.
            let same = step == 0 && config.training.microbatches.get() == 1;
            let tolerance = if same { 1e-6 } else { 1e-3 };
            let own = plain.model.parameters().tensors();
            let trained = trainer.model().parameters().tensors();
            assert!(distance(&trained, &own) < tolerance, "{overrides:?}");
            let average: Vec<&Tensor> = plain.average.iter().collect();
            let (ema, _) = trainer.average();
            assert!(distance(&ema.parameters().tensors(), &average) < tolerance);
        }
        assert!(clipped > 0, "no gradient was clipped");
    }
}

/// Eight steps on this many threads.
fn on_threads(
    threads: i32,
    config: &TrainConfig,
) -> (Vec<StepMetrics>, [Vec<(String, Tensor)>; 2]) {
    tch::set_num_threads(threads);
    let mut trainer = trainer(config);
    assert_eq!(trainer.sharing().workers, threads as usize);
    let metrics = (0..8).map(|_| trainer.step().unwrap()).collect();
    let named = |model: &Model| model.parameters().named();
    (metrics, [trainer.model(), trainer.average().0].map(named))
}

#[test]
fn no_digit_depends_on_the_number_of_threads() {
    for overrides in [
        &["training.microbatches=4"][..],
        &["training.microbatches=7", "compute.dtype=bf16"],
        &[
            "training.microbatches=6",
            "compute.activation_checkpointing=true",
        ],
        &["training.microbatches=4", "training.jvp=\"forward-ad\""],
        &[
            "training.microbatches=4",
            "training.jvp=\"double-backward\"",
        ],
    ] {
        let config = config(overrides);
        let one = on_threads(1, &config);
        for threads in [2, 3, 4] {
            assert_eq!(on_threads(threads, &config), one, "{overrides:?}");
        }
    }
    tch::set_num_threads(1);
}

#[test]
fn metrics_of_steps_before_stay_for_who_asks() {
    for metrics in ["compute.async_metrics=false", "compute.async_metrics=true"] {
        let mut trainer = trainer(&config(&[metrics]));
        trainer.advance().unwrap();
        trainer.advance().unwrap();
        assert_eq!(trainer.step().unwrap().step, 3);
        trainer.advance().unwrap();
        let steps = trainer.metrics().unwrap();
        assert_eq!(
            steps.iter().map(|one| one.step).collect::<Vec<_>>(),
            [1, 2, 4]
        );
        assert_eq!(trainer.metrics().unwrap(), []);
    }
}
