//! Trains a classifier of small pictures with classes, whose features an evaluation can use.
//!
//! Without arguments it is the digits classifier that meanflow-eval embeds, written to `data/digits/classifier.safetensors`.
//! `classifier DATA OUT [EPOCHS]` takes whatever `meanflow data stats` reads and has one shape, such as a folder of MNIST's files,
//! and writes what `meanflow eval --features OUT` reads. Two convolutions, each halved, and a layer of 64 features; every fifth
//! sample is held out.
//!
//! Everything random is a function of the seed, and one thread computes, so the same machine writes the same bytes.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use meanflow_core::random::{Purpose, RngStream};
use meanflow_data::{DataError, Dataset, Links, Opened};
use meanflow_eval::is_held_out;
use meanflow_torch::weights;
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

const SEED: u64 = 0;
const EPOCHS: u64 = 60;
const BATCH: i64 = 64;
const PEAK_RATE: f64 = 3e-3;
const SMOOTHING: f64 = 0.05;
const FEATURES: i64 = 64;
/// Channels of the two convolutions.
const CHANNELS: [i64; 2] = [16, 32];
/// Samples that are named at a time.
const AT_A_TIME: usize = 1000;

/// What is asked for: the data, the file, and how often every sample is shown.
type Task = (String, String, u64);

/// A weight with its bias.
type Layer = (Tensor, Tensor);

fn main() -> Result<(), Box<dyn Error>> {
    tch::set_num_threads(1);
    let (source, out, epochs) = task()?;
    let Opened::Samples(data) = meanflow_data::open(source.as_ref(), Links::Inside)? else {
        return Err("pictures of any size; cut them with `meanflow data pack --size` and read them as a recipe does".into());
    };
    let &[channels, height, width] = data.shape() else {
        return Err("samples that are no pictures".into());
    };
    let shape = [channels, height, width].map(|side| side as i64);
    let (held_out, shown): (Vec<_>, Vec<_>) =
        (0..data.len()).partition(|&index| is_held_out(index));
    let store = nn::VarStore::new(Device::Cpu);
    let layers = declare(&store.root(), shape, data.classes() as i64);
    train(&store, &layers, (&*data, &shown), epochs)?;
    for (name, indices) in [("shown", &shown), ("held out", &held_out)] {
        let right = named(&*data, indices, &layers)?;
        let percent = 100.0 * right as f64 / indices.len() as f64;
        println!("{name}: {percent:.2} % of {} named", indices.len());
    }
    save(&layers, shape, Path::new(&out))
}

fn task() -> Result<Task, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => Ok((
            "digits".into(),
            "data/digits/classifier.safetensors".into(),
            EPOCHS,
        )),
        [data, out] => Ok((data.clone(), out.clone(), EPOCHS)),
        [data, out, epochs] => Ok((data.clone(), out.clone(), epochs.parse()?)),
        _ => Err("expected: classifier [DATA OUT [EPOCHS]]".into()),
    }
}

fn train(
    store: &nn::VarStore,
    layers: &[Layer],
    (data, shown): (&dyn Dataset, &[usize]),
    epochs: u64,
) -> Result<(), Box<dyn Error>> {
    let mut optimizer = nn::AdamW::default().build(store, PEAK_RATE)?;
    let count = shown.len() as u64;
    let steps = epochs * (count / BATCH as u64);
    for step in 0..steps {
        let share = step as f64 / steps as f64;
        optimizer.set_lr(PEAK_RATE * 0.5 * (1.0 + (std::f64::consts::PI * share).cos()));
        let mut stream = RngStream::new(SEED, Purpose::Order, step);
        let draw = |_| shown[stream.below(count) as usize];
        let (pictures, labels) = tensors(data, &(0..BATCH).map(draw).collect::<Vec<_>>())?;
        let batch = shifted(&pictures, &mut stream);
        let loss = logits(&batch, layers).cross_entropy_loss(
            &labels,
            None::<Tensor>,
            Reduction::Mean,
            -100,
            SMOOTHING,
        );
        optimizer.backward_step(&loss);
    }
    Ok(())
}

