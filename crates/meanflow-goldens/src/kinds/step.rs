//! Goldens of a whole training step of the transformer, draws given: every intermediate, the loss, every gradient.

use meanflow_cfg::{Guidance, GuidanceInterval, guided_velocity};
use meanflow_core::schedule::Schedule;
use meanflow_core::times::TimeDraw;
use meanflow_core::{AdaptiveWeight, Interval, Reduction, identity};
use meanflow_torch::convert::Layout;
use meanflow_torch::{
    Batch, Conditioning, JvpInputs, Model, Objective, PerRow, Rows, TorchError, per_row,
    squared_norms,
};
use serde::Deserialize;
use tch::{Tensor, no_grad};

use super::dit::OfficialDit;
use crate::{Comparison, Computed, GoldenFile, Report, Setting, Tolerance};

#[derive(Deserialize)]
struct Config {
    net: OfficialDit,
    method: Method,
}

/// The method's settings that are no draws.
#[derive(Deserialize)]
struct Method {
    guidance_eq: String,
    omega: f64,
    kappa: f64,
    t_start: f64,
    t_end: f64,
    norm_p: f64,
    norm_eps: f64,
}

impl Method {
    fn objective(&self, file: &GoldenFile, setting: &Setting) -> Result<Objective, TorchError> {
        let guidance = match self.guidance_eq.as_str() {
            "cfg" => GuidanceInterval::new(self.t_start, self.t_end)
                .and_then(|interval| Guidance::new(self.omega, self.kappa, interval))
                .map_err(|error| file.problem(error.to_string()))?,
            _ => Guidance::NONE,
        };
        Ok(Objective {
            schedule: Schedule::Linear,
            weight: AdaptiveWeight::new(self.norm_p, self.norm_eps, Reduction::Sum)
                .map_err(|error| file.problem(error.to_string()))?,
            guidance,
            jvp: setting.jvp,
        })
    }
}

pub(super) fn check(file: &GoldenFile, setting: &Setting) -> Result<Report, TorchError> {
    let config: Config = file.config()?;
    let model = config.net.load(file, setting)?;
    let objective = config.method.objective(file, setting)?;
    let draws = Draws::read(file, setting)?;
    let mut results = draws.restore(intermediates(&model, &objective, &draws.batch)?);
    let step = objective.loss(&model, &draws.batch)?;
    model.parameters().zero_grad();
    step.loss.backward();
    results.push(Computed::new(
        "out/loss",
        step.loss.detach(),
        Tolerance::LOSS,
    ));
    let monitor = step.v_loss.index_select(0, &draws.back);
    results.push(Computed::new(
        "out/v_loss_per_sample",
        monitor,
        Tolerance::LOSSES,
    ));
    let (gradients, all) = gradients(
        file,
        &model,
        Layout::Flax,
        [Tolerance::GRADIENT, Tolerance::GRADIENTS],
    );
    results.extend(gradients);
    file.report(&results, all, |name| {
        ["mid/", "out/", "grad/"]
            .iter()
            .any(|folder| name.starts_with(folder))
    })
}

/// The draws of the file with the MeanFlow rows first, and the way back to its order.
struct Draws {
    batch: Batch,
    back: Tensor,
}

impl Draws {
    fn read(file: &GoldenFile, setting: &Setting) -> Result<Self, TorchError> {
        let (t, r) = (file.numbers("draw/t")?, file.numbers("draw/r")?);
        let (times, order) = mean_flow_rows_first(file, &r, &t)?;
        let index = Tensor::from_slice(&order).to_device(setting.device);
        let (labels, dropped) = (file.integers("in/y")?, file.integers("draw/drop_mask")?);
        let pick = |values: &[i64]| {
            order
                .iter()
                .map(|row| values[*row as usize])
                .collect::<Vec<_>>()
        };
        let batch = Batch {
            data: file.picture("in/x", setting)?.index_select(0, &index),
            noise: file.picture("draw/e", setting)?.index_select(0, &index),
            labels: Some(pick(&labels)),
            augment: None,
            dropout: None,
            dropped: pick(&dropped).iter().map(|hit| *hit != 0).collect(),
            times,
        };
        Ok(Self {
            batch,
            back: index.argsort(0, false),
        })
    }

    /// Results in the order of the file.
    fn restore(&self, results: Vec<Computed>) -> Vec<Computed> {
        let back = |result: Computed| Computed {
            value: result.value.index_select(0, &self.back),
            ..result
        };
        results.into_iter().map(back).collect()
    }
}

/// The intervals with the MeanFlow rows first, and the rows of the file that they come from.
pub(super) fn mean_flow_rows_first(
    file: &GoldenFile,
    r: &[f64],
    t: &[f64],
) -> Result<(TimeDraw, Vec<i64>), TorchError> {
    let intervals = r.iter().zip(t).map(|(r, t)| Interval::new(*r, *t));
    let intervals: Vec<Interval> = intervals
        .collect::<Result<_, _>>()
        .map_err(|error| file.problem(error.to_string()))?;
    let rows = 0..intervals.len();
    let (mut order, flow): (Vec<usize>, Vec<usize>) =
        rows.partition(|row| intervals[*row].is_jump());
    let jumps = order.len();
    order.extend(flow);
    let times = TimeDraw {
        intervals: order.iter().map(|row| intervals[*row]).collect(),
        jumps,
    };
    Ok((times, order.iter().map(|row| *row as i64).collect()))
}

