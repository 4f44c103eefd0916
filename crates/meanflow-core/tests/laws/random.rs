//! Streams: repeatable, independent of each other, and of the laws they promise. Every seed is fixed.

use std::collections::HashSet;

use meanflow_core::{Purpose, RngStream};
use proptest::prelude::*;

const PURPOSES: [Purpose; 8] = [
    Purpose::Noise,
    Purpose::Times,
    Purpose::Labels,
    Purpose::Init,
    Purpose::Order,
    Purpose::Augment,
    Purpose::Latent,
    Purpose::Data,
];

fn stream() -> RngStream {
    RngStream::new(7, Purpose::Noise, 0)
}

/// Largest distance between the distribution of the sample and `law`, times `√n` (Kolmogorov and Smirnov).
pub(crate) fn distance(mut sample: Vec<f64>, law: impl Fn(f64) -> f64) -> f64 {
    sample.sort_by(f64::total_cmp);
    let n = sample.len() as f64;
    let gap = |(i, x): (usize, &f64)| {
        let [below, above] = [i, i + 1].map(|count| (law(*x) - count as f64 / n).abs());
        below.max(above)
    };
    sample.iter().enumerate().map(gap).fold(0.0, f64::max) * n.sqrt()
}

/// Exceeded by one in a thousand samples of the right law.
pub(crate) const RARE: f64 = 1.95;

