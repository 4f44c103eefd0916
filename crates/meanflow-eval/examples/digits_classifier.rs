//! Trains the digits classifier that meanflow-eval embeds, and writes it to `data/digits/classifier.safetensors`.
//!
//! Everything random is a function of the seed, and one thread computes, so the same machine writes the same bytes.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use meanflow_core::random::{Purpose, RngStream};
use meanflow_data::{MemoryDataset, digits};
use meanflow_eval::is_held_out;
use meanflow_torch::weights;
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

const SEED: u64 = 0;
const EPOCHS: u64 = 60;
const BATCH: i64 = 64;
const PEAK_RATE: f64 = 3e-3;
const SMOOTHING: f64 = 0.05;
const OUT: &str = "data/digits/classifier.safetensors";

/// What the file says of the layers.
const FORM: &str = r#"{"input": [1, 8, 8], "layers": [{"conv": "conv1"}, "relu", "max_pool", {"conv": "conv2"}, "relu", "max_pool", {"linear": "hidden"}, "relu", "feature", {"linear": "out"}]}"#;

/// Name and shape of every weight; two pools take 8×8 to 2×2.
const WEIGHTS: [(&str, &[i64]); 4] = [
    ("conv1", &[16, 1, 3, 3]),
    ("conv2", &[32, 16, 3, 3]),
    ("hidden", &[64, 32 * 2 * 2]),
    ("out", &[10, 64]),
];

/// A weight with its bias.
type Layer = (Tensor, Tensor);

fn main() -> Result<(), Box<dyn Error>> {
    tch::set_num_threads(1);
    let data = digits::load()?;
    let part = |held_out| {
        let indices = (0..data.len()).filter(|&index| is_held_out(index) == held_out);
        tensors(&data, &indices.collect::<Vec<_>>())
    };
    let (shown, held_out) = (part(false), part(true));
    let store = nn::VarStore::new(Device::Cpu);
    let layers = declare(&store.root());
    train(&store, &layers, &shown)?;
    for (name, (pictures, labels)) in [("shown", &shown), ("held out", &held_out)] {
        let found = no_grad(|| logits(pictures, &layers)).argmax(1, false);
        let right = found.eq_tensor(labels).mean(Kind::Double);
        let percent = 100.0 * right.double_value(&[]);
        println!("{name}: {percent:.2} % of {} named", labels.size()[0]);
    }
    save(&layers)
}

fn train(
    store: &nn::VarStore,
    layers: &[Layer],
    (pictures, labels): &(Tensor, Tensor),
) -> Result<(), Box<dyn Error>> {
    let mut optimizer = nn::AdamW::default().build(store, PEAK_RATE)?;
    let count = labels.size()[0];
    let steps = EPOCHS * (count / BATCH) as u64;
    for step in 0..steps {
        let share = step as f64 / steps as f64;
        optimizer.set_lr(PEAK_RATE * 0.5 * (1.0 + (std::f64::consts::PI * share).cos()));
        let mut stream = RngStream::new(SEED, Purpose::Order, step);
        let draw = |_| stream.below(count as u64) as i64;
        let rows = Tensor::from_slice(&(0..BATCH).map(draw).collect::<Vec<_>>());
        let batch = shifted(&pictures.index_select(0, &rows), &mut stream);
        let loss = logits(&batch, layers).cross_entropy_loss(
            &labels.index_select(0, &rows),
            None::<Tensor>,
            Reduction::Mean,
            -100,
            SMOOTHING,
        );
        optimizer.backward_step(&loss);
    }
    Ok(())
}

/// Pictures in model space `[N, 1, 8, 8]` and their labels `[N]`.
fn tensors(data: &MemoryDataset, indices: &[usize]) -> (Tensor, Tensor) {
    let examples = data.examples(indices);
    let pictures = Tensor::from_slice(&examples.values).reshape([-1, 1, 8, 8]);
    (pictures, Tensor::from_slice(&examples.labels))
}

/// Weight and bias of every layer: normal of variance 2/fan-in, zero.
fn declare(root: &nn::Path<'_>) -> Vec<Layer> {
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
    WEIGHTS.iter().enumerate().map(layer).collect()
}

/// What [`FORM`] says, with a tape.
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
    padded.narrow(2, down, 8).narrow(3, right, 8)
}

fn save(layers: &[Layer]) -> Result<(), Box<dyn Error>> {
    let named = |((name, _), (weight, bias)): (&(&str, &[i64]), &Layer)| {
        [("weight", weight), ("bias", bias)]
            .map(|(part, tensor)| (format!("{name}.{part}"), tensor.detach()))
    };
    let tensors: Vec<_> = WEIGHTS.iter().zip(layers).flat_map(named).collect();
    let metadata = BTreeMap::from([("meanflow-features".to_owned(), FORM.to_owned())]);
    weights::save(Path::new(OUT), &tensors, metadata)?;
    println!("{OUT}");
    Ok(())
}
