//! What does a sample in one evaluation cost, one at a time and sixteen?
//!
//! `cargo bench --package benches --bench sample`; under `cargo test` every case runs once.

use benches::Size;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use meanflow_torch::sampler::{self, Request};
use meanflow_torch::{Device, Kind, Model};

fn draw(criterion: &mut Criterion) {
    let size = Size::named("digits").expect("a size of the table");
    let model = Model::new(size.model(), 0, Device::Cpu, Kind::Float).expect("the CPU is there");
    let mut group = criterion.benchmark_group("samples of the digits size");
    group.sample_size(20);
    for count in [1_usize, 16] {
        let seeds: Vec<u64> = (0..count as u64).collect();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("at a time", count), |bencher| {
            let request = Request {
                seeds: &seeds,
                labels: None,
                grid: &sampler::uniform_grid(1),
                batch_size: count,
            };
            bencher.iter(|| sampler::sample(&model, &request).expect("a sample"));
        });
    }
    group.finish();
}

criterion_group!(benches, draw);
criterion_main!(benches);
