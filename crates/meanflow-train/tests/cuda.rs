//! What runs on a CUDA device, tested where there is one: one program, which a GPU machine can be given alone.
//!
//! Without a device every test is counted as ignored, and the program says `skipped: no CUDA device`. The variable
//! `MEANFLOW_TEST_DEVICE` names another device: with `cpu` the same tests run without one, and prove themselves.
//! `MEANFLOW_GOLDENS` names another folder of goldens.

use std::cell::Cell;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use meanflow_goldens::{Setting, check};
use meanflow_libtorch::operations::{self, AdamNumbers, AdamTensors};
use meanflow_libtorch::{CudaGraph, LibtorchError, device, host, memory, recover};
use meanflow_testing::{config, networks, normal, randomise};
use meanflow_torch::layers::TimeEmbedding;
use meanflow_torch::networks::{NetworkConfig, UnetConfig};
use meanflow_torch::sampler::{Request, sample, uniform_grid};
use meanflow_torch::{Conditioning, Device, JvpInputs, JvpMethod, Kind, Model, Tensor};
use meanflow_train::{TrainConfig, Trainer};

type Test = (&'static str, fn(Device));

const TESTS: [Test; 17] = [
    ("goldens_in_f32_and_f64", goldens),
    ("dual_and_jvp_agree_with_f64_on_the_cpu", derivatives),
    ("kernels_of_the_cpu_refuse_its_tensors", kernels),
    ("a_graph_is_eager_bit_by_bit", graph),
    ("bfloat16_trains_about_the_same", bfloat16),
    ("uploads_are_not_overwritten", uploads),
    ("adam_and_averages_are_those_of_the_cpu", updates),
    ("a_step_that_is_not_finite_changes_nothing", not_finite),
    ("masks_are_functions_of_their_seed", masks),
    ("a_checkpoint_goes_to_the_cpu_and_back", checkpoint),
    ("work_that_waits_is_not_recorded_and_goes_on", waiting_work),
    ("a_recording_that_panics_ends", panicking_work),
    ("samples_are_those_of_the_cpu", samples),
    ("tf32_is_off_until_it_is_allowed", tf32),
    ("memory_that_is_not_there_is_an_error", out_of_memory),
    ("the_peak_of_memory_is_counted", peak),
    ("a_step_waits_for_nothing", waits),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One at a time: flags, levels and the device's memory are the whole process's.
    arguments.test_threads = Some(1);
    let name = env::var("MEANFLOW_TEST_DEVICE").unwrap_or_else(|_| "cuda".to_owned());
    let opened = device::open(&name);
    tch::set_num_threads(1);
    let trials = TESTS.map(|(test, run)| match &opened {
        Ok(device) => {
            let device = *device;
            Trial::test(test, move || {
                run(device);
                Ok(())
            })
        }
        Err(error) => {
            let reason = error.to_string();
            Trial::test(test, move || Err(reason.into())).with_ignored_flag(true)
        }
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    if let (Err(error), false) = (&opened, arguments.list) {
        println!(
            "skipped: no CUDA device ({} tests): {error}",
            conclusion.num_ignored
        );
    }
    conclusion.exit_code()
}

fn goldens(device: Device) {
    let folder = env::var("MEANFLOW_GOLDENS").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../meanflow-goldens/files"),
        PathBuf::from,
    );
    let mut count = 0;
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "safetensors")
        {
            continue;
        }
        count += 1;
        for (kind, jvp) in [
            (Kind::Float, JvpMethod::Dual),
            (Kind::Double, JvpMethod::Dual),
            (Kind::Double, JvpMethod::ForwardAd),
            (Kind::Double, JvpMethod::DoubleBackward),
        ] {
            let setting = Setting { device, kind, jvp };
            let report = check(&path, &setting).unwrap();
            assert!(report.passes(), "{kind:?} {jvp:?}\n{report}");
        }
    }
    assert!(count >= 6, "{count} goldens in {}", folder.display());
}

