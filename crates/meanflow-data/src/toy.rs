//! Distributions of the plane whose density is known, for experiments that take seconds.

use meanflow_core::random::{Purpose, RngStream};

use crate::{DataError, MemoryDataset};

/// Squares along one side of the board.
const SQUARES: usize = 4;

/// Half the side of the board, √3: a uniform law on [−√3, √3] has variance 1.
const HALF_SIDE: f64 = 1.732_050_807_568_877_2;

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
    fn points_follow_the_law() {
        const COUNT: usize = 40_000;
        let data = checkerboard(COUNT, 3).unwrap();
        let points = data.examples(&(0..COUNT).collect::<Vec<_>>()).values;
        let (mut sums, mut squares) = ([0.0; 5], [0; 16]);
        for point in points.chunks_exact(2) {
            let [x, y] = [f64::from(point[0]), f64::from(point[1])];
            for (sum, term) in sums.iter_mut().zip([x, y, x * x, y * y, x * y]) {
                *sum += term / COUNT as f64;
            }
            let [column, row] = [x, y].map(|value| (value + HALF_SIDE) / square_side());
            assert!((0.0..4.0).contains(&column) && (0.0..4.0).contains(&row));
            let (column, row) = (column as usize, row as usize);
            assert!(
                (column + row).is_multiple_of(2),
                "({x}, {y}) is on a light square"
            );
            squares[row * 4 + column] += 1;
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
