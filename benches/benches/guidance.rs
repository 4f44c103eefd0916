//! What does a step cost without guidance, with ω alone and with κ?
//!
//! `cargo bench --package benches --bench guidance`; under `cargo test` every case runs once.

use benches::{Guide, Size, Training, Variant};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use meanflow_torch::{Compute, Device};

const JUMP_SHARE: f64 = 0.25;

fn step(criterion: &mut Criterion) {
    let size = Size::named("digits").expect("a size of the table");
    let rows = size.rows(Device::Cpu);
    let mut group = criterion.benchmark_group("guided step of the digits size");
    group.sample_size(20);
    for guide in [Guide::None, Guide::Kappa0, Guide::Kappa] {
        let mut training = Training::new(
            &size,
            (rows, 1),
            guide.scales(),
            Compute::default(),
            Device::Cpu,
        )
        .expect("the CPU is there");
        let name = BenchmarkId::new("guidance", format!("{guide:?}"));
        group.bench_function(name, |bencher| {
            bencher.iter(|| training.step(Variant::Dual, JUMP_SHARE).expect("a step"));
        });
    }
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
