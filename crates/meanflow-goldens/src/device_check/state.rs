//! What is kept and moved: copies to the device, dropout masks, steps that are left out, checkpoints.

use std::collections::BTreeMap;

use meanflow_torch::{Adam, AdamConfig, Dropout, Gradients, Model, TorchError, ema, host, weights};
use tch::{Device, Kind, Tensor};

use super::CheckWork;
use super::subject::{self, same, step};
use crate::{Comparison, Tolerance};

pub(super) fn checks(device: Device) -> Vec<(String, CheckWork<'static>)> {
    let check = |name: &str, work: fn(Device) -> Result<Vec<Comparison>, TorchError>| {
        let work: CheckWork<'static> = Box::new(move || Ok(work(device)?.into()));
        (name.to_owned(), work)
    };
    vec![
        check("copies to the device", copies),
        check("dropout masks", masks),
        check("a step that is not finite changes nothing", left_out),
        check("checkpoint to the CPU and back", checkpoint),
    ]
}

/// Many asynchronous copies, of lengths that reuse each other's pinned memory.
fn copies(device: Device) -> Result<Vec<Comparison>, TorchError> {
    let lengths = (0..200_i64).map(|index| 1 + (index * 37) % 1000);
    let sent: Vec<(Vec<f32>, Tensor, Tensor)> = lengths
        .map(|length| {
            let numbers: Vec<f32> = (0..length).map(|i| (length * 1000 + i) as f32).collect();
            let whole: Vec<i64> = (0..length).map(|i| length - i).collect();
            let copies = (host::upload(&numbers, device), host::upload(&whole, device));
            (numbers, copies.0, copies.1)
        })
        .collect();
    let mut comparisons = Vec::new();
    for (numbers, floats, integers) in sent {
        let length = numbers.len() as i64;
        let whole = Tensor::arange_start_step(length, 0, -1, (Kind::Int64, Device::Cpu));
        comparisons.push(same("f32", &floats, &Tensor::from_slice(&numbers)));
        comparisons.push(same("int64", &integers, &whole));
    }
    Ok(comparisons)
}

/// A mask is 0 or 1 / (1 − rate), keeps the mean, and is a function of seed, layer and row.
fn masks(device: Device) -> Result<Vec<Comparison>, TorchError> {
    const RATE: f64 = 0.2;
    let mask = |seed, layer, rows| {
        let like = Tensor::zeros([rows, 50, 10], (Kind::Float, device));
        Dropout { seed, rows: 40 }.mask(layer, RATE, &like)
    };
    let all = mask(1, 0, 40);
    let kept = all.gt(0.0).to_kind(Kind::Float);
    let share = kept.mean(None::<Kind>);
    // Four standard deviations of 20,000 draws.
    let deviation = 4.0 * (RATE * (1.0 - RATE) / 20_000.0).sqrt();
    let expected = share.full_like(1.0 - RATE);
    let differs = |other: &Tensor| all.ne_tensor(other).any().to_kind(Kind::Float);
    let yes = Tensor::ones([], (Kind::Float, device));
    Ok(vec![
        same("values", &all, &(&kept * (1.0 / (1.0 - RATE)))),
        Comparison::new(
            "share that is kept",
            &share,
            &expected,
            Tolerance::new(f64::INFINITY, deviation),
        ),
        same("the same seed", &mask(1, 0, 40), &all),
        same("the first rows", &mask(1, 0, 7), &all.narrow(0, 0, 7)),
        same("another seed differs", &differs(&mask(2, 0, 40)), &yes),
        same("another layer differs", &differs(&mask(1, 1, 40)), &yes),
    ])
}

/// Every tensor that a step changes, by name.
fn everything(model: &Model, average: &Model, optimizer: &Adam) -> Vec<(String, Tensor)> {
    let named = |prefix: &str, model: &Model| -> Vec<(String, Tensor)> {
        let tensors = model.parameters().named().into_iter();
        tensors
            .map(|(name, tensor)| (format!("{prefix}{name}"), tensor.detach().copy()))
            .collect()
    };
    let mut all = named("", model);
    all.extend(named("average of ", average));
    let state = optimizer.state().into_iter();
    all.extend(state.map(|(name, tensor)| (name, tensor.copy())));
    all
}