/// Every network, small, with every parameter random: the published initialisation zeroes whole branches.
fn models(device: Device, kind: Kind) -> Vec<Model> {
    let embedding = TimeEmbedding::TRH;
    let unet = NetworkConfig::Unet(UnetConfig {
        embedding,
        ..networks::unet(4, &[1, 2], 1, &[4])
    });
    [
        (networks::mlp([12, 2], embedding), &[2][..], 3),
        (networks::dit([2, 16, 2, 2], 2.0, embedding), &[3, 4, 6], 10),
        (unet, &[2, 8, 8], 0),
    ]
    .into_iter()
    .map(|(network, shape, classes)| {
        let model = Model::new(config(network, shape, classes), 7, device, kind).unwrap();
        randomise(&model);
        model
    })
    .collect()
}

/// Five rows, three of them moving.
fn point(model: &Model) -> JvpInputs {
    let mut shape = vec![5];
    shape.extend(&model.config().shape);
    let there = |x: Tensor| x.to_kind(model.kind()).to_device(model.device());
    let classes = model.config().classes;
    let labels = Tensor::from_slice(&[0_i64, 1, 2, 0, 1]).to_device(model.device());
    JvpInputs {
        z: there(normal(3, &shape)),
        velocity: there(normal(4, &shape).narrow(0, 0, 3)),
        r: there(Tensor::from_slice(&[0.0_f64, 0.2, 0.5, 0.3, 0.0])),
        t: there(Tensor::from_slice(&[1.0_f64, 0.7, 0.5, 0.9, 0.4])),
        condition: Conditioning::of_labels((classes > 0).then_some(labels)),
    }
}

/// The largest difference in units of the largest number, after both came to the host.
fn relative(one: &Tensor, other: &Tensor) -> f64 {
    let host = |x: &Tensor| x.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    let (one, other) = (host(one), host(other));
    ((&one - &other).abs().max() / other.abs().max()).double_value(&[])
}

fn derivatives(device: Device) {
    let exact: Vec<_> = models(Device::Cpu, Kind::Double)
        .iter()
        .map(|model| JvpMethod::Dual.evaluate(model, &point(model)).unwrap())
        .collect();
    // Rounding through a few dozen operations, and f32's is 2⁻²⁴.
    for (kind, tolerance) in [(Kind::Double, 1e-10), (Kind::Float, 1e-4)] {
        for (model, (u, du)) in models(device, kind).iter().zip(&exact) {
            for jvp in [
                JvpMethod::Dual,
                JvpMethod::ForwardAd,
                JvpMethod::DoubleBackward,
            ] {
                let (value, derivative) = jvp.evaluate(model, &point(model)).unwrap();
                for (ours, exact) in [(&value, u), (&derivative, du)] {
                    let error = relative(ours, exact);
                    assert!(
                        error < tolerance,
                        "{kind:?} {jvp:?} {:?}: {error:e}",
                        model.config()
                    );
                }
            }
        }
    }
}

fn kernels(device: Device) {
    use meanflow_libtorch::kernels;
    let x = Tensor::ones([2, 3, 24], (Kind::Float, device));
    let on_the_cpu = device == Device::Cpu;
    assert_eq!(kernels::gelu(&x).is_ok(), on_the_cpu);
    assert_eq!(kernels::self_attention(&x, 2).is_ok(), on_the_cpu);
    let weight = Tensor::ones([4, 24], (Kind::Float, device));
    assert_eq!(kernels::linear(&x, &weight, None).is_ok(), on_the_cpu);
}

const RECIPE: &str = r#"
seed = 3
data = { kind = "digits", conditional = true }
network = { kind = "dit", patch = 4, width = 16, depth = 1, heads = 2, mlp_ratio = 2.0, embedding = "th" }
path = { kind = "linear" }
optimizer = { kind = "adam", beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.0 }
lr = { schedule = "constant", peak = 1e-2, warmup_steps = 3 }
loss = { norm_p = 1.0, norm_eps = 0.01, reduction = "sum" }
ema = { decays = [0.9] }
guidance = { omega = 0.7, kappa = 0.6, interval = [0.0, 1.0] }
class_dropout={ prob = 0.1, rows = "count" }
training = { batch_size = 32, steps = 20, checkpoint_every = 20, sample_every = 20, microbatches = 2, max_grad_norm = 0.35, log_every = 4 }
sampling = { grid = [1, 1], nfe = [1] }
compute = { async_metrics = true }

[times]
t = { kind = "logit-normal", mean = -0.4, std = 1.0 }
mean_flow_ratio = { count = 0.5 }
order = "after-ordering"
"#;

