//! Points of the plane as a picture of their density.

use crate::DataError;
use crate::color::perceptual;
use crate::picture::Picture;

/// What part of the plane is drawn, how finely and how brightly.
///
/// Everything is fixed by the caller and nothing by the points, so two pictures of one style can be compared.
#[derive(Clone, Copy, Debug)]
pub struct DensityStyle {
    /// Both coordinates run from here …
    pub low: f64,
    /// … to here; points outside are not drawn.
    pub high: f64,
    /// Squares along each axis.
    pub bins: usize,
    /// Side of a square in pixels.
    pub scale: usize,
    /// Probability density of the brightest colour; a density above it is drawn as it.
    pub ceiling: f64,
}

/// Draws the histogram of points, the second coordinate upwards; a square's brightness is its share of *all* points
/// (those outside the range too) divided by its area.
///
/// # Shapes
/// `points` is `[N, 2]`; the picture is `[bins · scale, bins · scale, 3]`.
///
/// # Errors
/// [`DataError::Shape`] when there is no point, half a point, or a style without range, squares or brightness.
pub fn draw(points: &[f32], style: &DensityStyle) -> Result<Picture, DataError> {
    let DensityStyle {
        low,
        high,
        bins,
        scale,
        ceiling,
    } = *style;
    if points.is_empty() || !points.len().is_multiple_of(2) {
        let expected = "one or more pairs of numbers";
        return DataError::misfit("points", expected, points.len());
    }
    // Written so that NaN fails too.
    let usable = (high - low).is_finite() && high > low && ceiling > 0.0;
    if !usable || bins == 0 || scale == 0 {
        return DataError::misfit("density style", "positive sizes", format!("{style:?}"));
    }
    let counts = histogram(points, low, high, bins);
    let area = ((high - low) / bins as f64).powi(2);
    let unit = (points.len() / 2) as f64 * area * ceiling;
    let colors: Vec<_> = counts
        .iter()
        .map(|&count| perceptual(f64::from(count) / unit))
        .collect();
    let side = bins * scale;
    let place = |pixel: usize| pixel / side / scale * bins + pixel % side / scale;
    let pixels = (0..side * side)
        .flat_map(|pixel| colors[place(pixel)])
        .collect();
    Picture::new([side, side, 3], pixels)
}

/// Points in each of `bins²` squares, `[bins, bins]`, the top row first. A square owns its left and lower edge.
fn histogram(points: &[f32], low: f64, high: f64, bins: usize) -> Vec<u32> {
    let bin = |value: f32| {
        let place = (f64::from(value) - low) / (high - low);
        // NaN is in no range. The product may round up to `bins` just below 1.
        let inside = (0.0..1.0).contains(&place);
        inside.then(|| ((place * bins as f64) as usize).min(bins - 1))
    };
    let mut counts = vec![0; bins * bins];
    for point in points.chunks_exact(2) {
        if let (Some(column), Some(row)) = (bin(point[0]), bin(point[1])) {
            counts[(bins - 1 - row) * bins + column] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: DensityStyle = DensityStyle {
        low: -1.0,
        high: 1.0,
        bins: 2,
        scale: 3,
        ceiling: 1.0,
    };

    #[test]
    fn the_second_coordinate_points_up_and_edges_belong_to_the_right() {
        let points = [0.5, 0.5, 0.0, 0.0, -1.0, -1.0, 1.0, 0.0, f32::NAN, 0.0];
        assert_eq!(histogram(&points, -1.0, 1.0, 2), [0, 2, 1, 0]);
    }

    #[test]
    fn brightness_is_the_density_over_all_points() {
        // One of two points in a square of area 1: density 1/2. The other lies outside and still counts.
        let picture = draw(&[0.5, 0.5, 9.0, 9.0], &STYLE).unwrap();
        assert_eq!(picture.shape(), [6, 6, 3]);
        let pixel = |row: usize, column: usize| &picture.pixels()[(row * 6 + column) * 3..][..3];
        assert_eq!(pixel(0, 3), perceptual(0.5));
        assert_eq!(pixel(2, 5), perceptual(0.5));
        assert_eq!(pixel(3, 5), perceptual(0.0));
        assert_eq!(pixel(2, 2), perceptual(0.0));
    }

    #[test]
    fn unusable_styles_and_points_are_refused() {
        assert!(draw(&[], &STYLE).is_err());
        assert!(draw(&[0.0; 3], &STYLE).is_err());
        let changes: [fn(&mut DensityStyle); 5] = [
            |style| style.high = f64::NAN,
            |style| style.high = -1.0,
            |style| style.ceiling = 0.0,
            |style| style.bins = 0,
            |style| style.scale = 0,
        ];
        for change in changes {
            let mut style = STYLE;
            change(&mut style);
            assert!(draw(&[0.0, 0.0], &style).is_err(), "{style:?}");
        }
    }
}
