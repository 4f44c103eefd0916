//! Laws of the augmentation: what must not change a picture does not, and the network is told what was done.

use meanflow_core::random::{Purpose, RngStream};
use meanflow_data::augment::{Affine, Augmentation, Augmented, resample};
use meanflow_data::{Dataset, MemoryDataset, digits};
use proptest::prelude::*;

/// Values of model space without any pattern.
fn picture(shape: [usize; 3], seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; shape.iter().product()];
    RngStream::new(seed, Purpose::Data, 0).fill_uniform(&mut values);
    values.iter().map(|value| 2.0 * value - 1.0).collect()
}

fn shapes() -> impl Strategy<Value = [usize; 3]> {
    let side = || prop_oneof![1_usize..6, Just(32)];
    (1_usize..4, side(), side()).prop_map(|(channels, height, width)| [channels, height, width])
}

fn distance(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    let differences = left.iter().zip(right).map(|(l, r)| (l - r).abs());
    differences.fold(0.0, f32::max)
}

/// The value at (row, column) of a plane that goes on as its mirror image, once, and is 0 beyond.
fn extended(plane: &[f32], [height, width]: [usize; 2], [row, column]: [isize; 2]) -> f32 {
    let fold = |k: isize, side: usize| {
        let last = side as isize - 1;
        let folded = if k < 0 {
            -k
        } else if k > last {
            2 * last - k
        } else {
            k
        };
        (0..=last).contains(&folded).then_some(folded as usize)
    };
    match (fold(row, height), fold(column, width)) {
        (Some(row), Some(column)) => plane[row * width + column],
        _ => 0.0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Doubling and halving undo each other: the filter is orthogonal to within 1e-12, so only f32 rounding is left,
    /// of about 4 · 12 products of size 1.
    #[test]
    fn nothing_done_gives_the_same_picture(shape in shapes(), seed: u64) {
        let values = picture(shape, seed);
        prop_assert!(distance(&resample(&values, shape, Affine::IDENTITY), &values) < 2e-6);
        let mut same = values.clone();
        Augmentation::default().apply(&mut same, shape);
        prop_assert_eq!(&same, &values, "a picture that is not resampled keeps its bits");
    }

    #[test]
    fn a_mirrored_picture_is_exactly_that(shape in shapes(), seed: u64) {
        let values = picture(shape, seed);
        let mirror = Augmentation { mirror: true, ..Augmentation::default() };
        let mut once = values.clone();
        mirror.apply(&mut once, shape);
        let expected = values.chunks(shape[2]).flat_map(|row| row.iter().rev().copied());
        prop_assert!(once.iter().copied().eq(expected));
        mirror.apply(&mut once, shape);
        prop_assert_eq!(once, values);
    }

    /// A shift by whole pixels moves them; what comes in is the mirror image, and beyond that 0.
    #[test]
    fn a_shift_by_pixels_moves_them(
        seed: u64, shape in shapes(), down in -80_isize..80, right in -80_isize..80,
    ) {
        let values = picture(shape, seed);
        let [_, height, width] = shape;
        let shift = Augmentation {
            // A shift is in eighths of the side.
            shift: [right as f64 * 8.0 / width as f64, down as f64 * 8.0 / height as f64],
            ..Augmentation::default()
        };
        let mut moved = values.clone();
        shift.apply(&mut moved, shape);
        for (place, &value) in moved.iter().enumerate() {
            let (plane, row, column) =
                (place / (height * width), place / width % height, place % width);
            let plane = &values[plane * height * width..][..height * width];
            let origin = [row as isize - down, column as isize - right];
            let expected = extended(plane, [height, width], origin);
            // Rounding, and places that are pixels to within 1e-14.
            prop_assert!((value - expected).abs() < 3e-6, "{value} for {expected} at {origin:?}");
        }
    }

    /// A smooth picture is read where the map says, whatever the map.
    #[test]
    fn a_wave_is_read_at_the_origins(
        scale in -0.3..0.3_f64, angle in -3.0..3.0_f64, right in -2.0..2.0_f64, down in -2.0..2.0_f64,
        phase in 0.0..6.0_f64,
    ) {
        let wave = |[x, y]: [f64; 2]| (0.3 * x + 0.2 * y + phase).sin();
        let size = scale.exp2();
        let origins = Affine::turn(angle).after(Affine::scale(size, 1.0 / size)).after(Affine::shift(right, down));
        let point = |place: usize| [(place % 32) as f64 - 15.5, (place / 32) as f64 - 15.5];
        let values: Vec<f32> = (0..1024).map(|place| wave(point(place)) as f32).collect();
        let seen = resample(&values, [1, 32, 32], origins);
        for (place, &value) in seen.iter().enumerate() {
            let origin = origins.map(point(place));
            // Away from the edges, where the wave goes on as its mirror image.
            if origin.iter().all(|x| x.abs() < 8.0) && point(place).iter().all(|x| x.abs() < 10.0) {
                // The taps' centre of mass is 0.1 places off the middle one: 0.05 pixels by which a turned picture may
                // move, twice, at a slope of 0.36; and bilinear interpolation.
                prop_assert!((f64::from(value) - wave(origin)).abs() < 0.06, "{value} at {origin:?}");
            }
        }
    }

    /// The filter's phases sum to 1, so a constant stays one wherever the mirror image reaches.
    #[test]
    fn a_constant_stays_one(
        scale in -1.0..1.0_f64, stretch in -1.0..1.0_f64, angle in -3.0..3.0_f64, shift in -1.0..1.0_f64,
        value in -1.0..1.0_f32,
    ) {
        let augmentation = Augmentation { mirror: false, scale, stretch, angle, shift: [shift, -shift] };
        let mut values = vec![value; 3 * 32 * 32];
        augmentation.apply(&mut values, [3, 32, 32]);
        // Doubling is exact on constants to 1e-12; six products and sums of f32, four times.
        prop_assert!(values.iter().all(|x| (x - value).abs() < 2e-6));
    }

    #[test]
    fn no_map_however_wild_breaks_it(shape in shapes(), numbers in prop::array::uniform5(-1e3..1e3_f64)) {
        let [scale, stretch, angle, right, down] = numbers;
        let wild = Augmentation { mirror: true, scale, stretch, angle, shift: [right, down] };
        let mut values = picture(shape, 1);
        wild.apply(&mut values, shape);
        prop_assert!(values.iter().all(|value| value.abs() < 10.0));
    }
}

/// Scaling up a ramp makes it flatter: the map is applied in the right direction.
#[test]
fn a_larger_picture_has_gentler_slopes() {
    let shape = [1, 32, 32];
    let ramp = |slope: f32| -> Vec<f32> {
        let value = |place: usize| slope * ((place % 32) as f32 - 15.5);
        (0..1024).map(value).collect()
    };
    let mut larger = ramp(0.02);
    let doubled = Augmentation {
        scale: 5.0,
        ..Augmentation::default()
    };
    doubled.apply(&mut larger, shape);
    // The filter keeps straight lines straight up to its moment 1 of 0.098/√2 pixel, and none at the mirrored edges.
    assert!(
        distance(&larger, &ramp(0.01)) < 0.02 * 0.2,
        "2^(0.2 · 5) = 2"
    );
}

/// Stretching draws a wave out along its direction, from right towards the top as the labels say, and no wave across.
#[test]
fn a_stretch_has_the_direction_that_the_network_is_told() {
    let angle = 0.6_f64;
    let wave = |rate: f64, [x, y]: [f64; 2]| (rate * (x * angle.cos() - y * angle.sin())).sin();
    let point = |place: usize| [(place % 32) as f64 - 15.5, (place / 32) as f64 - 15.5];
    let mut values: Vec<f32> = (0..1024).map(|k| wave(0.4, point(k)) as f32).collect();
    let stretch = Augmentation {
        stretch: 2.5,
        angle,
        ..Augmentation::default()
    };
    stretch.apply(&mut values, [1, 32, 32]);
    for (place, &value) in values.iter().enumerate() {
        if point(place).iter().all(|x| x.abs() < 8.0) {
            // As for the wave above; 2^(0.2 · 2.5) = √2.
            let expected = wave(0.4 * std::f64::consts::FRAC_1_SQRT_2, point(place));
            assert!(
                (f64::from(value) - expected).abs() < 0.06,
                "{value} for {expected}"
            );
        }
    }
}

#[test]
fn the_network_is_told_what_was_done_and_nothing_else() {
    let mut stream = RngStream::new(5, Purpose::Augment, 0);
    let draws: Vec<_> = (0..40_000)
        .map(|_| Augmentation::draw(0.12, &mut stream))
        .collect();
    for draw in &draws {
        let labels = draw.labels();
        assert_eq!(labels[0], f32::from(u8::from(draw.mirror)));
        assert_eq!(labels[1], draw.scale as f32);
        // Direction and amount of the stretch can be read off the labels.
        let length = labels[2].hypot(labels[3]);
        assert!((length - draw.stretch.abs() as f32).abs() < 1e-6);
        assert_eq!(labels[4..], draw.shift.map(|shift| shift as f32));
    }
    let share = |applied: fn(&[f32; 6]) -> bool| {
        let count = draws
            .iter()
            .map(|draw| draw.labels())
            .filter(applied)
            .count();
        count as f64 / draws.len() as f64
    };
    // Standard errors of √(p(1−p)/40000): 0.0025 at one half, 0.0016 at 0.12; five of them.
    assert!((share(|labels| labels[0] == 1.0) - 0.5).abs() < 0.0125);
    assert!((share(|labels| labels[1] != 0.0) - 0.12).abs() < 0.008);
    assert!((share(|labels| labels[2] != 0.0) - 0.12).abs() < 0.008);
    assert!((share(|labels| labels[3] != 0.0) - 0.06).abs() < 0.006);
    assert!((share(|labels| labels[4] != 0.0 && labels[5] != 0.0) - 0.12).abs() < 0.008);
    let scales = draws.iter().map(|draw| draw.scale).filter(|&x| x != 0.0);
    let squares: Vec<f64> = scales.map(|scale| scale * scale).collect();
    // Variance 1, with a standard error of √(2/4800) = 0.02; five of them.
    assert!((squares.iter().sum::<f64>() / squares.len() as f64 - 1.0).abs() < 0.1);
}

#[test]
fn a_step_can_be_drawn_again_and_another_differs() {
    let source = Augmented::new(digits::load().unwrap(), true, Some(0.5)).unwrap();
    let indices: Vec<usize> = (0..50).collect();
    let draw = source.batch(&indices, 3, 7).unwrap();
    assert_eq!(draw, source.batch(&indices, 3, 7).unwrap());
    let other = source.batch(&indices, 3, 8).unwrap();
    assert_ne!(draw.values, other.values);
    assert_ne!(draw.augment, source.batch(&indices, 4, 7).unwrap().augment);
    assert_eq!(draw.labels, other.labels);
    assert_eq!(draw.augment.unwrap().len(), 50 * 6);
}

#[test]
fn without_augmentation_a_picture_or_its_mirror_image_comes_out() {
    let data = digits::load().unwrap();
    let indices: Vec<usize> = (0..400).collect();
    let plain = data.examples(&indices);
    let same = Augmented::new(data.clone(), false, None).unwrap();
    assert_eq!(same.batch(&indices, 0, 0).unwrap(), plain);
    let flipped = Augmented::new(data.clone(), true, None).unwrap();
    let draw = flipped.batch(&indices, 0, 0).unwrap();
    assert_eq!(draw.augment, None);
    let pairs = draw.values.chunks(64).zip(plain.values.chunks(64));
    let mirrored = pairs
        .filter(|(drawn, plain)| {
            let rows = plain.chunks(8).flat_map(|row| row.iter().rev());
            let is_mirrored = rows.eq(drawn.iter());
            assert!(is_mirrored || drawn == plain);
            is_mirrored
        })
        .count();
    // Binomial with standard deviation 10; five of them.
    assert!(mirrored.abs_diff(200) < 50, "{mirrored}");
    // Told: the first label says it, and only it changes the picture at probability 0.
    let told = Augmented::new(data, false, Some(0.0)).unwrap();
    let draw = told.batch(&indices, 0, 0).unwrap();
    let labels = draw.augment.unwrap();
    assert!(labels.chunks(6).all(|labels| labels[1..] == [0.0; 5]));
    assert!(labels.contains(&1.0));
}

#[test]
fn what_is_no_picture_or_no_probability_is_refused() {
    let points = MemoryDataset::from_values(vec![0.0; 4], vec![2], vec![], 0).unwrap();
    assert!(Augmented::new(points, true, None).is_err());
    for probability in [-0.1, 1.1, f64::NAN] {
        assert!(Augmented::new(digits::load().unwrap(), false, Some(probability)).is_err());
    }
}