/// How many of these samples get their own class.
fn named(data: &dyn Dataset, indices: &[usize], layers: &[Layer]) -> Result<i64, DataError> {
    let mut right = 0;
    for part in indices.chunks(AT_A_TIME) {
        let (pictures, labels) = tensors(data, part)?;
        let found = no_grad(|| logits(&pictures, layers)).argmax(1, false);
        right += found.eq_tensor(&labels).sum(Kind::Int64).int64_value(&[]);
    }
    Ok(right)
}

/// Pictures in model space `[N, C, H, W]` and their labels `[N]`.
fn tensors(data: &dyn Dataset, indices: &[usize]) -> Result<(Tensor, Tensor), DataError> {
    let examples = data.batch(indices, SEED, 0)?;
    let shape: Vec<i64> = data.shape().iter().map(|&side| side as i64).collect();
    let pictures = Tensor::from_slice(&examples.values).reshape([&[-1], &shape[..]].concat());
    Ok((pictures, Tensor::from_slice(&examples.labels)))
}

/// Weight and bias of every layer: normal of variance 2/fan-in, zero.
fn declare(root: &nn::Path<'_>, [channels, height, width]: [i64; 3], classes: i64) -> Vec<Layer> {
    let [one, two] = CHANNELS;
    let pixels = (height / 4) * (width / 4);
    let weights: [(&str, &[i64]); 4] = [
        ("conv1", &[one, channels, 3, 3]),
        ("conv2", &[two, one, 3, 3]),
        ("hidden", &[FEATURES, two * pixels]),
        ("out", &[classes, FEATURES]),
    ];
    let layer = |(index, (name, shape)): (usize, &(&str, &[i64]))| {
        let path = root / *name;
        let mut weight = path.zeros("weight", shape);
        let bias = path.zeros("bias", &shape[..1]);
        let mut values = vec![0.0_f32; shape.iter().product::<i64>() as usize];
        RngStream::new(SEED, Purpose::Init, index as u64).fill_normal(&mut values);
        let scale = (2.0 / shape[1..].iter().product::<i64>() as f64).sqrt();
        let drawn = Tensor::from_slice(&values).reshape(*shape) * scale;
        no_grad(|| weight.copy_(&drawn));
        (weight, bias)
    };
    weights.iter().enumerate().map(layer).collect()
}

/// What the description in the file says, with a tape.
fn logits(x: &Tensor, layers: &[Layer]) -> Tensor {
    let convolution = |x: &Tensor, (weight, bias): &Layer| {
        let y = x.conv2d(weight, Some(bias), 1, 1, 1, 1).relu();
        y.max_pool2d(2, 2, 0, 1, false)
    };
    let x = convolution(&convolution(x, &layers[0]), &layers[1]).flatten(1, -1);
    let hidden = x.linear(&layers[2].0, Some(&layers[2].1)).relu();
    hidden.linear(&layers[3].0, Some(&layers[3].1))
}

/// The batch moved by at most one pixel either way; background, −1 in model space, comes in.
fn shifted(x: &Tensor, stream: &mut RngStream) -> Tensor {
    let [down, right] = [stream.below(3), stream.below(3)].map(|offset| offset as i64);
    let padded = (x + 1.0).constant_pad_nd([1, 1, 1, 1]) - 1.0;
    let [height, width] = [x.size()[2], x.size()[3]];
    padded.narrow(2, down, height).narrow(3, right, width)
}

fn save(layers: &[Layer], shape: [i64; 3], out: &Path) -> Result<(), Box<dyn Error>> {
    let names = ["conv1", "conv2", "hidden", "out"];
    let named = |(name, (weight, bias)): (&str, &Layer)| {
        [("weight", weight), ("bias", bias)]
            .map(|(part, tensor)| (format!("{name}.{part}"), tensor.detach()))
    };
    let tensors: Vec<_> = names.into_iter().zip(layers).flat_map(named).collect();
    let form = format!(
        r#"{{"input": {shape:?}, "layers": [{{"conv": "conv1"}}, "relu", "max_pool", {{"conv": "conv2"}}, "relu", "max_pool", {{"linear": "hidden"}}, "relu", "feature", {{"linear": "out"}}]}}"#
    );
    let metadata = BTreeMap::from([("meanflow-features".to_owned(), form)]);
    weights::save(out, &tensors, metadata)?;
    println!("{}", out.display());
    Ok(())
}
