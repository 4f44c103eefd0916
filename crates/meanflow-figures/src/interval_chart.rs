//! Values with their intervals side by side.

use crate::Drawing;
use crate::axis::ends;

/// One value.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Its name, below the axis.
    pub label: String,
    /// What stands in a second line below the name.
    pub note: String,
    /// Where its dot is.
    pub mean: f64,
    /// The ends of its bar; no bar without them.
    pub interval: Option<[f64; 2]>,
}

const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;
/// Pixels from one value to the next.
const STEP: f64 = 76.0;
/// Parts of the axis.
const TICKS: usize = 4;

/// A dot for each value, with a bar over its interval where it has one, for a page. The axis begins at zero where that is near
/// enough to see differences.
pub fn interval_chart(title: &str, marks: &[Mark]) -> String {
    let width = LEFT + STEP * marks.len().max(3) as f64 + 12.0;
    let (low, high) = range(marks);
    let y = |value: f64| HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP);
    let mut drawing = Drawing::new(width, HEIGHT);
    drawing.title([4.0, 18.0], title);
    for tick in 0..=TICKS {
        let value = low + (high - low) * tick as f64 / TICKS as f64;
        let (place, right, label) = (y(value), width - 8.0, number(value, high - low));
        drawing.add(format_args!(
            r#"<line x1="{LEFT}" x2="{right}" y1="{place:.1}" y2="{place:.1}" stroke="currentColor" stroke-opacity=".15"/>"#
        ));
        drawing.text("axis", [LEFT - 8.0, place + 4.0], "end", &label);
    }
    for (index, mark) in marks.iter().enumerate() {
        draw(&mut drawing, LEFT + (index as f64 + 0.5) * STEP, mark, &y);
    }
    drawing.in_page(title)
}

fn draw(drawing: &mut Drawing, x: f64, mark: &Mark, y: &impl Fn(f64) -> f64) {
    if let Some([low, high]) = mark.interval {
        let (low, high) = (y(low), y(high));
        let (left, right) = (x - 6.0, x + 6.0);
        drawing.add(format_args!(
            r##"<path d="M{x} {low:.1}V{high:.1}M{left} {low:.1}H{right}M{left} {high:.1}H{right}" stroke="#2463c4" stroke-width="1.5" fill="none"/>"##
        ));
    }
    let (place, below) = (y(mark.mean), HEIGHT - BOTTOM);
    drawing.add(format_args!(
        r##"<circle cx="{x}" cy="{place:.1}" r="4" fill="#2463c4"/>"##
    ));
    drawing.text("axis", [x, below + 18.0], "middle", &mark.label);
    drawing.text("axis", [x, below + 34.0], "middle", &mark.note);
}

/// The ends of the axis.
fn range(marks: &[Mark]) -> (f64, f64) {
    let bars = marks.iter();
    let bars = bars.flat_map(|mark| mark.interval.unwrap_or([mark.mean; 2]));
    let (low, high) = ends(bars).unwrap_or_default();
    let room = 0.08 * (high - low).max(1e-3 * high.abs()).max(1e-12);
    let is_near_zero = low >= 0.0 && low < 0.5 * high;
    (if is_near_zero { 0.0 } else { low - room }, high + room)
}

/// A label with as many decimals as the steps of the axis need.
fn number(value: f64, span: f64) -> String {
    let decimals = (1.0 - (span / TICKS as f64).log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    // What rounds to nothing has no sign.
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|byte| b"0.".contains(&byte)) => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_dot_and_every_interval_a_bar() {
        let mark = |mean: f64, interval| Mark {
            label: "1 step".to_owned(),
            note: "1 NFE".to_owned(),
            mean,
            interval,
        };
        let marks = [mark(2.0, Some([1.5, 2.5])), mark(1.0, None)];
        let svg = interval_chart("fd_digits", &marks);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("<path").count(), 1);
        assert!(!svg.contains("NaN"), "{svg}");
        assert_eq!(number(-1e-9, 4.0), "0.0");
        assert_eq!(number(-0.1, 4.0), "-0.1");
        // Equal values have an axis too.
        let (low, high) = range(&[mark(3.0, None), mark(3.0, None)]);
        assert!(low < 3.0 && high > 3.0);
    }
}