fn trainer(device: Device, overrides: &[&str]) -> Trainer {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let config = TrainConfig::parse(Path::new("test.toml"), RECIPE, &overrides).unwrap();
    let data = config.data.load(config.seed).unwrap();
    Trainer::new(config, data, device).unwrap()
}

/// The parameters after so many steps, of the model and of its average, on the host.
fn trained(device: Device, steps: usize, overrides: &[&str]) -> Vec<Tensor> {
    let mut trainer = trainer(device, overrides);
    for _ in 0..steps {
        trainer.step().unwrap();
    }
    // Steps that were to be recorded and were not would be compared with themselves.
    assert_eq!(trainer.graph_refused(), None);
    parameters(&trainer)
}

fn parameters(trainer: &Trainer) -> Vec<Tensor> {
    let models = [trainer.model(), trainer.average().0];
    let tensors = models.iter().flat_map(|model| model.parameters().tensors());
    tensors
        .map(|tensor| tensor.detach().to_device(Device::Cpu))
        .collect()
}

fn graph(device: Device) {
    let eager = trained(device, 8, &[]);
    assert_eq!(
        eager,
        trained(device, 8, &[]),
        "eager steps are the same every time"
    );
    for every in ["ema.every=1", "ema.every=3"] {
        // Padding to a fixed number of rows, which a graph asks for, changes nothing where labels are dropped by count; elsewhere the
        // forwards of guidance have other rows, and round otherwise.
        let eager = trained(device, 8, &[every]);
        let graph = trained(device, 8, &[every, "compute.cuda_graph=true"]);
        for (eager, graph) in eager.iter().zip(&graph) {
            assert!(relative(graph, eager) < 1e-3, "{every}");
        }
    }
    // Where no row is added, a graph is the same operations on the same numbers.
    let fixed = [
        "guidance={ omega = 1.0, kappa = 0.0, interval = [0.0, 1.0] }",
        "ema.every=3",
    ];
    let graphed = [&fixed[..], &["compute.cuda_graph=true"]].concat();
    assert_eq!(trained(device, 8, &fixed), trained(device, 8, &graphed));
    // Where their number varies, rows without weight are added, and the products of the tangent may round otherwise: by 2⁻²⁴, which
    // Adam makes up to a rate of those parameters whose gradient is about as small. A step on the numbers of another differs by tenths.
    let varying = [
        fixed[0],
        "class_dropout.rows=independent",
        "times={ t = { kind = \"uniform\" }, r = { kind = \"uniform\" }, mean_flow_ratio = { count = 0.5 }, order = \"before-ordering\" }",
    ];
    let graphed = [&varying[..], &["compute.cuda_graph=true"]].concat();
    let (eager, graph) = (v_losses(device, 8, &varying), v_losses(device, 8, &graphed));
    assert!(
        (graph[0] / eager[0] - 1.0).abs() < 1e-5,
        "{eager:?} and {graph:?}"
    );
    for (eager, graph) in eager.iter().zip(&graph) {
        assert!((graph / eager - 1.0).abs() < 0.02, "{eager} and {graph}");
    }
}

/// `‖u − v‖²` of every step.
fn v_losses(device: Device, steps: usize, overrides: &[&str]) -> Vec<f64> {
    let mut trainer = trainer(device, overrides);
    let losses = (0..steps).map(|_| trainer.step().unwrap().v_loss);
    losses.collect()
}

fn bfloat16(device: Device) {
    let loss = |overrides: &[&str]| {
        let mut trainer = trainer(device, overrides);
        let reports: Vec<f64> = (0..8).map(|_| trainer.step().unwrap().loss).collect();
        reports
    };
    let (plain, rounded) = (loss(&[]), loss(&["compute.dtype=bf16"]));
    assert_ne!(plain, rounded, "the products are rounded");
    for (plain, rounded) in plain.iter().zip(&rounded) {
        // Factors rounded by 2⁻⁹, a few dozen of them one after another, for eight steps.
        assert!((rounded / plain - 1.0).abs() < 0.1, "{plain} and {rounded}");
    }
    let graph = ["compute.dtype=bf16", "compute.cuda_graph=true"];
    assert_eq!(rounded, loss(&graph));
}