/// Everything on the way to the loss, computed on all rows: the step itself computes less.
fn intermediates(
    model: &Model,
    objective: &Objective,
    batch: &Batch,
) -> Result<Vec<Computed>, TorchError> {
    let t = batch.times.ts();
    let [x, e] = [&batch.data, &batch.noise].map(|x| Rows(x.shallow_clone()));
    let z = objective.schedule.interpolate(&x, &e, &t);
    let v = objective.schedule.velocity(&x, &e, &t);
    let null = Rows(model.predict(&z.0, &t, &t, None));
    let class = Rows(model.predict(&z.0, &t, &t, batch.labels.as_deref()));
    let guided = |dropped: &dyn Fn(usize) -> bool| {
        let weights = t.iter().enumerate();
        let weights: Vec<_> = weights
            .map(|(row, t)| objective.guidance.coefficients(*t, dropped(row)))
            .collect();
        guided_velocity(&v, Some(&class), Some(&null), &weights)
    };
    let (all, after) = (guided(&|_| false), guided(&|row| batch.dropped[row]));
    let classes = model.config().classes;
    let labels: Vec<i64> = (batch.labels.iter().flatten())
        .zip(&batch.dropped)
        .map(|(label, dropped)| if *dropped { classes } else { *label })
        .collect();
    let labels = Tensor::from_slice(&labels).to_device(model.device());
    let condition = Conditioning::of_labels(Some(labels.shallow_clone()));
    let output = Tolerance::OUTPUT;
    let mut results = vec![
        Computed::picture("mid/z", &z.0, output),
        Computed::picture("mid/v", &v.0, output),
        Computed::picture("mid/v_u", &null.0, output),
        Computed::picture("mid/v_c", &class.0, output),
        Computed::picture("mid/v_g", &all.0, output),
        Computed::picture("mid/v_g_after_drop", &after.0, output),
        Computed::new("mid/y_inp", labels, Tolerance::EXACT),
    ];
    let regression = Regression::new(model, objective, batch, [&z, &after], condition)?;
    results.extend([
        Computed::picture("mid/u", &regression.u, output),
        Computed::picture("mid/dudt", &regression.dudt, Tolerance::DERIVATIVE),
        Computed::picture("mid/u_tgt", &regression.target, output),
        Computed::new("out/loss_per_sample", regression.losses, Tolerance::LOSSES),
        Computed::new("out/adaptive_weight", regression.weights, Tolerance::LOSSES),
    ]);
    Ok(results)
}

/// What the network answers on all rows, what it should, and how wrong it is.
pub(super) struct Regression {
    pub(super) u: Tensor,
    pub(super) dudt: Tensor,
    pub(super) target: Tensor,
    pub(super) losses: Tensor,
    pub(super) weights: Tensor,
}

impl Regression {
    /// At the states `z`, which move along `velocity`.
    pub(super) fn new(
        model: &Model,
        objective: &Objective,
        batch: &Batch,
        [z, velocity]: [&Rows; 2],
        condition: Conditioning,
    ) -> Result<Self, TorchError> {
        let point = JvpInputs {
            r: per_row(&batch.times.rs(), &z.0),
            t: per_row(&batch.times.ts(), &z.0),
            condition,
            velocity: velocity.0.shallow_clone(),
            z: z.0.shallow_clone(),
        };
        let (u, dudt) = no_grad(|| objective.jvp.evaluate(model, &point))?;
        let dudt = Rows(dudt);
        let target = identity::target(velocity, &dudt, &batch.times.lengths()).0;
        let losses = squared_norms(&(&u - &target));
        let weights = objective.weight.weight(&PerRow(losses.shallow_clone())).0;
        Ok(Self {
            u,
            dudt: dudt.0,
            target,
            losses,
            weights,
        })
    }
}

/// The gradients that the parameters carry, in the layout of the file: one by one, and those in the file as one vector.
pub(super) fn gradients(
    file: &GoldenFile,
    model: &Model,
    layout: Layout,
    [each, all]: [Tolerance; 2],
) -> (Vec<Computed>, Vec<Comparison>) {
    let computed = model.parameters().iter().map(|(name, parameter)| {
        let gradient = parameter.grad();
        let gradient = if gradient.defined() {
            gradient
        } else {
            parameter.zeros_like()
        };
        let (name, value) = layout.export(name, &gradient);
        Computed::new(format!("grad/{name}"), value.copy(), each)
    });
    let computed: Vec<Computed> = computed.collect();
    let both = computed
        .iter()
        .filter_map(|ours| Some((&ours.value, file.get(&ours.name)?)));
    let (ours, official): (Vec<_>, Vec<_>) = both
        .map(|(ours, official)| (ours.flatten(0, -1), official.flatten(0, -1)))
        .unzip();
    let vector = (!ours.is_empty()).then(|| {
        Comparison::new(
            "grad (all as one vector)",
            &Tensor::cat(&ours, 0),
            &Tensor::cat(&official, 0),
            all,
        )
    });
    (computed, vector.into_iter().collect())
}