pub(crate) fn normal_law(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

#[test]
fn numbers_are_the_same_on_every_platform() {
    // Computed by another implementation of Philox and of the transforms.
    let mut stream = RngStream::new(42, Purpose::Noise, (3 << 32) + 5);
    let mut noise = [0f32; 6];
    stream.fill_normal(&mut noise);
    assert_eq!(noise, GOLDEN_NORMALS);
    let mut stream = RngStream::new(u64::MAX, Purpose::Data, 1);
    assert_eq!(
        [stream.uniform(), stream.uniform(), stream.uniform()],
        GOLDEN_UNIFORMS
    );
    assert_eq!([stream.below(10), stream.below(1 << 40)], GOLDEN_INTEGERS);
}

const GOLDEN_NORMALS: [f32; 6] = [
    -1.7712772,
    -0.70681757,
    0.33670354,
    -0.38345036,
    0.6771558,
    -0.053521723,
];
const GOLDEN_UNIFORMS: [f64; 3] = [0.9275284337258115, 0.3535106772113331, 0.8788739749819402];
const GOLDEN_INTEGERS: [u64; 2] = [2, 431760555607];

#[test]
fn purposes_keep_their_numbers() {
    let numbers = PURPOSES.map(|purpose| purpose as u32);
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn seeds_purposes_and_steps_are_different_streams() {
    let mut first = HashSet::new();
    for seed in [0, 1, 1 << 32, u64::MAX] {
        for step in [0, 1, 1 << 32, u64::MAX] {
            for purpose in PURPOSES {
                first.insert(RngStream::new(seed, purpose, step).uniform().to_bits());
            }
        }
    }
    assert_eq!(first.len(), 4 * 4 * 8);
}

proptest! {
    #[test]
    fn a_stream_can_be_repeated(seed: u64, step: u64) {
        let draw = || {
            let mut stream = RngStream::new(seed, Purpose::Latent, step);
            let mut noise = [0f32; 7];
            stream.fill_normal(&mut noise);
            (noise, stream.normal(), stream.below(1000))
        };
        prop_assert_eq!(draw(), draw());
    }

    #[test]
    fn filling_in_parts_is_filling_at_once(seed: u64, cut in 0usize..20) {
        let (mut whole, mut parts) = ([0f32; 40], [0f32; 40]);
        RngStream::new(seed, Purpose::Noise, 0).fill_normal(&mut whole);
        let mut stream = RngStream::new(seed, Purpose::Noise, 0);
        // Numbers come in pairs, so a cut between pairs is not felt.
        let (left, right) = parts.split_at_mut(2 * cut);
        stream.fill_normal(left);
        stream.fill_normal(right);
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn a_shuffle_only_moves(seed: u64, count in 0usize..50) {
        let mut items: Vec<usize> = (0..count).collect();
        RngStream::new(seed, Purpose::Order, 0).shuffle(&mut items);
        items.sort_unstable();
        prop_assert!(items.into_iter().eq(0..count));
    }

    #[test]
    fn integers_are_below_their_bound(seed: u64, n in prop_oneof![1u64..10, Just(u64::MAX), Just((1 << 63) + 1), any::<u64>().prop_map(|n| n.max(1))]) {
        let mut stream = RngStream::new(seed, Purpose::Order, 0);
        prop_assert!((0..20).all(|_| stream.below(n) < n));
    }
}

#[test]
fn uniform_numbers_are_uniform_in_the_open_interval() {
    let mut stream = stream();
    let sample: Vec<f64> = (0..100_000).map(|_| stream.uniform()).collect();
    assert!(sample.iter().all(|x| *x > 0.0 && *x < 1.0));
    assert!(distance(sample, |x| x) < RARE);
    let mut sample = vec![0f32; 100_000];
    stream.fill_uniform(&mut sample);
    assert!(sample.iter().all(|x| *x > 0.0 && *x < 1.0));
    assert!(distance(sample.into_iter().map(f64::from).collect(), |x| x) < RARE);
}

#[test]
fn normal_numbers_are_normal() {
    let mut stream = stream();
    let sample: Vec<f64> = (0..100_000).map(|_| stream.normal()).collect();
    assert!(distance(sample, normal_law) < RARE);
    let mut sample = vec![0f32; 1_000_000];
    stream.fill_normal(&mut sample);
    let moment = |power| {
        let powers = sample.iter().map(|x| f64::from(*x).powi(power));
        powers.sum::<f64>() / 1e6
    };
    // Four standard errors of a million normal numbers: √(1, 2, 15, 96)/1000 of the first four moments.
    for (power, expected, error) in [
        (1, 0.0, 0.004),
        (2, 1.0, 0.0057),
        (3, 0.0, 0.0155),
        (4, 3.0, 0.0392),
    ] {
        let moment = moment(power);
        assert!(
            (moment - expected).abs() < error,
            "moment {power}: {moment}"
        );
    }
    assert!(distance(sample.into_iter().map(f64::from).collect(), normal_law) < RARE);
}

#[test]
fn both_numbers_of_a_pair_are_independent() {
    let mut sample = vec![0f32; 200_000];
    stream().fill_normal(&mut sample);
    let mean = |f: fn(f64, f64) -> f64| {
        let pairs = sample.chunks(2);
        let values = pairs.map(|pair| f(pair[0].into(), pair[1].into()));
        values.sum::<f64>() / 1e5
    };
    // Four standard errors: √1/316, √4/316.
    assert!(mean(|x, y| x * y).abs() < 0.0127);
    assert!((mean(|x, y| x * x * y * y) - 1.0).abs() < 4.0 * 8f64.sqrt() / 316.0);
}

#[test]
fn integers_and_orders_are_equally_likely() {
    let mut stream = stream();
    let mut counts = [0f64; 7];
    let mut orders = [0f64; 6];
    for _ in 0..60_000 {
        counts[stream.below(7) as usize] += 1.0;
        let mut items = [0, 1, 2];
        stream.shuffle(&mut items);
        orders[2 * items[0] + usize::from(items[1] > items[2])] += 1.0;
    }
    let excess = |counts: &[f64]| {
        let expected = 60_000.0 / counts.len() as f64;
        let excess = counts.iter().map(|c| (c - expected).powi(2) / expected);
        excess.sum::<f64>()
    };
    // χ² of six and of five degrees of freedom, exceeded once in a thousand times.
    assert!(excess(&counts) < 22.5, "{counts:?}");
    assert!(excess(&orders) < 20.5, "{orders:?}");
}

/// So a process that needs some rows of a batch draws no others.
#[test]
fn numbers_from_any_place_on_are_those_of_the_whole() {
    let mut whole = vec![0f32; 41];
    for drawn in 0..5 {
        let mut stream = stream();
        // A stream that has been used to any place in a block of four words.
        (0..drawn).for_each(|_| stream.fill_uniform(&mut [0.0]));
        for start in 0..whole.len() {
            for length in [0, 1, 2, 5, whole.len() - start] {
                let length = length.min(whole.len() - start);
                let mut part = vec![0f32; length];
                stream.normals_from(start as u64, &mut part);
                stream.clone().fill_normal(&mut whole);
                let expected = &whole[start..start + length];
                assert_eq!(part, expected, "{drawn} {start} {length}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "no integer below 0")]
fn no_integer_is_below_zero() {
    stream().below(0);
}