fn uploads(device: Device) {
    // More than the pinned memory of one transfer: a buffer that is reused too early shows.
    let sent: Vec<Tensor> = (0..64)
        .map(|index| host::upload(&vec![index as f32; 100_000], device))
        .collect();
    for (index, tensor) in sent.iter().enumerate() {
        let (least, most) = (tensor.min(), tensor.max());
        assert_eq!(
            host::read(&Tensor::stack(&[least, most], 0)).unwrap(),
            [index as f64; 2]
        );
    }
    assert_eq!(host::upload::<f32>(&[], device).numel(), 0);
}

/// Parameters after three steps of Adam, every second of which is skipped, and an average that follows.
fn three_steps(device: Device) -> [Tensor; 2] {
    let there = |x: Tensor| x.to_kind(Kind::Float).to_device(device);
    let scalar = |value: f64| there(Tensor::from(value));
    let (p, average) = (there(normal(1, &[33, 7])), there(normal(2, &[33, 7])));
    let (first, second) = (p.zeros_like(), p.zeros_like());
    for step in 0..3 {
        let tensors = AdamTensors {
            parameters: &[&p],
            gradients: &[&there(normal(10 + step, &[33, 7]))],
            first: &[&first],
            second: &[&second],
            steps: &[&scalar(step as f64 + 1.0)],
            rate: &scalar(0.1),
            skip: Some(&scalar((step % 2) as f64)),
        };
        let numbers = AdamNumbers {
            beta1: 0.9,
            beta2: 0.95,
            weight_decay: 0.01,
            epsilon: 1e-8,
            decoupled: true,
        };
        let before = p.copy();
        operations::fused_adam(&tensors, &numbers).unwrap();
        assert_eq!(p == before, step % 2 == 1, "step {step}");
        let finite = Tensor::from(true).to_device(device);
        operations::ema_update(&[&average], &[&p], &scalar(0.25), &finite).unwrap();
    }
    [p, average]
}

fn updates(device: Device) {
    for (there, here) in three_steps(device).iter().zip(&three_steps(Device::Cpu)) {
        // A handful of operations in f32.
        assert!(relative(there, here) < 1e-6, "{}", relative(there, here));
    }
}

fn not_finite(device: Device) {
    let mut trainer = trainer(device, &["lr.peak=1e30", "lr.warmup_steps=0"]);
    let first = trainer.step().unwrap();
    assert!(first.loss.is_finite());
    let moved = parameters(&trainer);
    let second = trainer.step().unwrap();
    assert!(!second.loss.is_finite() || !second.grad_norm.is_finite());
    assert_eq!(trainer.skipped_in_row(), 1);
    assert_eq!(
        moved,
        parameters(&trainer),
        "a step that is left out changes no bit"
    );
}

