//! Distributions of the plane whose density is known, for experiments that take seconds.

use meanflow_core::random::{Purpose, RngStream};

use crate::density::DensityStyle;
use crate::{DataError, MemoryDataset};

/// Squares along one side of the board.
const SQUARES: usize = 4;

/// Half the side of the board, √3: a uniform law on [−√3, √3] has variance 1.
pub const HALF_SIDE: f64 = 1.732_050_807_568_877_2;

/// Draws `count` points of the checkerboard: uniform on the eight dark squares of a 4×4 board.
///
/// In board units the board is [−4, 4]² and square (i, j), i, j in 0..4 counted from the lower left, is dark when
/// i + j is even. Points are divided by 4/√3, the standard deviation of each coordinate: model space is
/// [−√3, √3]², both means are 0, both variances 1, the correlation is 3/16 and the density on the dark squares 1/6.
///
/// Point k is a function of (`seed`, k) alone: a longer draw starts with the shorter one.
///
/// # Shapes
/// `[2]`, N = `count`, no classes.
///
/// # Errors
/// [`DataError::Shape`] when `count` is 0.
pub fn checkerboard(count: usize, seed: u64) -> Result<MemoryDataset, DataError> {
    let points = (0..count as u64).flat_map(|index| {
        checkerboard_point(&mut RngStream::new(seed, Purpose::Data, index))
            .map(|value| value as f32)
    });
    MemoryDataset::from_values(points.collect(), vec![2], Vec::new(), 0)
}

/// Density of [`checkerboard`] at a point of model space: 1/6 on the dark squares, 0 elsewhere.
///
/// A square owns its left and lower edge; outside the board (and at NaN) the density is 0.
pub fn density_of_checkerboard(point: [f64; 2]) -> f64 {
    let square = |value: f64| {
        let place = (value + HALF_SIDE) / square_side();
        (0.0..SQUARES as f64)
            .contains(&place)
            .then_some(place as usize)
    };
    match point.map(square) {
        [Some(column), Some(row)] if (column + row).is_multiple_of(2) => {
            let dark_squares = (SQUARES * SQUARES / 2) as f64;
            1.0 / (dark_squares * square_side().powi(2))
        }
        _ => 0.0,
    }
}

/// A picture of the board with half a square of margin: 24 bins a square, so that no bin straddles an edge, and the
/// density of the dark squares at two thirds of full brightness.
pub fn checkerboard_style() -> DensityStyle {
    let half = 1.25 * HALF_SIDE;
    DensityStyle {
        low: -half,
        high: half,
        bins: 120,
        scale: 4,
        ceiling: 0.25,
    }
}

/// Side of one square in model space, √3/2.
fn square_side() -> f64 {
    2.0 * HALF_SIDE / SQUARES as f64
}

fn checkerboard_point(stream: &mut RngStream) -> [f64; 2] {
    let square = stream.below((SQUARES * SQUARES / 2) as u64) as usize;
    let column = square / 2;
    let row = square % 2 * 2 + column % 2;
    [column, row].map(|place| (place as f64 + stream.uniform()) * square_side() - HALF_SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn density_integrates_to_one() {
        // 400 points a side meet every square 100 times a side, never on an edge.
        let step = 2.0 * HALF_SIDE / 400.0;
        let place = |index: usize| (index as f64 + 0.5) * step - HALF_SIDE;
        let cells = (0..400).flat_map(|i| (0..400).map(move |j| [place(i), place(j)]));
        let mass: f64 = cells
            .map(|point| density_of_checkerboard(point) * step * step)
            .sum();
        // 160 000 equal terms: rounding stays far below 1e-9.
        assert!((mass - 1.0).abs() < 1e-9, "{mass}");
    }

    #[test]
    fn density_is_zero_off_the_board() {
        let edge = HALF_SIDE + 1e-9;
        for point in [
            [edge, 0.1],
            [0.1, -edge],
            [f64::NAN, 0.1],
            [f64::INFINITY, 0.1],
            [-edge; 2],
        ] {
            assert_eq!(density_of_checkerboard(point), 0.0, "{point:?}");
        }
        let corner = 0.1 - HALF_SIDE;
        assert!((density_of_checkerboard([corner; 2]) - 1.0 / 6.0).abs() < 1e-15);
        assert_eq!(density_of_checkerboard([corner, -corner]), 0.0);
    }

    #[test]
    fn points_follow_the_law() {
        const COUNT: usize = 40_000;
        let data = checkerboard(COUNT, 3).unwrap();
        let points = data.examples(&(0..COUNT).collect::<Vec<_>>()).values;
        let (mut sums, mut squares) = ([0.0; 5], [0; 16]);
        for point in points.chunks_exact(2) {
            let [x, y] = [f64::from(point[0]), f64::from(point[1])];
            assert!(
                density_of_checkerboard([x, y]) > 0.0,
                "({x}, {y}) is off the dark squares"
            );
            for (sum, term) in sums.iter_mut().zip([x, y, x * x, y * y, x * y]) {
                *sum += term / COUNT as f64;
            }
            let square = |value: f64| ((value + HALF_SIDE) / square_side()) as usize;
            squares[square(y) * 4 + square(x)] += 1;
        }
        // Standard errors: at most 1/√40000 = 0.005 for every moment; five of them.
        for (moment, expected) in sums.into_iter().zip([0.0, 0.0, 1.0, 1.0, 3.0 / 16.0]) {
            assert!((moment - expected).abs() < 0.025, "{moment} for {expected}");
        }
        // Binomial with mean 5000 and standard deviation 66; five of them.
        let dark = squares.iter().filter(|&&count| count > 0);
        assert!(
            dark.clone().count() == 8 && dark.copied().all(|count: i32| (count - 5000).abs() < 330)
        );
    }

    #[test]
    fn a_longer_draw_starts_with_the_shorter_one() {
        let (long, short) = (checkerboard(50, 9).unwrap(), checkerboard(20, 9).unwrap());
        let first: Vec<_> = (0..20).collect();
        assert_eq!(long.examples(&first), short.examples(&first));
        assert_ne!(
            checkerboard(20, 10).unwrap().examples(&first),
            short.examples(&first)
        );
        assert!(checkerboard(0, 9).is_err());
    }
}
