//! A curve on its way from points to a path: smoothed, and reduced to what a screen can show.

use std::fmt::Write;

use crate::axis::Axis;

/// Width in pixels of a column within which a curve is reduced to its first, lowest, highest and last point.
const COLUMN: f64 = 0.5;

/// A circle of radius 2.5 around the point just reached.
const RING: &str = "m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0";

/// The mean of the drawable values among `window` points around each point, fewer at the ends. A point whose own
/// value is not finite stays as it is.
pub(crate) fn smooth(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let (before, after) = ((window - 1) / 2, window / 2);
    let mean = |index: usize| {
        let end = points.len().min(index + after + 1);
        let around = points[index.saturating_sub(before)..end].iter();
        let values = around
            .map(|point| point.1)
            .filter(|value| value.is_finite());
        let count = values.clone().count();
        values.sum::<f64>() / count as f64
    };
    let point = |(index, &(x, y)): (usize, &(f64, f64))| {
        let y = if y.is_finite() { mean(index) } else { y };
        (x, y)
    };
    points.iter().enumerate().map(point).collect()
}

/// A curve as the `d` of an SVG path; a lonely point becomes a ring.
pub(crate) fn path(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    let mut path = String::new();
    for piece in pieces(points, x, y) {
        for (index, (x, y)) in piece.iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" });
        }
        if piece.len() == 1 {
            path.push_str(RING);
        }
    }
    path
}

/// The curve in pixels, in pieces between the points that cannot be drawn.
fn pieces(points: &[(f64, f64)], x: &Axis, y: &Axis) -> Vec<Vec<(f64, f64)>> {
    let place = |point: &(f64, f64)| x.place(point.0).zip(y.place(point.1));
    let pixels: Vec<_> = points.iter().map(place).collect();
    let pieces = pixels.split(Option::is_none);
    let pieces = pieces.filter(|piece| !piece.is_empty());
    let reduced = pieces.map(|piece| reduce(piece.iter().flatten().copied()));
    reduced.collect()
}

/// Keeps at most four points of a column: the picture is the same, the text is not a thousand times longer.
fn reduce(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut reduced = Vec::new();
    let mut column: Vec<(f64, f64)> = Vec::new();
    let here = |point: (f64, f64)| (point.0 / COLUMN).floor();
    for point in points {
        if column
            .first()
            .is_some_and(|first| here(*first) != here(point))
        {
            flush(&mut column, &mut reduced);
        }
        column.push(point);
    }
    flush(&mut column, &mut reduced);
    reduced
}

/// Moves the telling points of a column to `reduced`, in their order, and empties it.
fn flush(column: &mut Vec<(f64, f64)>, reduced: &mut Vec<(f64, f64)>) {
    let by_height = |&a: &usize, &b: &usize| column[a].1.total_cmp(&column[b].1);
    let all = 0..column.len();
    let lowest = all.clone().min_by(by_height);
    let highest = all.clone().max_by(by_height);
    let telling = [all.clone().next(), lowest, highest, all.last()];
    let mut kept: Vec<usize> = telling.into_iter().flatten().collect();
    kept.sort_unstable();
    kept.dedup();
    reduced.extend(kept.into_iter().map(|index| column[index]));
    column.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scale;

    #[test]
    fn smoothing_keeps_lines_away_from_their_ends_and_steps_over_gaps() {
        let line: Vec<_> = (0..9).map(|x| (f64::from(x), 2.0 * f64::from(x))).collect();
        assert_eq!(smooth(&line, 3)[1..8], line[1..8]);
        assert_eq!(smooth(&line, 3)[0].1, 1.0);
        let holed = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)];
        let smoothed = smooth(&holed, 3);
        assert!(smoothed[0].1 == 1.0 && smoothed[1].1.is_nan() && smoothed[2].1 == 3.0);
    }

    #[test]
    fn reduction_keeps_spikes_and_bounds_the_length() {
        let mut points: Vec<_> = (0..100_000).map(|x| (f64::from(x), 1.0)).collect();
        points[54_321].1 = 9.0;
        let x = Axis::tight(points.iter().map(|point| point.0), 0.0, 500.0);
        let values = points.iter().map(|point| point.1);
        let y = Axis::new(values, Scale::Linear, 100.0, 0.0);
        let kept = pieces(&points, &x, &y).concat();
        assert!(kept.len() <= 4 * 1001, "{}", kept.len());
        let peak = y.place(9.0).unwrap();
        assert_eq!(kept.iter().filter(|point| point.1 == peak).count(), 1);
        assert!(kept.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn gaps_and_lonely_points_are_drawn_as_such() {
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, f64::INFINITY), (3.0, 1.0)];
        let x = Axis::tight([0.0, 3.0].into_iter(), 0.0, 30.0);
        let y = Axis::tight([0.0, 2.0].into_iter(), 20.0, 0.0);
        let expected = format!("M0.0 10.0L10.0 0.0M30.0 10.0{RING}");
        assert_eq!(path(&points, &x, &y), expected);
    }
}