fn masks(device: Device) {
    let draw = |seed| {
        let mask = Tensor::empty([100_000], (Kind::Float, device));
        operations::fill_bernoulli(&mask, 0.7, seed).unwrap();
        mask
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let share = draw(3).mean(Kind::Double).double_value(&[]);
    // Five deviations of the mean of so many draws.
    assert!(
        (share - 0.7).abs() < 5.0 * (0.21_f64 / 1e5).sqrt(),
        "{share}"
    );
}

fn checkpoint(device: Device) {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut here = trainer(device, &[]);
    for _ in 0..3 {
        here.step().unwrap();
    }
    here.write(folders[0].path()).unwrap();
    let mut on_the_cpu = trainer(Device::Cpu, &[]);
    on_the_cpu.read(folders[0].path(), 3, 0).unwrap();
    assert_eq!(parameters(&here), parameters(&on_the_cpu));
    on_the_cpu.write(folders[1].path()).unwrap();
    let mut back = trainer(device, &[]);
    back.read(folders[1].path(), 3, 0).unwrap();
    for trainer in [&mut here, &mut back] {
        trainer.step().unwrap();
    }
    assert_eq!(
        parameters(&here),
        parameters(&back),
        "the next step is the same, moments included"
    );
}

/// A sum over a tensor on the device, done `runs` times; `disturb` is called in each.
fn sums(device: Device, runs: usize, disturb: impl Fn(usize, &Tensor)) -> Option<String> {
    let x = Tensor::ones([1000], (Kind::Float, device));
    let (mut replay, calls) = (CudaGraph::new(device), Cell::new(0));
    for run in 0..runs {
        let sum = replay.run(|| {
            calls.set(calls.get() + 1);
            let sum = x.sum(Kind::Float);
            disturb(calls.get(), &sum);
            Ok::<_, LibtorchError>(sum)
        });
        assert_eq!(host::read(sum.unwrap()).unwrap(), [1000.0], "run {run}");
    }
    replay.refused().map(str::to_owned)
}

fn waiting_work(device: Device) {
    let refused = sums(device, 6, |_, sum| {
        assert_eq!(sum.double_value(&[]), 1000.0);
    });
    assert_eq!(refused.is_some(), device != Device::Cpu, "{refused:?}");
    assert_eq!(
        sums(device, 6, |_, _| ()),
        None,
        "another recording is not disturbed"
    );
}

fn panicking_work(device: Device) {
    // The fourth call is the one that is recorded.
    let work = || sums(device, 6, |call, _| assert!(call != 4, "a mistake"));
    assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
    assert_eq!(
        sums(device, 6, |_, _| ()),
        None,
        "another recording is not disturbed"
    );
}

fn samples(device: Device) {
    let request = Request {
        seeds: &[0, 1, 2, 3, 4, 5, 6],
        labels: None,
        grid: &uniform_grid(2),
        batch_size: 4,
    };
    for (there, here) in models(device, Kind::Float)
        .iter()
        .zip(&models(Device::Cpu, Kind::Float))
    {
        let (there, here) = (
            sample(there, &request).unwrap(),
            sample(here, &request).unwrap(),
        );
        // Rounding of f32 through two evaluations.
        assert!(
            relative(&there, &here) < 1e-4,
            "{}",
            relative(&there, &here)
        );
    }
}

fn tf32(device: Device) {
    let (x, weight) = (normal(1, &[4, 64, 16, 16]), normal(2, &[64, 64, 3, 3]));
    let [a, b] = [x.reshape([-1, 256]), weight.reshape([256, -1])];
    let exact = [a.matmul(&b), x.conv2d(&weight, None::<Tensor>, 1, 1, 1, 1)];
    let there = |x: &Tensor| x.to_kind(Kind::Float).to_device(device);
    let rounded = || {
        let product = there(&a).matmul(&there(&b));
        let picture = there(&x).conv2d(&there(&weight), None::<Tensor>, 1, 1, 1, 1);
        [product, picture]
    };
    for (ours, exact) in rounded().iter().zip(&exact) {
        // f32 keeps 24 bits, TF32 11.
        assert!(relative(ours, exact) < 1e-5, "{:e}", relative(ours, exact));
    }
    device::allow_tf32(true);
    let errors = [0, 1].map(|index| relative(&rounded()[index], &exact[index]));
    device::allow_tf32(false);
    assert!(errors.iter().all(|error| *error < 1e-2), "{errors:?}");
}

fn out_of_memory(device: Device) {
    let refused = recover("allocate", || {
        Ok::<_, LibtorchError>(Tensor::zeros([1 << 48], (Kind::Float, device)))
    });
    let refused = refused.unwrap_err();
    assert!(refused.is_out_of_memory(), "{refused}");
    // The device goes on.
    assert_eq!(
        host::read(&host::upload(&[1.0_f32], device)).unwrap(),
        [1.0]
    );
}

fn peak(device: Device) {
    let mebibytes = |count: i64| Tensor::ones([count << 18], (Kind::Float, device));
    let kept = mebibytes(8);
    let (result, bytes) = memory::peak_on(device, || {
        drop(mebibytes(64));
        mebibytes(1)
    })
    .unwrap();
    let bytes = bytes.expect("a device and Linux tell") as f64 / f64::from(1 << 20);
    assert!((60.0..80.0).contains(&bytes), "{bytes} MiB");
    drop((kept, result));
}

fn waits(device: Device) {
    let mut trainer = trainer(device, &[]);
    trainer.step().unwrap();
    let (results, waits) = host::waits(|| [(); 4].map(|()| trainer.advance())).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(waits, 0);
    assert_eq!(trainer.metrics().unwrap().len(), 4);
}
