//! What does a step cost with a tangent in no row, in a quarter of the rows, and in all of them?
//!
//! `cargo bench --package benches --bench tangent`; under `cargo test` every case runs once.

use std::hint::black_box;

use benches::{Guide, Size, Training, Variant};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use meanflow_torch::{Compute, Device};

fn step(criterion: &mut Criterion) {
    let size = Size::named("digits").expect("a size of the table");
    let rows = size.rows(Device::Cpu);
    let mut training = Training::new(
        &size,
        (rows, 1),
        Guide::None.scales(),
        Compute::default(),
        Device::Cpu,
    )
    .expect("the CPU is there");
    let mut group = criterion.benchmark_group("step of the digits size");
    group.sample_size(20);
    for share in [0.0, 0.25, 1.0] {
        group.bench_function(BenchmarkId::new("MeanFlow rows", share), |bencher| {
            let variant = black_box(Variant::Dual);
            bencher.iter(|| training.step(variant, share).expect("a step"));
        });
    }
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