/// A step with a gradient that is not a number is left out on the device; the one after it counts.
fn left_out(device: Device) -> Result<Vec<Comparison>, TorchError> {
    let [_, dit, _] = subject::all();
    let model = dit.model(device, Kind::Float)?;
    let average = model.twin();
    let mut optimizer = Adam::new(model.parameters(), AdamConfig::PUBLISHED);
    optimizer.set_lr(1e-3);
    let weight = Tensor::full([], 0.1, (Kind::Float, device));
    let mut advance = |spoilt: bool| -> Result<Vec<(String, Tensor)>, TorchError> {
        let mut batch = dit.batch(8, 5, device, Kind::Float);
        if spoilt {
            batch.data *= f64::NAN;
        }
        let [loss, _, gradients] = step(&model, &batch)?;
        let finite = loss
            .isfinite()
            .all()
            .logical_and(&gradients.isfinite().all());
        optimizer.step(&Gradients::take(model.parameters())?, &finite)?;
        ema::update(average.parameters(), model.parameters(), &weight, &finite)?;
        Ok(everything(&model, &average, &optimizer))
    };
    let before = advance(false)?;
    let spoilt = advance(true)?;
    let after = advance(false)?;
    let mut comparisons: Vec<Comparison> = before
        .iter()
        .zip(&spoilt)
        .map(|((name, before), (_, spoilt))| same(name, spoilt, before))
        .collect();
    let moved = |index: usize| {
        let differs = after[index].1.ne_tensor(&spoilt[index].1).any();
        differs.to_kind(Kind::Float)
    };
    let yes = Tensor::ones([], (Kind::Float, device));
    let last = after.len() - 1;
    comparisons.push(same("the step after it moves weights", &moved(0), &yes));
    comparisons.push(same("the step after it is counted", &moved(last), &yes));
    Ok(comparisons)
}

/// Weights and the state of the optimiser go to a file, to the CPU, to a file and back to the device.
fn checkpoint(device: Device) -> Result<Vec<Comparison>, TorchError> {
    let [_, dit, _] = subject::all();
    let model = dit.model(device, Kind::Float)?;
    let mut optimizer = Adam::new(model.parameters(), AdamConfig::PUBLISHED);
    optimizer.set_lr(1e-3);
    let _ = step(&model, &dit.batch(8, 5, device, Kind::Float))?;
    let gradients = Gradients::take(model.parameters())?;
    optimizer.step(&gradients, &gradients.is_finite())?;
    let mut held = (model, optimizer);
    let mut comparisons = Vec::new();
    for place in [Device::Cpu, device] {
        let moved = through_files(&held, place)?;
        let pairs = everything(&held.0, &held.0, &held.1);
        for ((name, there), (_, here)) in pairs.iter().zip(everything(&moved.0, &moved.0, &moved.1))
        {
            comparisons.push(same(name, &here, there));
        }
        held = moved;
    }
    Ok(comparisons)
}

/// The model and its optimiser as they come back from files, on another device.
fn through_files(
    (model, optimizer): &(Model, Adam),
    place: Device,
) -> Result<(Model, Adam), TorchError> {
    let folder = tempfile::tempdir().map_err(|source| TorchError::Io {
        operation: "make a folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    let [network, state] = ["network", "state"].map(|name| folder.path().join(name));
    model.save(&network, BTreeMap::new())?;
    weights::save(&state, &optimizer.state(), BTreeMap::new())?;
    let (model, _) = Model::load(&network, place)?;
    let optimizer = Adam::new(model.parameters(), AdamConfig::PUBLISHED);
    weights::load_strict(&state, &optimizer.state())?;
    Ok((model, optimizer))
}
